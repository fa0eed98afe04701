"""`Studio`: the services of one studio in one place, for the page, the API and whoever serves them. Imports no torch.

The store holds every job, the library every clip, the supervisor keeps the engine alive; what the tabs need and what
belongs to none of these is a method here. Thread-safe; methods may raise `JobError` with advice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.sources import fetch_adapters, plan_adapters, shortage
from ovi_studio.checkpoints.background import Downloads
from ovi_studio.checkpoints.layout import complete_variants, take_inventory
from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.core.clip import Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import (
    Context,
    Expansion,
    Request,
    SeedMode,
    base_spec,
    draw_seeds,
    expand_request,
    expand_rows,
    pattern_prompts,
)
from ovi_studio.core.sizes import named_sizes, picture_size, snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import Variant, find_variant, published_variants
from ovi_studio.engine.command import engine_command
from ovi_studio.engine.fleet import Fleet
from ovi_studio.library import Library
from ovi_studio.media.pictures import MAX_FILE_SIZE, decode_picture
from ovi_studio.queue.estimates import QueueEstimate, estimate_clip, estimate_queue
from ovi_studio.queue.model import Job, JobState
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.runtime.clip_runner import OVI_MODELS
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.preset_offers import PresetOffer, offers
from ovi_studio.services.presets import Presets
from ovi_studio.services.prompt_files import read_table
from ovi_studio.services.templates import Templates

SUGGESTED_VARIANT = "960x960_5s"
MAX_PRIORITY = 100


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
        self.adapter_downloads = Downloads(self.adapters.directory, execute=fetch_adapters)

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
        return named_sizes(variant.default_size, variant.pixel_area)

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
        return pattern_prompts(request)

    def expand(self, request: Request) -> Expansion:
        """The clips of a request, seeds drawn; raises `JobError` for what cannot be made."""
        return expand_request(request, self._context())

    def spec(self, request: Request) -> ClipSpec:
        """The request as one clip, its prompt not expanded and its seed not drawn."""
        return base_spec(request, self._context())

    def expand_table(self, table: Path, request: Request) -> Expansion:
        """The clips of an uploaded table with the request's settings where a row has none of its own.

        Raises `JobError` if a row names a picture: a table from a browser must not reach for files of this machine.
        """
        if not table.is_file():
            raise JobError("The table is not on the server any more; choose it again.")
        values = {name: value for name, value in request.values.items() if name not in ("prompt", "image")}
        if request.seed_mode is SeedMode.RANDOM:
            values["seed"] = draw_seeds(1)[0]  # one for the whole table, so that its rows can be compared
        row_request = replace(request, values=values, seed_mode=SeedMode.FIXED)
        return expand_rows(read_table(table, row_request, pictures=False), self._context())

    def _context(self) -> Context:
        # A variant is read from its files; the rows of a table ask for the same one again and again.
        return Context(cache(self.variant), read_upload)

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
        running = self.store.jobs(states=[JobState.RUNNING], limit=1)
        return running[0] if running else None

    def last_job(self, state: JobState) -> Job | None:
        """The job that ended last in this state and is still listed."""
        found = self.store.jobs(states=[state], limit=1)
        return found[0] if found else None


def read_upload(path: Path) -> Picture:
    """An uploaded picture; an error calls it by its name and not by where the upload lies."""
    try:
        with path.open("rb") as file:
            # The server refuses larger uploads; this is for pictures that reach it in other ways.
            return decode_picture(file.read(MAX_FILE_SIZE), path.name)
    except OSError as error:
        raise JobError("The first frame is not on the server any more; choose the picture again.") from error
