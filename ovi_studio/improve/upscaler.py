"""`Upscaler`: a model file for pictures, read without running code from it, checked, and applied to frames."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import load_file
from torch import Tensor

from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.improve.spandrel_import import import_spandrel
from ovi_studio.improve.tiles import TILE, upscale_in_tiles

SCALES = (1, 2, 3, 4)
_SMALLEST_TILE = 64
_SAVED = (b"PK\x03\x04", b"\x80")
"""How files begin that torch writes: a zip, or a pickle as earlier versions wrote it."""
_ROOM = 2
"""Times the size of its file that a model needs while it is read: the file's tensors, and the model's own."""


class Upscaler:
    """A loaded model. `name` is for messages."""

    def __init__(self, name: str, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.name = name
        self.scale: int = model.scale
        self.architecture: str = model.architecture.name
        self.dtype = dtype
        self._device = device
        self._tile = TILE
        self._model = model.to(device=device, dtype=dtype).eval()

    @classmethod
    def load(cls, name: str, path: Path, device: torch.device, dtype: str = "auto") -> "Upscaler":
        """Read a file; raises `JobError` if it is damaged, contains code or is a model for something else.

        Args:
            dtype: "float32", "bfloat16", or "auto": float16 or bfloat16 on a GPU, if the model allows it.
        """
        spandrel = import_spandrel()
        tensors = _read(name, path)
        _check_finite(name, tensors)
        try:
            model = spandrel.MAIN_REGISTRY.load(spandrel.canonicalize_state_dict(tensors))
        except JobError:
            raise
        # The architecture is guessed from whatever is in the file, so anything can be raised.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise JobError(
                f"{name} is not a model for pictures that can be used here (spandrel does not know it); choose an "
                f"upscaler, such as an ESRGAN, Compact or SwinIR model."
            ) from error
        _check_kind(name, model, isinstance(model, spandrel.ImageModelDescriptor))
        return cls(name, model, device, _choose_dtype(name, model, device, dtype))

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray, on_tile: Callable[[float], None]) -> np.ndarray:
        """Upscale a frame, uint8 (H, W, 3), to (H * scale, W * scale, 3); see `upscale_in_tiles`.

        Raises `JobError` if the result has no finite numbers. On a GPU that is too small, smaller tiles are tried.
        """
        pixels = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
        while True:
            try:
                found = upscale_in_tiles(pixels, self._run, self.scale, self._tile, on_tile)
                break
            except Exception as error:
                if not is_out_of_memory(error) or self._device.type == "cpu" or self._tile <= _SMALLEST_TILE:
                    raise
            # Only here the error is gone, and with it what it kept in memory.
            torch.cuda.empty_cache()
            self._tile //= 2
        return (found.clamp_(0, 1) * 255).round_().byte().permute(1, 2, 0).contiguous().numpy()

    def _run(self, tile: Tensor) -> Tensor:
        result: Tensor = self._model(tile.to(self._device, self.dtype)).cpu()
        if not torch.isfinite(result).all():
            advice = "" if self.dtype is torch.float32 else "compute in --dtype float32, or "
            raise JobError(f"The upscaler {self.name} gives NaN or infinite values; {advice}choose another one.")
        return result


def _read(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a file as they are stored, perhaps below a key of their trainer."""
    try:
        size = path.stat().st_size
        available = psutil.virtual_memory().available
        if size * _ROOM > available:
            raise JobError(
                f"The upscaler {name} has {size / 2**30:.1f} GB, and only {available / 2**30:.1f} GB of memory are "
                f"free; choose a smaller one."
            )
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_saved(name, path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except JobError:
        raise
    except pickle.UnpicklingError as error:
        raise JobError(
            f"The upscaler {name} contains more than weights, perhaps code, and is not opened; choose a .safetensors "
            f"file."
        ) from error
    # Of a damaged file, the readers raise whatever they come across.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise JobError(f"The upscaler {name} cannot be read, the file is damaged; copy it again.") from error
    if not isinstance(found, dict):
        raise JobError(f"The upscaler {name} holds no tensors by name; choose another file.")
    return found


def _check_saved(name: str, path: Path) -> None:
    """Raise `JobError` for a file that torch did not write, such as the page of a website in place of a download."""
    with path.open("rb") as file:
        if not file.read(4).startswith(_SAVED):
            raise JobError(f"The upscaler {name} is no model file, perhaps a web page; download it again.")


def _check_finite(name: str, tensors: Any) -> None:
    for value in tensors.values():
        if isinstance(value, dict):
            _check_finite(name, value)
        elif isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise JobError(f"The upscaler {name} contains NaN or infinite numbers; copy it again, or choose another.")


def _check_kind(name: str, model: Any, for_pictures: bool) -> None:
    if not for_pictures:
        raise JobError(f"{name} fills in what a mask marks and upscales nothing; choose an upscaler.")
    if model.purpose == "FaceSR":
        raise JobError(f"{name} is for single faces, not for whole pictures; choose an upscaler.")
    channels = sorted({model.input_channels, model.output_channels})
    if channels != [3]:
        many = "1 channel" if channels == [1] else f"{' and '.join(map(str, channels))} channels"
        raise JobError(
            f"{name} is for pictures with {many}; a clip has 3 (red, green and blue). Choose an upscaler for colour "
            f"pictures without transparency."
        )
    if model.scale not in SCALES:
        raise JobError(
            f"{name} makes pictures {model.scale} times as large; choose an upscaler with a scale of 1 to 4."
        )


def _choose_dtype(name: str, model: Any, device: torch.device, wanted: str) -> torch.dtype:
    if wanted == "bfloat16":
        if not model.supports_bfloat16:
            raise JobError(f"The upscaler {name} cannot compute in bfloat16; choose --dtype float32.")
        return torch.bfloat16
    if wanted == "auto" and device.type != "cpu":
        # Of the two, float16 tells 8-bit levels apart.
        if model.supports_half:
            return torch.float16
        if model.supports_bfloat16:
            return torch.bfloat16
    return torch.float32
