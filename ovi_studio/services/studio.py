"""`Studio`: the services of one studio in one place, for the page, the API and whoever serves them. Imports no torch.

The store holds every job, the library every clip, the supervisor keeps the engine alive; what the tabs need and what
belongs to none of these is a method here. Thread-safe; methods may raise `JobError` with advice.
"""

import csv
import io
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.sources import fetch_adapters, plan_adapters, shortage
from ovi_studio.checkpoints.background import Downloads
from ovi_studio.checkpoints.layout import complete_variants, take_inventory
from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.core.clip import Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_patterns import expand_prompt, following_seeds
from ovi_studio.core.sizes import ASPECT_RATIOS, picture_size, snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, find_variant, published_variants
from ovi_studio.engine.command import engine_command
from ovi_studio.engine.fleet import Fleet
from ovi_studio.library import Library
from ovi_studio.media.pictures import MAX_FILE_SIZE, decode_picture
from ovi_studio.queue.estimates import QueueEstimate, estimate_clip, estimate_queue
from ovi_studio.queue.model import Job, State
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.runtime.clip_runner import OVI_MODELS
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.preset_offers import PresetOffer, offers
from ovi_studio.services.presets import Presets
from ovi_studio.services.prompt_files import MAX_TABLE_SIZE, BadRow, read_prompt_file
from ovi_studio.services.templates import Templates

OWN_SIZE = "own size"
"""The aspect ratio of a variant whose default size is none of the common ratios'."""
SEED_RANGE = 2**31
"""Random seeds are below it: short enough to be read out."""
SUGGESTED_VARIANT = "960x960_5s"
MAX_CLIPS_AT_ONCE = 10_000
_ANY_PROMPT = "any"
"""Stands for each of a request's prompts while the rest of it is checked."""
MAX_PRIORITY = 100


class SeedMode(StrEnum):
    """Where the seed of the next clip comes from."""

    RANDOM = "random"
    FIXED = "fixed"
    NEXT = "next"
    """The one in the field, which then moves on."""


@dataclass(frozen=True)
class Request:
    """What a form or an API call asks for; one of them may stand for many clips."""

    values: Mapping[str, Any]
    """Fields of `ClipSpec`, unparsed; the prompt may be a pattern, the seed may be missing."""
    ratio: str | None = None
    """A key of `Studio.sizes`; not looked at with a first frame or a size."""
    seed_mode: SeedMode = SeedMode.RANDOM
    count: int = 1
    """Seeds for each prompt."""


class Studio:
    """Everything that the tabs call."""

    def __init__(self, store: Store, library: Library, supervisor: Fleet, options: RuntimeOptions) -> None:
        self.store = store
        self.paths: StudioPaths = store.paths
        self.library = library
        self.supervisor = supervisor
        self.options = options
        """What the command line gave the engine."""
        self.checkpoint_directory = options.checkpoints
        self.templates = Templates(self.paths.state)
        self.presets = Presets(self.paths.state)
        self.adapters = AdapterLibrary(options.adapters)
        self.adapter_downloads = Downloads(self.adapters.directory, bring=fetch_adapters)

    @classmethod
    def open(
        cls,
        outputs: str | Path,
        options: RuntimeOptions | None = None,
        *,
        state: str | Path | None = None,
        models: str = OVI_MODELS,
        engines: int = 1,
    ) -> "Studio":
        """The studio whose clips go to `outputs`; `start` lets its engines work, one a GPU. `models` is for tests."""
        options = options or RuntimeOptions()
        store = Store.open(outputs, state)
        fleet = Fleet(store, engine_command(store.paths, options, models), engines)
        return cls(store, Library(store.paths), fleet, options)

    def start(self) -> None:
        """Begin to look after the engine; raises `JobError` if another web process serves this studio."""
        self.supervisor.start()

    def close(self) -> None:
        """End the engine in order and close the files."""
        self.supervisor.stop()
        self.library.close()
        self.store.close()

    # Models and sizes

    def variants(self) -> list[Variant]:
        """Those that are complete, the best one first."""
        return complete_variants(self.checkpoint_directory)

    def variant(self, name: str) -> Variant:
        """The variant called `name`; raises `JobError` if there is none."""
        return find_variant(name, self.checkpoint_directory)

    def blocks(self, variant_name: str) -> int:
        """Number of transformer blocks, one of which can be skipped."""
        return self.variant(variant_name).dimensions["fusion"]["video"]["num_layers"]

    def download_command(self) -> str | None:
        """What fetches a published variant, if none is here."""
        published = published_variants()
        if any(variant.name in published for variant in self.variants()):
            return None
        return take_inventory(published[SUGGESTED_VARIANT], self.checkpoint_directory).download_command

    def sizes(self, variant_name: str) -> dict[str, tuple[int, int]]:
        """Aspect ratio -> the (height, width) that a clip of this variant then has; its default size is among them."""
        variant = self.variant(variant_name)
        sizes = {name: snap_size(*ratio, variant.pixel_area) for name, ratio in ASPECT_RATIOS.items()}
        default = snap_size(*variant.default_size, variant.pixel_area)
        return sizes if default in sizes.values() else {OWN_SIZE: default, **sizes}

    def default_ratio(self, variant_name: str) -> str:
        """The aspect ratio of a variant's default size."""
        return self.ratio_of(None, variant_name)

    def ratio_of(self, size: tuple[int, int] | None, variant_name: str) -> str:
        """The aspect ratio whose size is nearest to `size` as this variant would make it; None: its default."""
        variant = self.variant(variant_name)
        height, width = snap_size(*(size or variant.default_size), variant.pixel_area)
        sizes = self.sizes(variant_name)
        return min(sizes, key=lambda name: abs(sizes[name][0] - height) + abs(sizes[name][1] - width))

    def size_for_picture(self, picture: Path, variant_name: str) -> tuple[int, int]:
        """The (height, width) of a clip with this first frame; raises `JobError` if the picture cannot be used."""
        height, width = read_upload(picture).pixels.shape[:2]
        return picture_size(height, width, self.variant(variant_name).pixel_area)

    # Presets and adapters

    def preset_offers(self) -> tuple[list[PresetOffer], tuple[str, ...]]:
        """Every preset with what it lacks, and what is wrong with the files of others."""
        found = self.presets.all()
        return offers(found.presets, self.adapters, [variant.name for variant in self.variants()]), found.notices

    def download_adapters(self, preset_name: str) -> None:
        """Begin to fetch the adapters that a preset lacks; raises `JobError` if that cannot be."""
        preset = self.presets.get(preset_name)
        missing = shortage(preset.stack, preset.sources, self.adapters)
        if missing is None or not missing.sources:
            raise JobError(f"There is nothing to download for the preset {preset.title}.")
        self.adapter_downloads.begin(preset.title, lambda: plan_adapters(missing.sources, self.adapters))

    # From a request to jobs

    def prompts(self, request: Request) -> list[str]:
        """The prompts that a request stands for, wildcards and matrices expanded."""
        return expand_prompt(str(request.values.get("prompt") or ""))

    def specs(self, request: Request) -> list[ClipSpec]:
        """The clips of a request, seeds drawn; raises `JobError` for what cannot be made."""
        prompts = self.prompts(request)
        seeds = draw_seeds(request)
        if len(prompts) * len(seeds) > MAX_CLIPS_AT_ONCE:
            raise JobError(f"That makes {len(prompts) * len(seeds)} clips; the most at once is {MAX_CLIPS_AT_ONCE}.")
        base = self.spec(replace(request, values={**request.values, "prompt": _ANY_PROMPT}))
        # Each prompt has tags of its own, also when they come from different alternatives of one pattern.
        tagged = [base.with_prompt(prompt) for prompt in prompts]
        return [replace(spec, seed=seed) for spec in tagged for seed in seeds]

    def spec(self, request: Request) -> ClipSpec:
        """The request as one clip, its prompt not expanded and its seed not drawn."""
        values = {name: value for name, value in request.values.items() if name != "seed"}
        spec = ClipSpec.from_dict(values)
        if spec.image is not None:
            read_upload(spec.image)
            return replace(spec, size=None)
        if spec.size is None and request.ratio is not None:
            size = self.sizes(spec.variant).get(request.ratio)
            if size is None:
                raise JobError(
                    f"Aspect ratio {request.ratio!r} is not known; choose one of {', '.join(ASPECT_RATIOS)}."
                )
            spec = replace(spec, size=size)
        self.variant(spec.variant)
        return spec

    def table_specs(self, table: Path, request: Request) -> tuple[list[ClipSpec], list[BadRow]]:
        """The clips of an uploaded table with the request's settings where a row has none of its own.

        Raises `JobError` if a row names a picture: a table from a browser must not reach for files of this machine.
        """
        _refuse_pictures(table)
        values = {name: value for name, value in request.values.items() if name not in ("prompt", "image", "seed")}
        if request.ratio is not None and values.get("variant"):
            values["size"] = self.sizes(str(values["variant"])).get(request.ratio)
        values["seed"] = draw_seeds(replace(request, count=1))[0]
        specs, bad_rows = read_prompt_file(table, values)
        if len(specs) > MAX_CLIPS_AT_ONCE:
            raise JobError(
                f"This table makes {len(specs)} clips; the most at once is {MAX_CLIPS_AT_ONCE}, so split it."
            )
        return specs, bad_rows

    def queue(self, specs: Sequence[ClipSpec], name: str = "", *, priority: int = 0) -> list[str]:
        """Add clips as one batch; returns the ids of the jobs. Those of a higher priority run first.

        Raises `JobError` if a model is not complete, or an adapter is not here or does not fit.
        """
        if abs(priority) > MAX_PRIORITY:
            raise JobError(f"The priority must lie between {-MAX_PRIORITY} and {MAX_PRIORITY}, not {priority}.")
        complete = {variant.name for variant in self.variants()}
        for missing in {spec.variant for spec in specs} - complete:
            self.variant(missing)  # an unknown one has a sentence of its own
            raise JobError(f"The model {missing} is not complete; download it first, the System tab shows how.")
        for variant in {spec.variant for spec in specs}:
            self.check_adapters({use for spec in specs if spec.variant == variant for use in spec.stack}, variant)
        return self.store.add(specs, name, priority=priority)

    def check_adapters(self, uses: Iterable[AdapterUse], variant_name: str) -> None:
        """Raise `JobError` for an adapter that is not here, or of which nothing fits the model."""
        names = model_names(self.variant(variant_name))
        for use in uses:
            if not use.zero:
                self.adapters.match(self.adapters.find(use.name), names)

    # What it costs

    def estimate(self, spec: ClipSpec) -> float | None:
        """Seconds for one clip; None as long as none of its kind was made on this machine."""
        return estimate_clip(self.store.database, spec)

    def estimate_queue(self) -> QueueEstimate:
        """Seconds for all jobs that wait."""
        return estimate_queue(self.store.database)

    # What is shown

    def current_job(self) -> Job | None:
        """The job that runs, if one does."""
        running = self.store.jobs(states=[State.RUNNING], limit=1)
        return running[0] if running else None

    def last_job(self, state: State) -> Job | None:
        """The job that ended last in this state and is still listed."""
        found = self.store.jobs(states=[state], limit=1)
        return found[0] if found else None


def draw_seeds(request: Request) -> list[int]:
    """The seeds of a request; raises `JobError` for a bad count or seed."""
    if request.seed_mode is SeedMode.RANDOM:
        following_seeds(0, request.count)  # checks the count
        return [random.randrange(SEED_RANGE) for _ in range(request.count)]
    text = str(request.values.get("seed") or "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise JobError(f"{text[:30]!r} is no seed; write a number, or choose a random one.")
    return following_seeds(int(text), request.count)


def read_upload(path: Path) -> Picture:
    """An uploaded picture; an error calls it by its name and not by where the upload lies."""
    try:
        with path.open("rb") as file:
            # The server refuses larger uploads; this is for pictures that reach it in other ways.
            return decode_picture(file.read(MAX_FILE_SIZE), path.name)
    except OSError as error:
        raise JobError("The first frame is not on the server any more; choose the picture again.") from error


def _refuse_pictures(table: Path) -> None:
    delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
    try:
        text = table.read_bytes()[: MAX_TABLE_SIZE + 1].decode("utf-8-sig", errors="replace")
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        for row in rows:
            if any((name or "").strip() == "image_path" and _is_filled(cell) for name, cell in row.items()):
                raise JobError(
                    f"Line {rows.line_num} names a picture. Tables that are uploaded cannot; use the command line for "
                    f"a table with pictures, or queue those clips one by one."
                )
    except OSError as error:
        raise JobError("The table is not on the server any more; choose it again.") from error
    except csv.Error:
        return  # reading it says what is wrong


def _is_filled(cell: object) -> bool:
    return isinstance(cell, str) and bool(cell.strip())
