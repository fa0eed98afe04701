"""Options of `generate` that keep a part of a file, tables with sources, and the API."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from foreign_files import still, tone, write_sound, write_video
from training_helpers import own_clip

from ovi_studio.__main__ import build_parser
from ovi_studio.cli import sources
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import Expansion, Request
from ovi_studio.core.spans import ALL, NOTHING, all_but, parse_spans
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.sources import pin_source
from ovi_studio.queue.model import JobState
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.api import ApiCalls, job_facts


def collect(bundle: Path, *arguments: object) -> Expansion:
    options = build_parser().parse_args(["generate", *map(str, arguments), "--ckpt-dir", str(bundle)])
    return sources.collect(options, RuntimeOptions.of(options), None)


def one(bundle: Path, *arguments: object) -> ClipSpec:
    (spec,) = collect(bundle, *arguments).specs
    return spec


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Its prompt is `a red ball`, and its seed 100."""
    return own_clip(tmp_path, "clip", 3, caption=None)


@pytest.mark.parametrize(
    ("arguments", "picture", "sound"),
    [
        (["--keep-picture", "{}"], ALL, NOTHING),
        (["--keep-sound", "{}"], NOTHING, ALL),
        (["--again", "{}", "--from-second", 0.2, "--to-second", 0.4], all_but(0.2, 0.4), all_but(0.2, 0.4)),
        (["--again", "{}", "--from-second", 0.2], parse_spans("0-0.2"), parse_spans("0-0.2")),
        (["--again", "{}", "--to-second", 0.4], parse_spans("0.4-"), parse_spans("0.4-")),
        (["--again", "{}", "--to-second", 0.4, "--only", "sound"], ALL, parse_spans("0.4-")),
        (["--again", "{}", "--only", "picture"], NOTHING, ALL),
        (["--again", "{}", "--strength", 0.5], NOTHING, NOTHING),
    ],
)
def test_options_say_what_is_kept(
    tiny_bundle: Path, clip: Path, arguments: list[object], picture: object, sound: object
) -> None:
    spec = one(tiny_bundle, *(str(part).format(clip) for part in arguments))
    assert (spec.source, spec.keep_picture, spec.keep_sound) == (clip, picture, sound)
    assert len(spec.source_sha256 or "") == 64
    # The clip's own settings, but other noise: with its own it would become the same again.
    assert (spec.prompt, spec.seed, spec.variant) == ("a red ball", 101, "tiny")


def test_a_clips_settings_can_be_overridden(tiny_bundle: Path, clip: Path) -> None:
    given = ("--prompt", "a {blue|green} ball", "--seed", 5, "--steps", 9, "--resample", 2)
    clips = collect(tiny_bundle, "--keep-sound", clip, *given).specs
    assert [spec.prompt for spec in clips] == ["a blue ball", "a green ball"]
    assert {(spec.seed, spec.steps, spec.resamples) for spec in clips} == {(5, 9, 2)}


def test_a_file_of_another_program_needs_a_prompt(tiny_bundle: Path, tmp_path: Path) -> None:
    voice = write_sound(tmp_path / "voice.wav", tone(1, 16_000), 16_000)
    with pytest.raises(JobError, match=r"voice\.wav does not say what it shows; describe the clip with --prompt"):
        one(tiny_bundle, "--keep-sound", voice)
    spec = one(tiny_bundle, "--keep-sound", voice, "--prompt", "a singer")
    assert (spec.source, spec.keep_sound, spec.prompt) == (voice, ALL, "a singer")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Nothing says what to make"),
        (["--again", "{}"], "would make the whole clip anew"),
        (["--prompt", "a", "--from-second", 1], "needs --again FILE"),
        (["--keep-sound", "{}", "--only", "sound"], "needs --again FILE"),
        (["--from", "{}", "--keep-sound", "{}"], "--from makes a clip again as it was"),
        (["--prompt", "a", "--source", "{}"], "--source goes with --from"),
        (["--keep-sound", "gone.wav", "--prompt", "a"], "There is no file gone.wav"),
        (["--keep-sound", "gone.wav"], "There is no file gone.wav"),
        (["--again", "{}", "--from-second", 2, "--to-second", 1], "A span must end after it starts"),
        (["--prompt", "a", "--strength", 0.5], "No source is given"),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(
    tiny_bundle: Path, clip: Path, arguments: list[object], said: str
) -> None:
    with pytest.raises(JobError, match=said):
        collect(tiny_bundle, *(str(part).format(clip) for part in arguments))


def test_a_table_names_a_source_for_each_row(tiny_bundle: Path, clip: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text('text_prompt,source,keep_picture,keep_sound\na,clip.mp4,"0-0.2,0.5-",all\nb,,,\nc,gone.mp4,all,\n')
    found = collect(tiny_bundle, "--prompts", table, "--variant", "tiny")
    kept, plain = found.specs
    assert (kept.source, kept.keep_picture, kept.keep_sound) == (clip, parse_spans("0-0.2,0.5-"), ALL)
    assert plain.source is None
    assert [(row.line, "gone.mp4" in row.reason) for row in found.bad_rows] == [(4, True)]


# The queue and the API


@pytest.fixture
def studio(tiny_bundle: Path, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tiny_bundle))
    yield studio
    studio.close()


def test_a_queued_clip_names_the_file_that_was_there(studio: Studio, clip: Path) -> None:
    spec = ClipSpec(prompt="a", variant="tiny", source=clip, keep_sound=ALL)
    (job,) = studio.queue([spec])
    assert studio.store.get(job).spec == pin_source(spec)


def test_an_unusable_source_is_refused_before_it_is_queued(studio: Studio, clip: Path, tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", still(17, 64, 64))
    for source, kept, said in (
        (silent, {"keep_sound": ALL}, "has no sound"),
        (tmp_path / "gone.mp4", {"keep_picture": ALL}, "There is no file"),
        (clip, {"keep_picture": parse_spans("5-")}, "keep nothing of the picture"),
    ):
        with pytest.raises(JobError, match=said):
            studio.queue([ClipSpec(prompt="a", variant="tiny", source=source, **kept)])
    assert studio.store.counts()[JobState.QUEUED] == 0


def test_the_api_keeps_parts_of_finished_jobs_and_of_no_other_file(
    studio: Studio, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = ApiCalls(studio)
    (first,) = calls.queue("a", "tiny")["jobs"]
    for source, said in ((str(clip), "."), ("../clip.mp4", "."), (first, "has no clip")):
        with pytest.raises(gr.Error, match=said):
            calls.queue("b", "tiny", None, {"source": source, "keep_sound": "all"})
    monkeypatch.setattr(calls, "_finished", lambda job: clip)
    (job,) = calls.queue("b", "tiny", None, {"source": first, "keep_sound": "all"})["jobs"]
    made = studio.store.get(job)
    assert (made.spec.source, made.spec.keep_sound) == (clip, ALL)
    assert job_facts(made)["spec"]["source"] == "clip.mp4"


def test_a_table_from_a_browser_names_no_source(studio: Studio, clip: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"text_prompt,source,keep_sound\na,{clip},all\n")
    with pytest.raises(JobError, match="Line 2 names a source"):
        studio.expand_table(table, Request({"prompt": "", "variant": "tiny"}))
