"""`python -m ovi_studio.demo`: make the embedded model, and measure how well it follows prompts.

`train` runs the stages of the recipe (docs/demo-model.md) in a folder, or resumes them; `bundle` writes the results.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import EMBEDDED_BUNDLE

STAGES = (
    *("text", "audio", "video", "vocoder", "latents", "transformer"),
    *("regenerated", "decoder", "outlines", "refiner", "trajectories", "lightning"),
)
LIGHTNING = Path("loras") / "demo-lightning.safetensors"
SETTINGS = ("quality", "quality-short", "fast", "lightning", "lightning-short", "picture")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ovi_studio.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_making(commands)
    _add_measuring(commands)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except JobError as error:
        sys.exit(f"error: {error}")


def _add_making(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    make = commands.add_parser("make", help="write the bundle with untrained weights")
    make.add_argument("directory", type=Path, nargs="?", default=EMBEDDED_BUNDLE)
    make.add_argument("--seed", type=int, default=0)
    make.set_defaults(run=_make)
    train = commands.add_parser("train", help="train the models of the bundle from scratch, or resume training")
    train.add_argument("folder", type=Path)
    train.add_argument("--stage", choices=STAGES, help="run only this stage (default: all remaining stages, in order)")
    train.add_argument(
        "--part", type=_part, default=(1, 1), metavar="I/N", help="make only this part of scenes or trajectories"
    )
    train.add_argument(
        "--from",
        dest="bundle",
        type=Path,
        help="train the text encoder, transformer, decoder and refiner of a bundle",
    )
    train.add_argument("--adapter", type=Path, default=LIGHTNING, help="the bundle's lightning adapter, with --from")
    train.set_defaults(run=_train)
    bundle = commands.add_parser("bundle", help="write the trained models as a bundle")
    bundle.add_argument("folder", type=Path)
    bundle.add_argument("directory", type=Path, nargs="?", default=EMBEDDED_BUNDLE)
    bundle.add_argument("--adapter", type=Path, default=LIGHTNING, help="where to write its lightning adapter")
    bundle.set_defaults(run=_bundle)


def _add_measuring(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    scenes = commands.add_parser("scenes", help="write scenes as clips with captions, to train on")
    scenes.add_argument("directory", type=Path)
    scenes.add_argument("--count", type=int, default=20)
    scenes.add_argument("--seed", type=int, default=0)
    scenes.add_argument("--only", default="", help="only scenes with these properties, such as colour=red,shape=ball")
    scenes.add_argument("--held-out", action="store_true", help="only combinations that are never trained on")
    scenes.set_defaults(run=_scenes)
    evaluate = commands.add_parser(
        "evaluate",
        help="make clips of fixed prompts, judge them and print the table",
        description="Resumes when started again. Several processes can share the work: start each with a different "
        "--part, the same --out and OMP_NUM_THREADS=1; the last one prints the whole table.",
    )
    evaluate.add_argument("--setting", choices=(*SETTINGS, "all"), default="quality")
    evaluate.add_argument(
        "--set", action="append", type=_change, default=[], metavar="NAME=VALUE", help="override a field, as steps=20"
    )
    evaluate.add_argument("--prompts", type=int, default=200)
    evaluate.add_argument("--seeds", type=int, default=3)
    evaluate.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="make only this part of the clips")
    evaluate.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    evaluate.add_argument("--out", type=Path, default=Path("evaluation.jsonl"), help="results, one JSON line per clip")
    evaluate.add_argument("--clips", type=Path, help="folder for the clips as mp4 (default: do not keep them)")
    evaluate.set_defaults(run=_evaluate)
    film = commands.add_parser(
        "evaluate-film",
        help="make clips that keep a part of real scenes, judge them and print the table of docs/film.md",
    )
    film.add_argument("--setting", choices=("quality", "fast", "lightning"), default="lightning")
    film.add_argument("--prompts", type=int, default=60)
    film.add_argument("--only", action="append", metavar="KIND", help="make this kind of clips only; may be repeated")
    film.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    film.set_defaults(run=_evaluate_film)
    sheet = commands.add_parser("sheet", help="draw clips of some short prompts as a picture")
    sheet.add_argument("target", type=Path, metavar="FILE.jpg")
    sheet.add_argument("--setting", choices=SETTINGS, default="lightning-short")
    sheet.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    sheet.set_defaults(run=_sheet)
    compare = commands.add_parser("compare", help="measure how far changed clips are from those of the setting quality")
    compare.add_argument(
        "--set", action="append", type=_change, required=True, metavar="NAME=VALUE", help="change a field of the clips"
    )
    compare.add_argument("--prompts", type=int, default=24)
    compare.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    compare.set_defaults(run=_compare)
    codecs = commands.add_parser("codecs", help="measure how well the codecs reconstruct scenes")
    codecs.add_argument("--scenes", type=int, default=20)
    codecs.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    codecs.set_defaults(run=_codecs)


def _make(options: argparse.Namespace) -> None:
    import torch

    from ovi_studio.demo.bundle_writer import build_models, write_bundle
    from ovi_studio.demo.dimensions import BUNDLE, DIMENSIONS

    write_bundle(BUNDLE, build_models(DIMENSIONS, options.seed), options.directory, torch.bfloat16)
    print(f"Wrote the bundle {options.directory}.")


def _train(options: argparse.Namespace) -> None:
    from ovi_studio.demo.recipe import RECIPE
    from ovi_studio.demo.stages import DemoTraining

    training = DemoTraining(options.folder, RECIPE)
    if options.bundle:
        training.start_from_bundle(options.bundle, options.adapter)
    if training.starts_from_bundle:
        training = training.continued()
    for stage in [options.stage] if options.stage else STAGES:
        training.run(stage, *options.part)


def _bundle(options: argparse.Namespace) -> None:
    from ovi_studio.demo.recipe import RECIPE
    from ovi_studio.demo.stages import DemoTraining

    training = DemoTraining(options.folder, RECIPE)
    training.bundle(options.directory)
    print(f"Wrote the bundle {options.directory}.")
    if training.write_adapter(options.adapter):
        print(f"Wrote {options.adapter}.")


def _scenes(options: argparse.Namespace) -> None:
    from ovi_studio.demo.scene_files import parse_only, write_scenes

    only = parse_only(options.only)
    paths = list(write_scenes(options.directory, options.count, options.seed, only, held_out=options.held_out))
    print(f"Wrote {len(paths)} clips with captions to {options.directory}.")


def _evaluate(options: argparse.Namespace) -> None:
    from ovi_studio.demo import evaluate, scores

    changes = dict(options.set)
    known = evaluate.settings()
    chosen = list(known.values()) if options.setting == "all" else [known[options.setting]]
    runner = evaluate.clip_runner(options.bundle)
    rows: list[evaluate.EvaluationRow] = []
    for setting in chosen:
        changed = replace(setting, fields={**setting.fields, **changes})
        evaluation = evaluate.Evaluation(options.bundle, changed, options.out)
        own = evaluate.tasks(options.prompts, options.seeds, options.part, short=setting.short)
        evaluation.run(own, runner, clips=options.clips, on_row=_report)
        rows += evaluation.rows(evaluate.tasks(options.prompts, options.seeds, short=setting.short))
    print(scores.table(rows))


def _evaluate_film(options: argparse.Namespace) -> None:
    from ovi_studio.core.variants import read_bundle
    from ovi_studio.demo import evaluate
    from ovi_studio.demo.evaluate_film import FilmRow, evaluate_film, film_table

    def show(row: FilmRow) -> None:
        wrong = [name for name, answer in row.answers.items() if answer is not None and not answer]
        verdict = f"wrong: {', '.join(wrong)}" if wrong else "right"
        print(f"{row.kind}: {verdict}", flush=True)

    runner, name = evaluate.clip_runner(options.bundle), read_bundle(options.bundle).name
    print(film_table(evaluate_film(runner, name, options.setting, options.prompts, show, options.only)))


def _sheet(options: argparse.Namespace) -> None:
    from ovi_studio.demo.prompt_sheet import draw_prompt_sheet

    draw_prompt_sheet(options.bundle, options.setting, options.target)
    print(f"Wrote {options.target}.")


def _report(row: dict[str, Any]) -> None:
    wrong = [name for name in ("colour", "shape", "background", "motion", "sound") if row[name] is False]
    if not wrong and row.get("all_named") is False:
        wrong = ["no clean object"]
    verdict = f"wrong: {', '.join(wrong)}" if wrong else "right"
    print(f"{row['setting']}, prompt {row['prompt']}, seed {row['seed']}: {verdict} ({row['seconds']} s)", flush=True)


def _compare(options: argparse.Namespace) -> None:
    from ovi_studio.core.variants import read_bundle
    from ovi_studio.demo import compare, evaluate

    base = evaluate.base_spec(read_bundle(options.bundle).name, evaluate.settings()["quality"])
    tasks = evaluate.tasks(options.prompts, 1)
    print(compare.summary(list(compare.compare(evaluate.clip_runner(options.bundle), base, dict(options.set), tasks))))


def _codecs(options: argparse.Namespace) -> None:
    from ovi_studio.demo import codec_check, evaluate, scores

    rows = list(codec_check.check_codecs(evaluate.load(options.bundle), options.scenes))
    print(codec_check.summary(rows))
    print(scores.table(rows))


def _change(text: str) -> tuple[str, str]:
    name, value = text.split("=", 1)
    return name, value


def _part(text: str) -> tuple[int, int]:
    part, parts = (int(number) for number in text.split("/"))
    if not 1 <= part <= parts:
        raise ValueError
    return part, parts


if __name__ == "__main__":
    main()
