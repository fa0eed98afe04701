"""What every training command starts with: a memory check, the models of a variant, text embeddings, a work folder."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ovi_studio.capacity.host import require_host_memory
from ovi_studio.capacity.layouts import sharing_counts
from ovi_studio.capacity.memory import Demand
from ovi_studio.capacity.tiers import fitting_tier
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.checkpoints.layout import Inventory, complete_variants, require
from ovi_studio.checkpoints.load import Models, load_models
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, format_prompt
from ovi_studio.core.sizes import snap_size
from ovi_studio.core.spec import DEFAULT_AUDIO_NEGATIVE_PROMPT, DEFAULT_VIDEO_NEGATIVE_PROMPT
from ovi_studio.core.variants import Part, Variant
from ovi_studio.core.weight_formats import Weights
from ovi_studio.distributed.launch import PUBLISHED_HEADS
from ovi_studio.distributed.ranks import launched
from ovi_studio.models.attention_kernels import NATIVE
from ovi_studio.models.device import available_memory, compute_device, forbid_spilling, usable_memory
from ovi_studio.models.precision import set_tf32
from ovi_studio.models.text_encoder import encode_texts
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.streaming import HostedModel
from ovi_studio.training import memory
from ovi_studio.training.flow import Unconditional
from ovi_studio.training.settings import Precision

if TYPE_CHECKING:
    from ovi_studio.training.lora import LoraSettings

_PUBLISHED_RATE, _PUBLISHED_WIDTH = 1e-4, 3072
_TEXTS_AT_ONCE = 32


@dataclass(frozen=True)
class TrainingContext:
    """A variant's models, in host memory, and the device on which they are used for training."""

    inventory: Inventory
    models: Models
    device: torch.device

    @classmethod
    def load(cls, variant_name: str, checkpoint_directory: Path) -> "TrainingContext":
        """Load a variant for the GPU in bfloat16 or the CPU in float32.

        Every model stays in host memory until it is used. With several ranks, each has only the transformer, and only
        the leader loads its weights: the others build it on the meta device, and `sharding.shard` distributes it.

        Raises:
            JobError: the variant is not complete.
        """
        inventory = require(variant_name, checkpoint_directory)
        if torch.cuda.is_available() and (rank := os.environ.get("LOCAL_RANK")):
            torch.cuda.set_device(int(rank))
        device = compute_device()
        forbid_spilling(device)
        set_tf32(False)
        # Gradients near zero fall into the range of denormal numbers, with which a CPU computes many times slower.
        torch.set_flush_denormal(True)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        not_loaded = [part for part in Part if launched() and not (part is Part.TRANSFORMER and is_leader())]
        devices = dict.fromkeys(not_loaded, torch.device("meta"))
        return cls(inventory, load_models(inventory, torch.device("cpu"), dtype, devices), device)

    @property
    def variant(self) -> Variant:
        return self.inventory.variant

    @property
    def precision(self) -> Precision:
        """Number format of the matrix products."""
        return "bf16" if self.device.type == "cuda" else "no"

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of video (channels, frames, height, width) and audio (length, channels) at the default size."""
        sizes = self.variant.dimensions["fusion"]
        side = tuple(length // self.variant.latent_stride for length in self.variant.default_size)
        video = (sizes["video"]["in_dim"], self.variant.video_latent_frames, *side)
        return video, (self.variant.audio_latent_length, sizes["audio"]["in_dim"])

    @property
    def default_rate(self) -> float:
        """AdamW's rate for adapters: 1e-4 at the published width, inverse to the width (arXiv 2203.03466)."""
        return _PUBLISHED_RATE * _PUBLISHED_WIDTH / self.variant.dimensions["fusion"]["video"]["dim"]

    @contextmanager
    def in_use(self, *models: nn.Module) -> Iterator[None]:
        """Keep these models on the device; afterwards they are back in host memory."""
        with ExitStack() as stack:
            for model in models:
                stack.enter_context(HostedModel(model, self.device).in_use())
            yield

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the embeddings (tokens, dim) of prompts, with the variant's audio tag, on the host."""
        encoder = self.models.text_encoder
        limit = self.variant.dimensions["fusion"]["video"]["text_len"]
        written = [format_prompt(text, self.variant.audio_tag) for text in texts]
        embeddings: list[Tensor] = []
        with self.in_use(encoder):
            for start in range(0, len(written), _TEXTS_AT_ONCE):
                some = encode_texts(encoder, self.models.tokenizer, written[start : start + _TEXTS_AT_ONCE], limit)
                embeddings += [embedding.cpu().clone() for embedding in some]
        return embeddings

    def unconditional(self) -> Unconditional:
        """Return the embeddings of the default negative prompts, as the negative pass of sampling sees them."""
        return Unconditional(*self.embed([DEFAULT_VIDEO_NEGATIVE_PROMPT, DEFAULT_AUDIO_NEGATIVE_PROMPT]))

    def sampling_compute(self) -> Compute:
        """Return how to make a sample clip during training, while the optimizer state stays on the GPU."""
        dtype = self.models.transformer.dtype
        if self.device.type != "cuda":
            return Compute(self.device, dtype)
        tier = fitting_tier(available_memory(self.device))
        # The kernel also serves the training, and not every one has gradients.
        options = RuntimeOptions(offloaded=True, weights=Weights.BF16, memory=tier.name, attention=NATIVE)
        return Compute(self.device, dtype, options)

    def digest(self, *parts: Part) -> str:
        """Return a hash of the files that hold these parts of the variant."""
        digests = [file_sha256(path) for part in parts for path in self.inventory.files[part]]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """What a command is asked to train, as far as it determines memory."""

    variant: str
    checkpoint_directory: Path
    lora: "LoraSettings | None"
    """The adapter; None trains all weights."""
    batch_size: int
    size: tuple[int, int] | None = None
    """(height, width) of the clips, which are scaled to the variant's pixel area; None: the variant's default."""
    checkpointed: bool = False
    """Blocks are recomputed in the backward pass."""
    gpus: int = 1
    sampled: bool = False
    """Sample clips are made during training."""
    flexible: bool = True
    """The command has `--gradient-checkpointing` and `--gpus`."""

    def require_memory(self, *, encode_only: bool = False) -> None:
        """Check, before anything is loaded, that GPUs and host have enough memory; raises `JobError` if not."""
        variant = require(self.variant, self.checkpoint_directory).variant
        demand = memory.TrainingDemand(
            clip=self._clip(variant),
            lora=self.lora,
            batch_size=self.batch_size,
            checkpointed=self.checkpointed,
            gpus=self.gpus,
        )
        machine = find_machine(self.gpus)
        on_gpu = torch.cuda.is_available()
        if on_gpu and not encode_only:
            memory.require_gpu_memory(demand, variant.name, machine, self._smaller(demand), flexible=self.flexible)
        if on_gpu:
            memory.require_text_encoder_memory(demand.clip.text_encoder, machine)
        if encode_only:
            return
        # A file in fp8 is converted during loading.
        stored_as_used = variant.weights is Weights.BF16
        needed = memory.host_bytes(demand, on_gpu=on_gpu, stored_as_used=stored_as_used, sampled=self.sampled)
        require_host_memory(needed, f"This training of {variant.name}", "or use a machine with more memory")

    def _clip(self, variant: Variant) -> Demand:
        return Demand.of(
            variant, snap_size(*(self.size or variant.default_size), variant.pixel_area, variant.size_unit)
        )

    def _smaller(self, demand: memory.TrainingDemand) -> list[tuple[str, Demand]]:
        """Return the complete variants that need less memory, the largest first."""
        clips = [(variant.name, self._clip(variant)) for variant in complete_variants(self.checkpoint_directory)]
        needs = {name: replace(demand, clip=clip).gpu_bytes for name, clip in clips}
        smaller = [(name, clip) for name, clip in clips if needs[name] < demand.gpu_bytes]
        return sorted(smaller, key=lambda variant: needs[variant[0]], reverse=True)


def is_leader() -> bool:
    """Whether this process is the only one or rank 0."""
    return not launched() or os.environ.get("RANK") == "0"


def find_machine(gpus: int) -> memory.TrainingMachine:
    """Return the memory of this machine's GPUs, for a run on `gpus` of them."""
    if not torch.cuda.is_available():
        return memory.TrainingMachine(memory=0)
    available = torch.cuda.device_count()
    kind = compute_device().type
    smallest = min(usable_memory(torch.device(kind, index)) for index in range(min(gpus, available)))
    counts = [1] if sys.platform == "win32" else sharing_counts(available, PUBLISHED_HEADS)
    return memory.TrainingMachine(memory=smallest, gpu_counts=counts)


def read_prompts(path: Path) -> list[str]:
    """Read one prompt per line; raises `JobError` if there is none or one is too long."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(
            f"{path} cannot be read as text ({error}); choose a text file with one prompt per line."
        ) from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise JobError(f"{path} contains no prompt; write one per line.")
    long = next((number for number, prompt in enumerate(prompts, start=1) if len(prompt) > MAX_PROMPT_LENGTH), None)
    if long is not None:
        raise JobError(f"Prompt {long} of {path} has more than {MAX_PROMPT_LENGTH} characters; shorten it.")
    return prompts


def claim_folder(folder: Path, values: Mapping[str, object]) -> None:
    """Record in a folder the settings that its files are made with.

    Raises:
        JobError: the folder was made with other settings.
    """
    record = folder / "made_with.json"
    requested = json.loads(json.dumps(values))
    if not record.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = record.with_name(f"{record.name}.part")
        part.write_text(json.dumps(requested, indent=1), encoding="utf-8")
        part.replace(record)
        return
    found = json.loads(record.read_text(encoding="utf-8"))
    if found != requested:
        changed = [name for name in {**found, **requested} if found.get(name) != requested.get(name)]
        raise JobError(
            f"{folder} was made with other settings ({', '.join(changed)}); choose another --work or delete it."
        )
