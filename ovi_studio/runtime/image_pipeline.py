"""`ImagePipeline`: a text-to-image pipeline of diffusers that draws first frames.

`AutoPipelineForText2Image` loads it from a folder that was checked (`checkpoints.image_model`): safetensors alone, no
code of the model's own, nothing from the network. What pipelines differ in is read from the signature of their call.
"""

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ovi_studio.capacity.drawing import DrawingPlacement
from ovi_studio.checkpoints.image_model import ImageModel
from ovi_studio.core.drawing import OFFICIAL_AREA, SIDE_UNIT, drawing_size
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.models.device import available_memory

log = logging.getLogger(__name__)

OnDrawn = Callable[[int, int, Tensor | None], None]
"""Called after step `index`, from 1, of `total`, with the latents (channels, 1, height, width) if they can be shown."""
_GUIDANCE = ("guidance_scale", "true_cfg_scale")
_BINNED_SIDES = (32, 64, 128, 256)
"""Latent sides of models that were trained on a table of sizes, which their pipelines know."""


@dataclass(frozen=True)
class DrawnPixels:
    """A picture, and the settings that the pipeline chose itself."""

    pixels: np.ndarray
    """uint8 (H, W, 3), RGB."""
    steps: int | None
    guidance: float | None


class ImagePipeline:
    """A loaded image model, in host memory until it draws.

    Args:
        dtype: of the weights and of what computes with them.

    Raises `JobError` if the model is no text-to-image pipeline, or cannot be loaded.
    """

    def __init__(self, model: ImageModel, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model
        self._device = device
        self._pipe = _load(model, dtype)
        self._pipe.set_progress_bar_config(disable=True)
        self._parameters = inspect.signature(self._pipe.__call__).parameters

    @property
    def area(self) -> int:
        """The number of pixels that the model was made for; that of the official mode if it does not say."""
        side = _sample_side(self._pipe)
        return OFFICIAL_AREA if side is None else round(side * self._scale) ** 2

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the picture for a clip of this size, by the official rule."""
        return drawing_size(height, width, self.area, math.lcm(SIDE_UNIT, self._scale))

    def free_memory(self) -> float:
        """Bytes that it may use of its device; a CPU has one memory, where it is already."""
        return available_memory(self._device) if self._device.type == "cuda" else math.inf

    def draw(
        self,
        prompt: str,
        size: tuple[int, int],
        seed: int,
        placement: DrawingPlacement,
        on_step: OnDrawn,
        *,
        negative_prompt: str = "",
        steps: int | None = None,
        guidance: float | None = None,
    ) -> DrawnPixels:
        """Draw one picture of (height, width); afterwards the model is in host memory.

        Raises `JobError` if the pipeline refuses a setting or gives no usable picture, what `on_step` raises, and
        errors of memory.
        """
        arguments = self._arguments(negative_prompt, steps, guidance)
        total = arguments.get("num_inference_steps") or self._default("num_inference_steps")
        chosen = next((arguments.get(name, self._default(name)) for name in _GUIDANCE if self._default(name)), None)
        arguments |= {"prompt": prompt, "height": size[0], "width": size[1], "output_type": "np"}
        # The official code draws its noise on the CPU.
        arguments["generator"] = torch.Generator().manual_seed(seed)
        with self._placed(placement), self._reporting(arguments, size, total, on_step):
            try:
                found = self._pipe(**arguments)
            except (ValueError, TypeError) as error:
                if is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:300]
                raise JobError(f"The image model {self.model.name} cannot draw this ({reason}).") from error
        return DrawnPixels(self._pixels(found), total, chosen)

    def _arguments(self, negative_prompt: str, steps: int | None, guidance: float | None) -> dict[str, Any]:
        """The arguments for settings of which pipelines have other names, or none."""
        known = self._parameters
        given: dict[str, Any] = {}
        if steps is not None:
            self._require("num_inference_steps", "number of steps")
            given["num_inference_steps"] = steps
        if negative_prompt:
            self._require("negative_prompt", "negative prompt")
            given["negative_prompt"] = negative_prompt
        scale = "guidance_scale"
        if (real := self._default("true_cfg_scale")) is not None:
            if real > 1:  # what is called guidance elsewhere, and acts only with a negative prompt
                scale = "true_cfg_scale"
                given["negative_prompt"] = negative_prompt or " "
            elif negative_prompt:  # the model has learned what guidance does, and looks at no negative prompt without
                given["true_cfg_scale"] = self._default(scale) if guidance is None else guidance
        if guidance is not None:
            self._require(scale, "guidance")
            given[scale] = guidance
        if "use_resolution_binning" in known and _sample_side(self._pipe) not in _BINNED_SIDES:
            given["use_resolution_binning"] = False
        return given

    def _require(self, parameter: str, what: str) -> None:
        if parameter not in self._parameters:
            raise JobError(f"The image model {self.model.name} has no {what}; leave it out.")

    def _default(self, parameter: str) -> Any:
        return self._parameters[parameter].default if parameter in self._parameters else None

    @property
    def _scale(self) -> int:
        """Pixels per latent, in height and width."""
        return int(getattr(self._pipe, "vae_scale_factor", 8))

    @contextmanager
    def _placed(self, placement: DrawingPlacement) -> Iterator[None]:
        """Place the parts for use, and bring them back to host memory, also after an error."""
        pipe, device = self._pipe, self._device
        try:
            if placement is DrawingPlacement.WHOLE:
                pipe.to(device)
            elif placement is DrawingPlacement.PART_BY_PART:
                pipe.enable_model_cpu_offload(device=device)
            else:
                pipe.enable_group_offload(onload_device=device, offload_type="leaf_level")
            yield
        finally:
            _remove_placement(pipe)
            pipe.to("cpu", silence_dtype_warnings=True)

    @contextmanager
    def _reporting(
        self, arguments: dict[str, Any], size: tuple[int, int], total: int | None, on_step: OnDrawn
    ) -> Iterator[None]:
        """Report every step, by the callback that the pipeline has, or else by its bar."""

        def report(index: int, latents: Tensor | None) -> None:
            on_step(index + 1, max(total or 0, index + 1), self._shown(latents, size))

        def at_end(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            report(index, tensors.get("latents"))
            return tensors

        if "callback_on_step_end" in self._parameters:
            arguments["callback_on_step_end"] = at_end
        elif "callback" in self._parameters:
            arguments |= {"callback": lambda index, _, latents: report(index, latents), "callback_steps": 1}
        else:
            self._pipe.progress_bar = lambda iterable=None, total=None: _Bar(iterable, total, report)
        try:
            yield
        finally:
            vars(self._pipe).pop("progress_bar", None)

    def _shown(self, latents: Tensor | None, size: tuple[int, int]) -> Tensor | None:
        """Latents as (channels, 1, height, width); None if they are packed in a way that is not known."""
        unpack = getattr(self._pipe, "_unpack_latents", None)
        try:
            if latents is not None and latents.ndim == 3 and unpack is not None:
                latents = unpack(latents, *size, self._scale)
        except (TypeError, RuntimeError, ValueError):
            return None  # only a preview
        if latents is None or latents.ndim not in (4, 5):
            return None
        return latents[0].reshape(latents.shape[1], 1, *latents.shape[-2:])

    def _pixels(self, found: Any) -> np.ndarray:
        """The picture as PNG files have it; raises `JobError` if it is none."""
        if any(getattr(found, "nsfw_content_detected", None) or ()):
            raise JobError(
                f"The safety checker of the image model {self.model.name} has blackened the picture; change the prompt "
                "or the image seed."
            )
        picture = np.asarray(found.images[0])
        if not np.isfinite(picture).all():
            raise JobError(
                f"The image model {self.model.name} drew a picture with NaN; use another model, or --dtype float32."
            )
        if picture.ndim != 3 or picture.shape[2] != 3:
            raise JobError(f"The image model {self.model.name} draws no colour pictures; use another one.")
        return (picture * 255).round().astype(np.uint8)


class _Bar:
    """The progress bar of a pipeline that has no callback."""

    def __init__(self, iterable: Any, total: int | None, report: Callable[[int, Tensor | None], None]) -> None:
        self._iterable, self._report, self._done = iterable, report, 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        self._done += count
        self._report(self._done - 1, None)


def _load(model: ImageModel, dtype: torch.dtype) -> Any:
    from diffusers import AutoPipelineForText2Image

    try:
        return AutoPipelineForText2Image.from_pretrained(
            model.folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            variant="fp16" if model.half_precision else None,
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:300]
        if isinstance(error, ValueError) and "AutoPipeline" in reason:
            raise JobError(
                f"The image model {model.name} is a {model.pipeline}, which draws no pictures from text; choose a "
                "text-to-image pipeline of diffusers."
            ) from error
        # Parts of a library that is not installed, weights of another shape, a broken tokenizer, ...
        log.warning("The image model %s cannot be loaded", model.folder, exc_info=True)
        raise JobError(f"The image model {model.name} cannot be loaded ({reason}); download it again.") from error


def _remove_placement(pipe: Any) -> None:
    """Remove the hooks that move parts, which would go on moving them."""
    from diffusers.hooks import HookRegistry

    pipe.remove_all_hooks()
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            HookRegistry.check_if_exists_or_initialize(part).remove_hook("group_offloading", recurse=True)


def _sample_side(pipe: Any) -> float | None:
    """Latents per side of the pictures that a model was made for; None if it does not say."""
    denoiser = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    side = getattr(pipe, "default_sample_size", None) or getattr(getattr(denoiser, "config", None), "sample_size", None)
    if isinstance(side, list | tuple) and side:
        return math.prod(side) ** (1 / len(side))
    return side if isinstance(side, int) and side > 0 else None
