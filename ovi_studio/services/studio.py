"""`Studio`: all services of one studio, for the page, the API and the server. Imports no torch.

The store holds every job, the library every clip, and the supervisor keeps the engine alive; whatever else the tabs
need is a method of `Studio`. Thread-safe; methods may raise `JobError` with advice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.sources import fetch_adapters, find_missing, plan_adapters
from ovi_studio.checkpoints.background import Downloads
from ovi_studio.checkpoints.download import fetch_files
from ovi_studio.checkpoints.image_model import (
    find_folder,
    image_models,
    is_name,
    plan_image_model,
    require_image_model,
)
from ovi_studio.checkpoints.layout import complete_variants
from ovi_studio.core.clip import Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.grids import Grid
from ovi_studio.core.requests import (
    Context,
    Expansion,
    Request,
    SeedMode,
    base_spec,
    draw_seeds,
    expand_request,
    pattern_prompts,
)
from ovi_studio.core.sizes import named_sizes, picture_size, snap_size
from ovi_studio.core.spec import SOURCE_FIELDS, ClipSpec
from ovi_studio.core.variants import Variant, find_variant
from ovi_studio.engine.command import engine_command
from ovi_studio.engine.fleet import Fleet
from ovi_studio.engine.take_checks import TakeChecks, check_command
from ovi_studio.farm.command import FarmAddress, farm_command
from ovi_studio.farm.roster import makeable
from ovi_studio.library import Library
from ovi_studio.media.pictures import MAX_FILE_SIZE, decode_picture
from ovi_studio.media.sources import check_source, pin_source
from ovi_studio.queue.drawings import Candidates, ask_for_candidates, cancel_candidates, candidates, drawing_of
from ovi_studio.queue.model import Job, JobState
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.schedule import QueueEstimate, estimate_clip, estimate_queue
from ovi_studio.queue.store import Store
from ovi_studio.runtime.clip_runner import OVI_MODELS
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.films import Films
from ovi_studio.services.improvements import Improvements
from ovi_studio.services.intake import Intake
from ovi_studio.services.machines import list_makers
from ovi_studio.services.model_offer import ModelOffer, offer_model
from ovi_studio.services.preset_offers import PresetOffer, offers
from ovi_studio.services.presets import Presets
from ovi_studio.services.prompt_files import expand_table
from ovi_studio.services.prompt_helper.service import PromptHelper
from ovi_studio.services.prompt_helper.settings import HelperSettings
from ovi_studio.services.prompt_tables import read_table
from ovi_studio.services.soundtracks import Soundtracks
from ovi_studio.services.templates import Templates
from ovi_studio.services.undo import UndoLog


@dataclass(frozen=True)
class PictureFacts:
    """What an uploaded picture means for a clip."""

    size: tuple[int, int]
    """(height, width) of a clip with this first frame."""
    notes: tuple[str, ...]
    """Sentences about how the picture was read."""


class Studio:
    """The services that the tabs and the API use.

    Args:
        open_to_all: anyone may come, as to a Space without a login: nobody learns this machine's folders and logs, and
            nobody's files are kept among the models, presets and clips of the owner.
        helper: the chat model that helps with prompts; None: there is none.
    """

    def __init__(
        self,
        store: Store,
        library: Library,
        supervisor: Fleet,
        options: RuntimeOptions,
        *,
        open_to_all: bool = False,
        helper: HelperSettings | None = None,
    ) -> None:
        self.open_to_all = open_to_all
        self.store = store
        self.paths: StudioPaths = store.paths
        self.library = library
        self.supervisor = supervisor
        self.options = options
        """The runtime options from the command line."""
        self.checkpoint_directory = options.checkpoints
        self.templates = Templates(self.paths.state)
        self.presets = Presets(self.paths.state)
        self.soundtracks = Soundtracks(self.paths.state)
        self.adapters = AdapterLibrary(options.adapters)
        self.intake = Intake(self, self.paths.uploads / "dropped", keeps=not open_to_all)
        self.adapter_downloads = Downloads(self.adapters.directory, execute=fetch_adapters)
        self.model_downloads = Downloads(self.checkpoint_directory)
        self.image_downloads = Downloads(self.checkpoint_directory, execute=fetch_files)
        self.undo = UndoLog()
        self.improvements = Improvements(store, library, options)
        self.prompt_helper = PromptHelper(helper or HelperSettings())
        self.films = Films(self)
        self._take_checks = TakeChecks(store, check_command(store.paths, options))

    @classmethod
    def open(
        cls,
        outputs: str | Path,
        options: RuntimeOptions | None = None,
        *,
        state: str | Path | None = None,
        models: str = OVI_MODELS,
        engines: int = 1,
        farm: FarmAddress | None = None,
        open_to_all: bool = False,
        helper: HelperSettings | None = None,
    ) -> "Studio":
        """Open the studio that writes its clips to `outputs`; `start` then runs its engines. `models` is for tests.

        Args:
            farm: the head of the other machines that make clips of this queue; None: there are none.
        """
        options = options or RuntimeOptions()
        store = Store.open(outputs, state)
        command = engine_command(store.paths, options, models, shared=farm is not None)
        farming = None if farm is None else farm_command(store.paths, farm, options, models)
        fleet = Fleet(store, command, engines, farm_command=farming)
        return cls(store, Library(store.paths), fleet, options, open_to_all=open_to_all, helper=helper)

    def start(self) -> None:
        """Start the engine and the checks of takes; raises `JobError` if another web process serves this studio."""
        self.supervisor.start()
        self._take_checks.start()

    def close(self) -> None:
        """Stop the engine and the checks, and close the files."""
        self._take_checks.stop()
        self.supervisor.stop()
        self.undo.close()
        self.prompt_helper.close()
        self.library.close()
        self.store.close()

    # Models and sizes

    def variants(self) -> list[Variant]:
        """List the complete variants, best first."""
        return complete_variants(self.checkpoint_directory)

    def variant(self, name: str) -> Variant:
        """Look up a variant by its name; raises `JobError` if there is none."""
        return find_variant(name, self.checkpoint_directory)

    def blocks(self, variant_name: str) -> int:
        """Return the number of transformer blocks, any one of which can be skipped."""
        return self.variant(variant_name).dimensions["fusion"]["video"]["num_layers"]

    def model_offer(self) -> ModelOffer | None:
        """Return the published model to download on this machine; None if one is complete."""
        return offer_model(self.checkpoint_directory)

    def sizes(self, variant_name: str) -> dict[str, tuple[int, int]]:
        """Map each aspect ratio to the (height, width) of this variant's clips; includes the variant's default size."""
        variant = self.variant(variant_name)
        return named_sizes(variant.default_size, variant.pixel_area, variant.size_unit)

    def default_ratio(self, variant_name: str) -> str:
        """Return the aspect ratio of a variant's default size."""
        return self.ratio_of(None, variant_name)

    def ratio_of(self, size: tuple[int, int] | None, variant_name: str) -> str:
        """Return the aspect ratio nearest to `size` as this variant would make it; None stands for the default size."""
        variant = self.variant(variant_name)
        height, width = snap_size(*(size or variant.default_size), variant.pixel_area, variant.size_unit)
        sizes = self.sizes(variant_name)
        return min(sizes, key=lambda name: abs(sizes[name][0] - height) + abs(sizes[name][1] - width))

    def picture_facts(self, path: Path, variant_name: str, *, raw_colours: bool) -> PictureFacts:
        """Return what an uploaded first frame means for a clip; raises `JobError` for an unusable picture."""
        picture = read_upload(path, raw_colours=raw_colours)
        variant = self.variant(variant_name)
        height, width = picture.pixels.shape[:2]
        return PictureFacts(picture_size(height, width, variant.pixel_area, variant.size_unit), picture.notes)

    # Presets and adapters

    def preset_offers(self) -> tuple[list[PresetOffer], tuple[str, ...]]:
        """List every preset with what it is missing, and notices about invalid preset files."""
        found = self.presets.all()
        return offers(found.presets, self.adapters, [variant.name for variant in self.variants()]), found.notices

    def download_adapters(self, preset_name: str) -> None:
        """Start downloading a preset's missing adapters; raises `JobError` if that is not possible."""
        preset = self.presets.get(preset_name)
        missing = find_missing(preset.stack, preset.sources, self.adapters)
        if missing is None or not missing.sources:
            raise JobError(f"There is nothing to download for the preset {preset.title}.")
        self.adapter_downloads.begin(preset.title, lambda: plan_adapters(missing.sources, self.adapters))

    # Requests and jobs

    def prompts(self, request: Request) -> list[str]:
        """Expand the prompt pattern of a request."""
        return pattern_prompts(request)

    def expand(self, request: Request) -> Expansion:
        """Expand a request to its clips, with seeds drawn; raises `JobError` for an invalid request."""
        return expand_request(request, self._context())

    def spec(self, request: Request) -> ClipSpec:
        """Return the request as one clip, without expanding its prompt or drawing a seed."""
        return base_spec(request, self._context())

    def expand_table(self, table: Path, request: Request) -> Expansion:
        """Expand an uploaded table to its clips; the request's settings apply where a row has none of its own.

        Raises `JobError` if a row names a picture or a source: a table from a browser must not refer to files of this
        machine.
        """
        if not table.is_file():
            raise JobError("The table is no longer on the server; choose it again.")
        own = ("prompt", "image", *SOURCE_FIELDS)
        values = {name: value for name, value in request.values.items() if name not in own}
        if request.seed_mode is SeedMode.RANDOM:
            values["seed"] = draw_seeds(1)[0]  # one for the whole table, so that its rows can be compared
        row_request = replace(request, values=values, seed_mode=SeedMode.FIXED)
        context = self._context()
        return expand_table(read_table(table, context.max_clips), row_request, context, pictures=False)

    def _context(self) -> Context:
        # Reading a variant opens its files, and the rows of a table repeat the same ones.
        return Context(cache(self.variant), _check_upload)

    def queue(
        self, specs: Sequence[ClipSpec], name: str = "", *, priority: int = 0, grid: Grid | None = None
    ) -> list[str]:
        """Add clips as one batch, which may be a grid, and return the ids of their jobs. Higher priorities run first.

        Raises `JobError` like `prepared`.
        """
        return self.store.add(self.prepared(specs), name, priority=priority, grid=grid)

    def prepared(self, specs: Sequence[ClipSpec]) -> list[ClipSpec]:
        """Return the clips as they are queued: with the hash of every adapter file.

        Raises `JobError` if a model or image model is incomplete, or an adapter is missing, does not fit or is another
        file than the clip names.
        """
        complete = {variant.name for variant in self.variants()} | makeable(self.store.database)
        for missing in {spec.variant for spec in specs} - complete:
            self.variant(missing)  # an unknown variant has its own message
            raise JobError(f"The model {missing} is not complete; download it in the System tab first.")
        for model in {spec.to_draw.model for spec in specs if spec.to_draw is not None}:
            self._require_image_model(model)
        return self._with_sources(self._with_adapters(self._with_drawings(specs)))

    def _with_drawings(self, specs: Sequence[ClipSpec]) -> list[ClipSpec]:
        """Return the clips with how their first frames were drawn, if they were chosen from candidates."""
        known = cache(lambda picture: drawing_of(self.store.database, picture))
        return [
            spec if spec.image is None or spec.drawing is not None else replace(spec, drawing=known(spec.image))
            for spec in specs
        ]

    def _require_image_model(self, model: str) -> None:
        """Raise `JobError` for an image model that is not complete here, or that is a path: people are not told what
        folders of this machine hold."""
        if not is_name(model):
            raise JobError(
                f"{model[:100]} is not the name of an image model; name a repository on the hub, or a folder below the "
                "checkpoint directory."
            )
        require_image_model(model, self.checkpoint_directory)

    def _with_adapters(self, specs: Sequence[ClipSpec]) -> list[ClipSpec]:
        """Return the clips with the hash of every adapter file, so that a file that is replaced later is not used.

        Raises `JobError` if an adapter is missing, is not the file that a clip names, or does not fit the model.
        """
        for name, variant in {(use.name, spec.variant) for spec in specs for use in spec.stack if not use.zero}:
            entry = self.adapters.examined(self.adapters.find(name))
            self.adapters.match(entry, model_names(self.variant(variant)))
        pin = cache(self.adapters.pin)  # the clips of a batch mostly have the same adapters
        return [spec.with_stack(pin(spec.stack)) if spec.stack else spec for spec in specs]

    def _with_sources(self, specs: Sequence[ClipSpec]) -> list[ClipSpec]:
        """Return the clips with whole paths and hashes of their sources; raises `JobError` for an unusable one."""
        for spec in specs:
            check_source(spec, self.variant(spec.variant))
        return [
            spec if spec.source is None else pin_source(replace(spec, source=spec.source.absolute())) for spec in specs
        ]

    # First frames that are drawn

    def image_models(self) -> list[str]:
        """List the names of the image models that are here."""
        return image_models(self.checkpoint_directory)

    def image_model_problem(self, name: str) -> str | None:
        """Return why an image model cannot be used, as a sentence; None if it can."""
        try:
            self._require_image_model(name)
        except JobError as error:
            return str(error)
        return None

    def image_model_offered(self, name: str) -> bool:
        """Whether an image model can be downloaded; not for anyone who comes, since it may be any repository."""
        return (
            not self.open_to_all
            and is_name(name)
            and "/" in name
            and find_folder(name, self.checkpoint_directory) is None
        )

    def download_image_model(self, name: str) -> None:
        """Start to download an image model; raises `JobError` if that is not possible."""
        if self.open_to_all:
            raise JobError("Image models are downloaded by whoever runs this page; choose one that is here.")
        self.image_downloads.begin(name, lambda: plan_image_model(name, self.checkpoint_directory))

    def ask_for_candidates(self, spec: ClipSpec, count: int) -> str:
        """Ask for pictures to choose the first frame of a clip from; returns the id of the request."""
        if spec.to_draw is None:
            raise ValueError("the clip asks for no picture")
        self._require_image_model(spec.to_draw.model)
        return ask_for_candidates(self.store.database, spec, count)

    def candidates(self, request: str) -> Candidates:
        """Return what became of a request for pictures; raises `JobError` if it is gone."""
        return candidates(self.store.database, request)

    def cancel_candidates(self, request: str) -> None:
        """Draw no more pictures of a request."""
        cancel_candidates(self.store.database, request)

    # Time estimates

    def estimate(self, spec: ClipSpec, count: int = 1) -> float | None:
        """Estimate the seconds for clips alone, by whoever takes jobs; None until one of their kind was made."""
        return estimate_clip(self.store.database, spec, list_makers(self.store), count)

    def time_left(self) -> QueueEstimate:
        """Estimate the seconds until all jobs have ended."""
        return estimate_queue(self.store.database, list_makers(self.store))

    # Jobs

    def current_job(self) -> Job | None:
        """Return the running job, if any."""
        running = self.store.jobs(states=[JobState.RUNNING], limit=1)
        return running[0] if running else None

    def has_clips(self) -> bool:
        """Whether a clip was made that is still listed."""
        return self.store.counts()[JobState.DONE] > 0

    def last_job(self, state: JobState) -> Job | None:
        """Return the job that ended last in this state and is still listed."""
        found = self.store.jobs(states=[state], limit=1)
        return found[0] if found else None


def _check_upload(spec: ClipSpec) -> tuple[str, ...]:
    """Return notes about a clip's uploaded first frame; raises `JobError` for a file that cannot be one."""
    return () if spec.image is None else read_upload(spec.image, raw_colours=spec.raw_colours).notes


def read_upload(path: Path, *, raw_colours: bool) -> Picture:
    """Read an uploaded picture; error messages use its name rather than the path of the upload."""
    try:
        with path.open("rb") as file:
            # The server refuses larger uploads; this also bounds pictures that arrive in other ways.
            return decode_picture(file.read(MAX_FILE_SIZE), path.name, raw_colours=raw_colours)
    except OSError as error:
        raise JobError("The first frame is no longer on the server; choose the picture again.") from error
