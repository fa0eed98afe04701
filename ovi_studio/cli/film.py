"""`python -m ovi_studio film`: queue a film, see how far it is, choose takes, and join its shots."""

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.core.log_lines import one_line
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions

if TYPE_CHECKING:
    from ovi_studio.film.cut import CutList
    from ovi_studio.services.films import QueuedFilm, ShotStatus
    from ovi_studio.services.studio import Studio

_DESCRIPTION = """\
film FILE                      queue the film; if it was queued before, only what has changed, is missing or has failed
film status FILE               list its shots with their takes
film choose FILE SHOT TAKE     put another take into the film
film again FILE SHOT           make another take of a shot
film check                     check the takes that are made and not checked yet; the page and the engine do it, too
film write FILE FILM.yaml      write the film as film.yaml, to be edited
film export FILE [NAME ...]    join the chosen takes into NAME.mp4; NAME.srt and .vtt are its captions, NAME.otio,
                               .edl and .fcpxml its shots for another program

FILE is film.yaml, a screenplay (.fountain) or a list of prompts (.txt); see docs/film.md.
"""
_FILM = ".mp4"
_MAX_TARGETS = 20
_HOW_IT_IS_MADE = "The page makes them while it runs; so does `python -m ovi_studio engine`."


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", nargs="+", metavar="FILE", help="a film, or one of the words above and what it needs")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUTPUT_DIRECTORY, help="folder for the clips (default: %(default)s)"
    )
    parser.add_argument(
        "--state", type=Path, help="folder of the queue (default: .studio/ in the folder for the clips)"
    )
    parser.add_argument("--priority", type=int, default=0, help="higher ones run first (default: %(default)s)")
    parser.add_argument("--count", type=int, default=1, help="takes that `again` makes (default: %(default)s)")
    parser.add_argument("--replace", action="store_true", help="let `export` and `write` replace a file")
    parser.add_argument(
        "--listener", metavar="NAME", help="of `film export`: place captions by the words that it hears (see review)"
    )
    RuntimeOptions.add_to(parser, OptionGroup.FOLDERS)


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.services.studio import Studio

    word, *rest = options.words
    action, arguments = (_ACTIONS[word], rest) if word in _ACTIONS else (_queue, options.words)
    with closing(Studio.open(options.out, RuntimeOptions.of(options), state=options.state)) as studio:
        return action(studio, options, *_counted(word, arguments, action))


def _counted(word: str, arguments: list[str], action: Callable[..., int]) -> list[str]:
    """The arguments of an action; raises `JobError` if there are too few or too many."""
    needed = _NEEDED[action]
    if not min(needed) <= len(arguments) <= max(needed):
        raise JobError(f"That is not how `film {word}` is written; see `python -m ovi_studio film --help`.")
    return arguments


def _queue(studio: "Studio", options: argparse.Namespace, file: str) -> int:
    _report(studio.films.queue_file(Path(file), priority=options.priority))
    return 0


def _status(studio: "Studio", options: argparse.Namespace, file: str) -> int:
    from ovi_studio.takes.check import fault_lines, score_summary

    status = studio.films.status(studio.films.find(Path(file)))
    print(f"{status.film.title}: {status.done} of {len(status.shots)} shots are made.")
    for shot in status.shots:
        print(_shot_line(shot))
        for take in shot.takes:
            mark = "*" if take.chosen else " "
            job = "" if take.job_number is None else f"job {take.job_number}, "
            more = take.message or (take.clip.name if take.clip else "")
            facts = f"  {mark} take {take.number}: {take.state}, {job}seed {take.seed}"
            print(f"{facts}; {one_line(more)}" if more else facts)
            if summary := score_summary(take.scores):
                print(f"      {', '.join(summary)}")
            for line in fault_lines(take.scores):
                print(f"      {one_line(line)}")
    return 0


def _choose(studio: "Studio", options: argparse.Namespace, file: str, shot: str, take: str) -> int:
    if not take.isdecimal():
        raise JobError(f"{take[:20]!r} is not the number of a take; see `film status`.")
    _report(studio.films.choose(studio.films.find(Path(file)), shot, int(take)))
    return 0


def _again(studio: "Studio", options: argparse.Namespace, file: str, shot: str) -> int:
    _report(studio.films.again(studio.films.find(Path(file)), shot, options.count))
    return 0


def _check(studio: "Studio", options: argparse.Namespace) -> int:
    from ovi_studio.film.checking import check_takes, lower_priority

    lower_priority()
    count = check_takes(studio.store, RuntimeOptions.of(options).checkpoints)
    print(f"{count} takes were checked." if count != 1 else "1 take was checked.")
    return 0


def _write(studio: "Studio", options: argparse.Namespace, file: str, target: str) -> int:
    from ovi_studio.film.film_yaml import write_film

    path = Path(target)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise JobError(f"{target} is to be film.yaml; give a name that ends in .yaml.")
    if path.exists() and not options.replace:
        raise JobError(f"{target} exists; choose another name, or add --replace.")
    write_film(studio.films.read(Path(file)), path)
    print(path)
    return 0


def _export(studio: "Studio", options: argparse.Namespace, file: str, *targets: str) -> int:
    from ovi_studio.film import captions, timeline
    from ovi_studio.takes.listeners import find_listener

    paths = [Path(target) for target in targets or [f"{Path(file).stem}.mp4"]]
    cut = studio.films.cut_list(studio.films.find(Path(file)))
    known = (_FILM, *captions.FORMATS, *timeline.FORMATS)
    for path in paths:
        if path.suffix.lower() not in known:
            raise JobError(f"{path.name} cannot be exported; give a name that ends in {', '.join(known)}.")
        if path.exists() and not options.replace:
            raise JobError(f"{path} exists; choose another name, or add --replace.")
    checkpoints = RuntimeOptions.of(options).checkpoints
    listener = find_listener(options.listener, checkpoints) if options.listener else None
    for path in paths:
        if path.suffix.lower() in captions.FORMATS:
            captions.write_captions(captions.film_captions(cut, listener), path)
        elif path.suffix.lower() in timeline.FORMATS:
            timeline.write_timeline(cut, path)
        else:
            _join(cut, path, replace=options.replace)
        print(path)
    return 0


def _join(cut: "CutList", path: Path, *, replace: bool) -> None:
    from ovi_studio.film.export import FilmProgress, export_film

    shown = sys.stderr.isatty()

    def show(progress: FilmProgress) -> None:
        if shown:
            print(f"\r{progress.frames} of {progress.total} frames", end="", file=sys.stderr, flush=True)

    try:
        export_film(cut, path, replace=replace, on_progress=show)
    finally:
        if shown:
            print(file=sys.stderr)


def _report(queued: "QueuedFilm") -> None:
    for remark in queued.remarks:
        print(f"note: {one_line(remark)}", file=sys.stderr)
    again = f", and {_clips(queued.retried)} again" if queued.retried else ""
    how = f" {_HOW_IT_IS_MADE}" if queued.jobs or queued.retried else " Nothing else has changed."
    print(f"{_clips(len(queued.jobs))} queued{again}.{how}")


def _shot_line(shot: "ShotStatus") -> str:
    what = shot.shot.prompt or " ".join(row.said for row in shot.shot.speech)
    after = f", continues {shot.continues}" if shot.continues else ""
    return f"{shot.label}{after}: {what if len(what) <= 80 else what[:79] + '…'}"


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


_ACTIONS: Mapping[str, Callable[..., int]] = {
    "status": _status,
    "choose": _choose,
    "again": _again,
    "check": _check,
    "write": _write,
    "export": _export,
}
_NEEDED: Mapping[Callable[..., int], tuple[int, ...]] = {
    _queue: (1,),
    _status: (1,),
    _choose: (3,),
    _again: (2,),
    _check: (0,),
    _write: (2,),
    _export: (1, _MAX_TARGETS),
}
COMMAND = Command("film", "queue a film, choose takes, join its shots", _add_options, _run, description=_DESCRIPTION)
