"""Make clips of fixed prompts with a bundle, judge them, and write one JSON line for each.

A prompt and a seed always give the same clip, so an interrupted run resumes, and several processes can share the work:
each takes a part of the clips and appends lines to one file. A line counts only for the exact weights, adapters and
settings that it was made with. `demo.scores` makes tables of the lines.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovi_studio.adapters.library import AdapterLibrary, default_adapter_directory
from ovi_studio.capacity.tiers import ALL_RESIDENT
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.checkpoints.layout import Inventory, require
from ovi_studio.core.clip import Clip
from ovi_studio.core.shipped import PRESETS
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import read_bundle
from ovi_studio.demo.captions import caption
from ovi_studio.demo.judges import ClipMeasurement, judge, keeps_first_frame, measure
from ovi_studio.demo.phrasing import unseen_prompt
from ovi_studio.demo.scenes import Motion, Scene, draw_scene, render
from ovi_studio.media.clip_files import write_clip
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.services.presets import Presets

PROMPTS = 200
SEEDS = 3
_SEED, _SHORT_SEED = 20_260, 20_261
"""Seeds of the prompts, far from the seeds of training scenes."""

EvaluationRow = dict[str, Any]
"""One line of the file: a clip, its verdict and its measurement."""


@dataclass(frozen=True)
class EvaluationSetting:
    """How the judged clips are made."""

    name: str
    fields: Mapping[str, Any]
    """Fields of `ClipSpec`."""
    from_picture: bool = False
    """Whether the scene's first frame is given."""
    short: bool = False
    """Whether the prompts name one to three properties, in words that are never trained on together."""


@dataclass(frozen=True)
class EvaluationPrompt:
    """One of the fixed prompts."""

    index: int
    scene: Scene
    text: str
    held_out: bool
    """Whether the scene's colour, shape and motion are never trained on together."""
    named: frozenset[str] | None = None
    """The properties that a short prompt names; None for a full caption."""


@dataclass(frozen=True)
class EvaluationTask:
    """One clip to make."""

    prompt: EvaluationPrompt
    seed: int

    @property
    def key(self) -> tuple[int, int]:
        return self.prompt.index, self.seed


def settings() -> dict[str, EvaluationSetting]:
    """Return the settings of the published table: the embedded model's presets with the steps of the official code."""
    presets = Presets(state=PRESETS)  # a folder without user presets
    demo, lightning, picture = (dict(presets.get(name).settings) for name in ("demo", "demo-lightning", "demo-picture"))
    quality, fast = (presets.get(name).settings for name in ("quality", "fast"))
    steps = {"steps": quality["steps"]}
    return {
        setting.name: setting
        for setting in (
            EvaluationSetting("quality", {**demo, **steps}),
            EvaluationSetting("fast", {**demo, **{name: fast[name] for name in ("steps", "step_cache")}}),
            EvaluationSetting("lightning", lightning),
            EvaluationSetting("quality-short", {**demo, **steps}, short=True),
            EvaluationSetting("lightning-short", lightning, short=True),
            EvaluationSetting("picture", {**picture, **steps}, from_picture=True),
        )
    }


def prompts(count: int = PROMPTS, *, short: bool = False) -> list[EvaluationPrompt]:
    """Return the first prompts of an endless fixed list: every second one is held out, motions alternate."""
    return [_short_prompt(index) if short else _prompt(index) for index in range(count)]


def tasks(
    count: int = PROMPTS, seeds: int = SEEDS, part: tuple[int, int] = (1, 1), *, short: bool = False
) -> list[EvaluationTask]:
    """Return part I of N of the clips to make: all prompts with their first seed, then with the second, and so on."""
    fixed = prompts(count, short=short)
    every = [EvaluationTask(prompt, 1000 * turn + prompt.index) for turn in range(seeds) for prompt in fixed]
    number, parts = part
    return every[number - 1 :: parts]


def load(bundle: Path) -> Pipeline:
    """Load the pipeline of a bundle with all models on the device; raises `JobError` if it is not complete."""
    # The models are small, and the codec check uses them directly.
    return Pipeline.load(_inventory(bundle), Compute.of(RuntimeOptions(memory=ALL_RESIDENT)))


def clip_runner(bundle: Path) -> ClipRunner:
    """Return a runner for the clips of a bundle; it loads the models with the first clip."""
    return ClipRunner(RuntimeOptions(checkpoint_directory=bundle, memory=ALL_RESIDENT), new_sink=FrameArray)


class Evaluation:
    """The clips of one bundle with one setting, and the file with their rows.

    Args:
        results: may contain rows of other bundles and settings, and need not exist yet.

    Raises:
        JobError: the bundle or an adapter is not complete.
    """

    def __init__(self, bundle: Path, setting: EvaluationSetting, results: Path) -> None:
        self.setting = setting
        self._results = results
        self._inventory = _inventory(bundle)
        self._base = base_spec(self._inventory.variant.name, setting)
        self.fingerprint = _fingerprint(self._inventory, bundle, setting, self._base)

    def rows(self, requested: list[EvaluationTask]) -> list[EvaluationRow]:
        """Return the rows of the requested clips that already exist, in the order of the request."""
        done = {(row["prompt"], row["seed"]): row for row in _read(self._results) if self._is_ours(row)}
        return [done[task.key] for task in requested if task.key in done]

    def run(
        self,
        requested: list[EvaluationTask],
        runner: ClipRunner,
        *,
        clips: Path | None = None,
        on_row: Callable[[EvaluationRow], None] | None = None,
    ) -> list[EvaluationRow]:
        """Make and judge the missing clips; returns the rows of all requested ones.

        Args:
            clips: folder for the clips as mp4; None keeps none.
        """
        done = {(row["prompt"], row["seed"]) for row in self.rows(requested)}
        for task in requested:
            if task.key not in done:
                row = self._make(runner, task, clips)
                _append(self._results, row)
                if on_row is not None:
                    on_row(row)
        return self.rows(requested)

    def _is_ours(self, row: EvaluationRow) -> bool:
        return row.get("fingerprint") == self.fingerprint

    def _make(self, runner: ClipRunner, task: EvaluationTask, clips: Path | None) -> EvaluationRow:
        prompt, scene = task.prompt, task.prompt.scene
        first_frame = render(scene)[0]
        clip = self._clip(runner, task, first_frame)
        if clips is not None:
            write_clip(clip, clips, f"{self.setting.name}_{prompt.index:03d}_{task.seed}")
        measured = measure(np.asarray(clip.frames), clip.samples)
        row: EvaluationRow = {
            "setting": self.setting.name,
            "fingerprint": self.fingerprint,
            "prompt": prompt.index,
            "seed": task.seed,
            "held_out": prompt.held_out,
            "text": prompt.text,
            "scene": asdict(scene),
            "seconds": round(sum(clip.record["seconds"].values()), 2),
            "video_passes": clip.record["video_passes"],
            **verdict_row(measured, scene, prompt.named),
        }
        if self.setting.from_picture:
            row["kept"] = keeps_first_frame(measured, first_frame, scene)
        return row

    def _clip(self, runner: ClipRunner, task: EvaluationTask, first_frame: np.ndarray) -> Clip:
        spec = replace(self._base, prompt=task.prompt.text, seed=task.seed)
        with tempfile.TemporaryDirectory(prefix="ovi-evaluate-") as folder:
            if self.setting.from_picture:
                picture = Path(folder) / "first_frame.png"
                Image.fromarray(first_frame).save(picture)
                spec = replace(spec, image=picture)
            return runner.run(spec)


def _read(results: Path) -> Iterator[EvaluationRow]:
    """Yield the rows of a file, which need not exist; a line truncated by a killed run is skipped."""
    if not results.exists():
        return
    with results.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def verdict_row(measured: ClipMeasurement, scene: Scene, named: frozenset[str] | None = None) -> EvaluationRow:
    """Return verdict and measurement as JSON values, without the path of the object.

    Of a short prompt, only the properties count that are `named`; `all_named` says whether all of them are right and
    the clip shows one clean object.
    """
    verdict = asdict(judge(measured, scene))
    if named is not None:
        clean = measured.colour is not None and measured.shape is not None
        verdict = {name: value if name in named else None for name, value in verdict.items()}
        verdict["all_named"] = clean and all(verdict[name] for name in named)
    return {
        **verdict,
        "sharpness": round(measured.sharpness, 3),
        "measured": {
            **{name: getattr(measured, name) for name in ("colour", "shape", "background", "motion", "sound")},
            "pitch": None if measured.pitch is None else round(measured.pitch, 1),
            "presence": round(measured.presence, 3),
            "visible_impacts": measured.visible_impacts.round(3).tolist(),
            "audible_impacts": measured.audible_impacts.round(3).tolist(),
        },
    }


def _prompt(index: int) -> EvaluationPrompt:
    random = np.random.default_rng([_SEED, index])
    scene, held_out = _scene(index, random)
    return EvaluationPrompt(index, scene, caption(scene, random, complete=True), held_out)


def _short_prompt(index: int) -> EvaluationPrompt:
    random = np.random.default_rng([_SHORT_SEED, index])
    scene, held_out = _scene(index, random)
    prompt = unseen_prompt(scene, random, 1 + index % 3)
    return EvaluationPrompt(index, scene, prompt.text, held_out, prompt.named)


def _scene(index: int, random: np.random.Generator) -> tuple[Scene, bool]:
    held_out = index % 2 == 1
    motion = list(Motion)[index // 2 % len(Motion)]
    while (scene := draw_scene(random, held_out=held_out)).motion is not motion:
        pass
    return scene, held_out


def _inventory(bundle: Path) -> Inventory:
    return require(read_bundle(bundle).name, bundle)


def base_spec(variant: str, setting: EvaluationSetting) -> ClipSpec:
    """Return the spec of a setting's clips, without their prompts and seeds."""
    return ClipSpec(prompt="any", variant=variant).with_settings({**setting.fields, "variant": variant})


def _fingerprint(inventory: Inventory, bundle: Path, setting: EvaluationSetting, spec: ClipSpec) -> str:
    """Return a hash of everything that determines the clips."""
    library = AdapterLibrary(default_adapter_directory())
    files = [path for paths in inventory.files.values() for path in paths]
    content = {
        "files": sorted(file_sha256(path) for path in [*files, bundle / "bundle.json"]),
        "adapters": [library.sha256(library.find(use.name)) for use in spec.stack],
        "spec": spec.to_dict(),
        "from_picture": setting.from_picture,
        "short": setting.short,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _append(results: Path, row: EvaluationRow) -> None:
    """Append a row in a single write, so that lines of processes that share a file are not interleaved."""
    results.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row) + "\n"
    if results.exists() and results.stat().st_size and not results.read_bytes().endswith(b"\n"):
        line = "\n" + line
    descriptor = os.open(results, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
