"""`FirstFrames`: draws the first frames of clips before their models compute, and keeps an image model while it fits.

An image model is on the device only while it draws: the clip's transformer has it for itself. Between clips the model
stays in host memory if that leaves enough for the models of the clips, and is read from the disk again otherwise.
Imports torch only with the model.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovi_studio.capacity.budget import HOST_RESERVE
from ovi_studio.capacity.drawing import DrawingDemand, DrawingPlacement, choose_drawing_placement, too_large
from ovi_studio.capacity.host import host_memory, require_host_memory
from ovi_studio.checkpoints.image_model import FilesHash, ImageModel, require_image_model
from ovi_studio.checkpoints.layout import take_inventory
from ovi_studio.core.allocator import free_unused_memory
from ovi_studio.core.drawing import OFFICIAL_GUIDANCE, Drawing, drawing_prompt
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.core.imports import without_collecting
from ovi_studio.core.spec import ClipSpec, clip_size
from ovi_studio.core.variants import Variant, find_variant
from ovi_studio.queue.files import keep_frame
from ovi_studio.queue.model import ClipPhase
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.progress import ProgressSink

if TYPE_CHECKING:
    from ovi_studio.runtime.image_pipeline import DrawnPixels, ImagePipeline

log = logging.getLogger(__name__)

_SHORTER = {one: tuple(DrawingPlacement)[number + 1 :] for number, one in enumerate(DrawingPlacement)}
"""Placement -> those that take less device memory, for when memory runs out."""


@dataclass
class _Loaded:
    """The image model that was used last."""

    pipeline: "ImagePipeline"
    hashes: FilesHash


class FirstFrames:
    """Draws first frames.

    Args:
        make_room: frees the memory of the clips' models, which are loaded again for the next clip.
    """

    def __init__(self, make_room: Callable[[], None]) -> None:
        self._make_room = make_room
        self._loaded: _Loaded | None = None

    def draw(
        self, spec: ClipSpec, options: RuntimeOptions, folder: Path, progress: ProgressSink, *, loaded: bool
    ) -> ClipSpec:
        """Draw the first frame that a clip asks for, and keep it in the folder under its hash.

        Returns the clip with this picture and with how it was drawn; from there on it is like any clip with a first
        frame. Raises `JobError`, and what `progress` raises.

        Args:
            loaded: whether the models of the clip are in memory already.
        """
        drawing = spec.to_draw
        if drawing is None:
            return spec
        variant = find_variant(spec.variant, options.checkpoints)
        prompt = drawing.prompt.strip() or drawing_prompt(spec.prompt, variant.audio_tag)
        if not prompt:
            raise JobError("The prompt says nothing that is seen, so no first frame can be drawn; add an image prompt.")
        drawing = replace(drawing, prompt=prompt, seed=spec.seed if drawing.seed is None else drawing.seed)
        if drawing.official and drawing.guidance is None:
            drawing = replace(drawing, guidance=OFFICIAL_GUIDANCE)
        model = require_image_model(drawing.model, options.checkpoints)
        progress.phase(ClipPhase.LOADING)
        current = self._load(model, options)
        progress.phase(ClipPhase.DRAWING)
        drawn = self._draw(current.pipeline, drawing, clip_size(spec, variant), progress)
        self._keep_or_drop(variant, options, loaded=loaded)
        sha256 = current.hashes.result()
        drawing = replace(drawing, model=model.name, steps=drawn.steps, guidance=drawn.guidance, sha256=sha256)
        return replace(spec, image=keep_frame(drawn.pixels, folder), drawing=drawing)

    def drop(self) -> None:
        """Free the memory of the image model."""
        if self._loaded is not None:
            self._loaded = None
            free_unused_memory()

    def _load(self, model: ImageModel, options: RuntimeOptions) -> _Loaded:
        if self._loaded is not None and self._loaded.pipeline.model == model:
            return self._loaded
        self.drop()
        with without_collecting():
            from ovi_studio.runtime.compute import Compute
            from ovi_studio.runtime.image_pipeline import ImagePipeline

        compute = Compute.of(options)
        needed = sum(model.parameters.values()) * compute.dtype.itemsize
        advice = "or choose a smaller image model"
        try:
            require_host_memory(needed, f"The image model {model.name}", advice)
        except JobError:
            self._make_room()
            require_host_memory(needed, f"The image model {model.name}", advice)
        hashes = model.hashes()
        try:
            pipeline = ImagePipeline(model, compute.device, compute.dtype)
        except Exception as error:
            raise _in_words(error, model.name) from error
        self._loaded = _Loaded(pipeline, hashes)
        return self._loaded

    def _draw(
        self, pipeline: "ImagePipeline", drawing: Drawing, clip: tuple[int, int], progress: ProgressSink
    ) -> "DrawnPixels":
        size = pipeline.size(*clip)
        settings: dict[str, Any] = {
            "negative_prompt": drawing.negative_prompt,
            "steps": drawing.steps,
            "guidance": drawing.guidance,
        }
        first = self._place(pipeline, size)
        for placement in (first, *_SHORTER[first]):
            try:
                return pipeline.draw(drawing.prompt, size, drawing.seed or 0, placement, progress.drawn, **settings)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                log.warning("Memory ran out while an image model was %s: %s", placement, error)
            # Only here the error is gone, and with it the references that kept memory alive.
            self._make_room()
            free_unused_memory()
        raise JobError(_out_of_memory(pipeline.model.name))

    def _place(self, pipeline: "ImagePipeline", size: tuple[int, int]) -> DrawingPlacement:
        """Choose where the parts are; what the clips' models hold is freed only if there is no other way."""
        demand = DrawingDemand.of(pipeline.model.parameters, size[0] * size[1])
        placement, free = None, 0.0
        for make_room in (lambda: None, self._make_room):
            make_room()
            free = pipeline.free_memory()
            placement = placement or choose_drawing_placement(demand, free)
            if placement is not None:
                return placement
        raise too_large(pipeline.model.name, demand, free)

    def _keep_or_drop(self, variant: Variant, options: RuntimeOptions, *, loaded: bool) -> None:
        needed = HOST_RESERVE
        if not loaded:
            files = take_inventory(variant, options.checkpoints).files.values()
            with suppress(OSError):
                needed += sum(path.stat().st_size for paths in files for path in paths)
        if host_memory().available < needed:
            self.drop()


def _in_words(error: Exception, name: str) -> Exception:
    return JobError(_out_of_memory(name)) if is_out_of_memory(error) else error


def _out_of_memory(name: str) -> str:
    return f"Memory ran out while the image model {name} drew a first frame; choose a smaller one, or give a picture."
