"""Loads models from checkpoint files, tensor by tensor.

Models are built on the meta device, without memory, and get their tensors from memory-mapped files, so a file is never
in memory twice: a tensor that stays on the CPU in the file's dtype is the mapping itself, and others are converted one
at a time. Only safetensors files and, with `weights_only=True`, the official `.pth` and `.pt` files are read. The names
of tensors may be those of the official code, of diffusers and transformers, or of ComfyUI.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from ovi_studio.checkpoints.file_check import read_header
from ovi_studio.checkpoints.keys import TEXT_ENCODER_RULES, TRANSFORMER_RULES, VIDEO_VAE_RULES, rename, renamed
from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.checkpoints.number_formats import as_loaded, convert, prepare
from ovi_studio.checkpoints.scaled_fp8 import scale_name, weight_names
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.core.variants import Part
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.audio_vae import AudioVAE
from ovi_studio.models.text_encoder import build_text_encoder, load_tokenizer
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.models.video_vae import build_video_vae
from ovi_studio.models.vocoder import Vocoder, fold_weight_norm

M = TypeVar("M", bound=nn.Module)
Tensors = dict[str, Tensor]
Convert = Callable[[str, Tensor], Tensors]
"""Converts a stored tensor (or rows of it) with its name in the file to the model's tensors with their names."""

_TENSORS_PER_MAPPING = 16
"""Pages that were read stay in memory as long as their mapping exists, so a large file is mapped several times."""


@dataclass(frozen=True)
class Models:
    """The models of a variant."""

    transformer: OviTransformer
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerBase
    video_vae: AutoencoderKLWan
    audio_vae: AudioVAE
    vocoder: Vocoder


def load_models(
    inventory: Inventory,
    device: torch.device,
    dtype: torch.dtype,
    places: Mapping[Part, torch.device] | None = None,
    *,
    weights: Weights = Weights.BF16,
    worker: torch.device | None = None,
) -> Models:
    """All models of a complete inventory, for inference, on `device` in `dtype`.

    `places` overrides the device of single parts; on the meta device a part is built without reading its tensors. The
    weights of the transformer's blocks may have a different format; they are converted on `worker`, one at a time.

    The audio codec is small and always float32: in bfloat16 its waveform has an error of 5% (docs/performance.md).

    Raises `JobError` with the name of a file that does not contain the expected model.
    """

    def load(part: Part, build: Callable[[], M], adapt: Callable[[Tensors], Tensors], dtype: torch.dtype = dtype) -> M:
        place = (places or {}).get(part, device)
        return _load(inventory, part, build, adapt, place, dtype, lambda name, tensor: {name: tensor.to(place, dtype)})

    sizes = inventory.variant.dimensions
    text_encoder = load(Part.TEXT_ENCODER, lambda: build_text_encoder(sizes["text_encoder"]), text_encoder_tensors)
    # Otherwise moving the model to another device would duplicate the shared embedding.
    text_encoder.tie_weights()
    return Models(
        transformer=_load_transformer(
            inventory, (places or {}).get(Part.TRANSFORMER, device), dtype, weights, worker or device
        ),
        text_encoder=text_encoder,
        tokenizer=_load_tokenizer(inventory),
        video_vae=load(Part.VIDEO_VAE, lambda: build_video_vae(sizes["video_vae"]), video_vae_tensors),
        audio_vae=load(
            Part.AUDIO_VAE, lambda: AudioVAE(**sizes["audio_codec"]["vae"]), dict, torch.float32
        ).fuse_weight_norm(),
        vocoder=load(
            Part.VOCODER,
            lambda: Vocoder.from_config(sizes["audio_codec"]["vocoder"]),
            vocoder_tensors,
            torch.float32,
        ),
    )


def _load_transformer(
    inventory: Inventory, device: torch.device, dtype: torch.dtype, weights: Weights, worker: torch.device
) -> OviTransformer:
    def build() -> OviTransformer:
        model = OviTransformer(**inventory.variant.dimensions["fusion"])
        prepare(model, weights)
        return model

    keep = transformer_format(weights, dtype)

    def converted(name: str, tensor: Tensor) -> Tensors:
        if weights is not Weights.BF16:
            tensor = tensor.to(worker)
        return {name: tensor.to(device) for name, tensor in keep(name, tensor).items()}

    return _load(inventory, Part.TRANSFORMER, build, dict, device, dtype, converted)


def transformer_format(weights: Weights, dtype: torch.dtype) -> Convert:
    """The conversion of the transformer's tensors; it works row by row, on the tensor's device."""
    return lambda name, tensor: convert(rename(name, TRANSFORMER_RULES), tensor, weights, dtype)


def text_encoder_format(dtype: torch.dtype) -> Convert:
    """The conversion of the text encoder's tensors."""
    return lambda name, tensor: text_encoder_tensors({name: tensor.to(dtype)})


def text_encoder_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Official or transformers' names -> transformers' names, where the token embedding has two."""
    named = renamed(tensors, TEXT_ENCODER_RULES)
    if "shared.weight" in named:
        named["encoder.embed_tokens.weight"] = named["shared.weight"]
    return named


def video_vae_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Official or diffusers' names -> diffusers' names."""
    return renamed(tensors, VIDEO_VAE_RULES)


def vocoder_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Fold weight normalisation into plain weights."""
    return fold_weight_norm(tensors)


def assign(model: M, tensors: Mapping[str, Tensor]) -> M:
    """Assign tensors to a model that was built on the meta device; `ValueError` unless all names and shapes match."""
    _compare(model, tensors)
    model.load_state_dict(tensors, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def check(model: nn.Module, inventory: Inventory, part: Part, keep: Convert) -> None:
    """Raise `JobError` unless the files contain the tensors of this model; their data is not read."""
    found: Tensors = {}
    for name, tensor in stored_tensors(inventory, part):
        found |= keep(name, torch.empty_like(tensor, device="meta"))
    with _mismatch_errors(inventory, part):
        _compare(model, found)


def stored_tensors(inventory: Inventory, part: Part) -> Iterator[tuple[str, Tensor]]:
    """The memory-mapped tensors of a part's files; raises `JobError` like `read_tensors`."""
    for path in inventory.files[part]:
        yield from read_tensors(path)


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Iterate over the names and memory-mapped tensors of a file.

    Raises:
        JobError: the file is damaged, or contains something other than tensors.
    """
    try:
        yield from _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    except Exception as error:
        if is_out_of_memory(error):  # not the file's fault
            raise
        # Readers raise almost anything for broken files: SafetensorError, RuntimeError, struct.error, KeyError, ...
        raise JobError(
            f"{path} cannot be read as a checkpoint ({_reason(error)}); delete it and download it again."
        ) from error


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a transformer's safetensors files under the model's names, read on access.

    The files stay open, so the original contents are read even if a file is replaced.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._places: dict[str, tuple[Any, str, str | None]] = {}
        for path in paths:
            file = safe_open(path, framework="pt", device="cpu")
            header = read_header(path)
            for name in weight_names(header):
                self._places[rename(name, TRANSFORMER_RULES)] = file, name, scale_name(name, header)

    def __getitem__(self, name: str) -> Tensor:
        return _read_tensor(*self._places[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        # PyTorch's own message suggests to allow the file to run code.
        return "it is damaged or contains more than tensors"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    header = read_header(path)
    names = weight_names(header)
    for start in range(0, len(names), _TENSORS_PER_MAPPING):
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in names[start : start + _TENSORS_PER_MAPPING]:
                yield name, _read_tensor(file, name, scale_name(name, header))


def _read_tensor(file: Any, name: str, scale: str | None) -> Tensor:
    """A tensor of an open file; with the name of its scale, which is one number or one for each row, in float32."""
    tensor: Tensor = file.get_tensor(name)
    if scale is None:
        return tensor
    return tensor.float() * file.get_tensor(scale).float().reshape(-1, *[1] * (tensor.dim() - 1))


def _read_torch_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    # Only the zip format can be memory-mapped; the older format is read completely.
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    # The official vocoder file contains the generator and training state.
    tensors = content.get("generator", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError("it contains something other than named tensors")
    yield from tensors.items()


def _load(
    inventory: Inventory,
    part: Part,
    build: Callable[[], M],
    adapt: Callable[[Tensors], Tensors],
    device: torch.device,
    dtype: torch.dtype,
    convert_one: Convert,
) -> M:
    if device.type == "meta":
        with device:
            return as_loaded(build(), dtype).eval().requires_grad_(False)
    stored: Tensors = {}
    for name, tensor in stored_tensors(inventory, part):
        stored |= convert_one(name, tensor)
    with torch.device("meta"):
        model = build()
    with _mismatch_errors(inventory, part):
        return assign(model, adapt(stored))


def _compare(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` unless the model has tensors of these names and shapes, and no others."""
    expected = model.state_dict()
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ValueError(f"{len(missing)} tensors missing, {len(extra)} too many, such as {min(missing | extra)}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}")


@contextmanager
def _mismatch_errors(inventory: Inventory, part: Part) -> Iterator[None]:
    """Convert a `ValueError` to a `JobError` that names the part's file."""
    try:
        yield
    except ValueError as error:
        raise JobError(
            f"{inventory.files[part][0]} is not the {part} of variant {inventory.variant.name} ({error}); "
            f"move it away and run `{inventory.download_command}`."
        ) from error


def _load_tokenizer(inventory: Inventory) -> PreTrainedTokenizerBase:
    paths = inventory.files[Part.TOKENIZER]
    try:
        return load_tokenizer(paths)
    except (ValueError, OSError, KeyError) as error:
        raise JobError(
            f"The tokenizer in {paths[0].parent} cannot be read; "
            f"delete that folder and run `{inventory.download_command}`."
        ) from error
