"""Predict the GPU and host memory of a training run before anything is loaded. Pure functions; imports no torch.

Predicted bytes on each of N GPUs, with d the width, f the feed-forward width, L blocks, B the batch size, P parameters:

    weights = 2 P / N if frozen; on several GPUs also the layers gathered at a time
    state   = 16 / N per trained parameter: float32 value, two moments of AdamW, average
    kept    = 2 B * tokens * (a d + b f) per block, for its backward pass; 2 B * tokens * d if it is recomputed
    text    = 2 B L * 7 * text tokens * d
    step    = text + L * kept + (if recomputed, one block's a d + b f) + temporaries of the backward pass
    total   = weights + state + step + the reserve of `capacity.budget`

Gradients, 4 / N bytes per trained parameter, grow while activations shrink, so only the larger of the two counts.
The factors a and b were counted as live tensors of whole steps (tests/unit/training/test_training_memory.py repeats the
count), in bfloat16 autocast with attention that does not keep its scores; none of them was measured on a GPU.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ovi_studio.capacity.budget import GIB, RESERVE, usable
from ovi_studio.capacity.memory import BLOCKS_IN_FLIGHT, VALUE_BYTES, Demand
from ovi_studio.core.errors import JobError

if TYPE_CHECKING:
    from ovi_studio.training.lora import LoraSettings

_STATE_ITEM = 16
"""Bytes per trained parameter: its value, two moments of AdamW and its average in float32. Also in a checkpoint."""
_GRADIENT_ITEM = 4
_GRADIENTS_IN_FLIGHT = 2
"""Blocks whose unsharded gradients exist at once: the one being computed and the one being reduced."""

_FROZEN_WIDTHS, _FROZEN_FFN_WIDTHS = 34.3, 0.85
"""Multiples of d and f that a block with frozen weights keeps per token."""
_ATTENTION_COPIES = 4
"""Inputs that the adapted layers of self-attention and cross-attention keep in addition, in multiples of d."""
_FULL_WIDTHS, _FULL_FFN_WIDTHS = 38, 2
"""Multiples of d and f that a block with trained weights keeps per token."""
_TEXT_WIDTHS = 7
"""Multiples of d kept per text token: keys and values of the text are computed outside the blocks, so always kept."""
_BATCHED_WIDTHS = 4
"""Multiples of d kept per token if a batch has several samples: two norms in float32, before each sample is scaled."""
_BACKWARD_WIDTHS, _BACKWARD_FFN_WIDTHS = 6, 0.55
"""Multiples of d and f that the backward pass of a block with frozen weights takes per token."""
_ADAPTED_FFN_BACKWARD = 3.4, 1.2
"""Further multiples of d and f if the feed-forward layers have an adapter, whose input gradients are float32."""
_FULL_BACKWARD_WIDTHS = 8
"""Multiple of d that the backward pass of a block with trained weights takes per token."""


@dataclass(frozen=True, kw_only=True)
class TrainingDemand:
    """A training run, as far as it determines memory."""

    clip: Demand
    lora: "LoraSettings | None"
    """The adapter; None if all weights are trained."""
    batch_size: int = 1
    checkpointed: bool = False
    """Blocks are recomputed in the backward pass."""
    gpus: int = 1

    @property
    def trained_parameters(self) -> int:
        """The number of parameters that are trained."""
        sizes, lora = self.clip.sizes, self.lora
        if lora is None:
            return sizes.parameters
        widths = {"attention": 16 * sizes.dim, "fusion": 4 * sizes.dim, "ffn": 2 * (sizes.dim + sizes.ffn_dim)}
        return sizes.layers * len(set(lora.towers)) * lora.rank * sum(widths[kind] for kind in set(lora.layers))

    @property
    def weight_bytes(self) -> float:
        """Bytes of frozen weights and of gathered layers; trained weights are counted in `state_bytes`."""
        sizes = self.clip.sizes
        frozen = 0 if self.lora is None else VALUE_BYTES * sizes.parameters / self.gpus
        if self.gpus == 1:
            return frozen
        item = 4 if self.lora is None else VALUE_BYTES
        # Parameters outside the blocks stay gathered.
        gathered = item * (sizes.other_parameters + BLOCKS_IN_FLIGHT * sizes.block_parameters)
        gradients = 4 * _GRADIENTS_IN_FLIGHT * sizes.block_parameters if self.lora is None else 0
        return frozen + gathered + gradients

    @property
    def state_bytes(self) -> float:
        """Bytes of trained parameters and optimizer state, without gradients."""
        return _STATE_ITEM * self.trained_parameters / self.gpus

    @property
    def step_bytes(self) -> float:
        """Peak bytes of activations and gradients in a forward and backward pass."""
        sizes = self.clip.sizes
        scale = VALUE_BYTES * self.batch_size
        text = scale * sizes.layers * _TEXT_WIDTHS * 2 * sizes.text_tokens * sizes.dim
        block, temporary = scale * self._kept_values(), scale * self._backward_values()
        gradients = _GRADIENT_ITEM * self.trained_parameters / self.gpus
        # Autocast keeps its casts of float32 weights until the end of the forward pass, or as long as they are needed.
        casts = VALUE_BYTES * sizes.parameters if self.lora is None else 0
        if self.checkpointed:
            inputs = scale * sizes.layers * self._tokens * sizes.dim
            return text + max(inputs + max(casts, block + temporary), block + temporary + gradients)
        return text + temporary + max(sizes.layers * block + casts, block + gradients)

    @property
    def gpu_bytes(self) -> float:
        """Bytes needed on each GPU, including the reserve."""
        return self.weight_bytes + self.state_bytes + self.step_bytes + RESERVE

    @property
    def _tokens(self) -> int:
        return self.clip.video_tokens + self.clip.audio_tokens

    def _tower_tokens(self, lora: "LoraSettings") -> Iterator[tuple[int, int]]:
        """Yield the tokens of each adapted tower, and of the other tower."""
        for tower in set(lora.towers):
            own = self.clip.video_tokens if tower == "video" else self.clip.audio_tokens
            yield own, self._tokens - own

    def _kept_values(self) -> float:
        """Return the number of values that a block keeps for its backward pass, per sample."""
        sizes, lora = self.clip.sizes, self.lora
        norms = _BATCHED_WIDTHS if self.batch_size > 1 else 0
        if lora is None:
            return self._tokens * ((_FULL_WIDTHS + norms) * sizes.dim + _FULL_FFN_WIDTHS * sizes.ffn_dim)
        values = self._tokens * ((_FROZEN_WIDTHS + norms) * sizes.dim + _FROZEN_FFN_WIDTHS * sizes.ffn_dim)
        for own, other in self._tower_tokens(lora):
            copies = {
                "attention": own * _ATTENTION_COPIES * sizes.dim,
                "fusion": other * sizes.dim,  # the input of its layers is the other tower's tokens
                "ffn": own * (sizes.dim + sizes.ffn_dim),
            }
            values += sum(copies[kind] for kind in set(lora.layers))
        return values

    def _backward_values(self) -> float:
        """Return the number of temporary values of a block's backward pass, per sample."""
        sizes, lora = self.clip.sizes, self.lora
        if lora is None:
            return self._tokens * _FULL_BACKWARD_WIDTHS * sizes.dim
        values = self._tokens * (_BACKWARD_WIDTHS * sizes.dim + _BACKWARD_FFN_WIDTHS * sizes.ffn_dim)
        if "ffn" in lora.layers:
            dim, ffn = _ADAPTED_FFN_BACKWARD
            values += max(own for own, _ in self._tower_tokens(lora)) * (dim * sizes.dim + ffn * sizes.ffn_dim)
        return values


@dataclass(frozen=True, kw_only=True)
class TrainingMachine:
    """The GPUs that a run can use."""

    memory: float
    """Bytes that this process can use on the smallest GPU; 0 without a GPU."""
    gpu_counts: Sequence[int] = (1,)
    """Numbers of GPUs that a run can be sharded over on this machine."""


def require_gpu_memory(
    demand: TrainingDemand,
    name: str,
    machine: TrainingMachine,
    smaller: Sequence[tuple[str, Demand]],
    *,
    flexible: bool,
) -> None:
    """Refuse a run that does not fit on its GPUs, and suggest options that fit.

    Args:
        name: the variant's name.
        smaller: other installed variants and their demand, the preferred one first.
        flexible: whether the command has `--gradient-checkpointing` and `--gpus`.

    Raises:
        JobError: the run does not fit.
    """
    if demand.gpu_bytes <= machine.memory:
        return
    each = "on each GPU" if demand.gpus > 1 else "on the GPU"
    problem = (
        f"This training of {name} is predicted to need about {_gigabytes(demand.gpu_bytes)} {each} "
        f"({_gigabytes(demand.weight_bytes)} weights, {_gigabytes(demand.state_bytes)} training state, "
        f"{_gigabytes(demand.step_bytes)} activations and gradients, {_gigabytes(RESERVE)} reserve), but only "
        f"{_gigabytes(machine.memory)} is available"
    )
    lighter = list(_lighter_runs("", demand, machine, flexible))
    if found := _first_fitting(lighter, machine):
        raise JobError(f"{problem}; this would fit: {found}.")
    if lighter:
        options, least = lighter[-1]
        problem = f"{problem}; even with {options} it needs {_gigabytes(least.gpu_bytes)}"
    for other, clip in smaller:
        unchanged = (f"--variant {other}", replace(demand, clip=clip))
        candidates = [unchanged, *_lighter_runs(*unchanged, machine, flexible)]
        if found := _first_fitting(candidates, machine):
            raise JobError(f"{problem}; this would fit: {found}.")
    raise JobError(f"{problem}; use GPUs with more memory, or more of them.")


def require_text_encoder_memory(text_encoder: float, machine: TrainingMachine) -> None:
    """Refuse to encode captions with a text encoder of this many bytes if it does not fit; raises `JobError`."""
    if text_encoder > usable(machine.memory):
        raise JobError(
            f"Encoding captions is predicted to need about {_gigabytes(text_encoder + RESERVE)} on the GPU, but only "
            f"{_gigabytes(machine.memory)} is available; close other programs that use it, or encode on a larger GPU."
        )


def host_bytes(demand: TrainingDemand, *, on_gpu: bool, stored_as_used: bool, sampled: bool) -> float:
    """Return the minimum host memory of a run in bytes.

    Tensors used in the format of their file are memory-mapped, and the system can reclaim that memory at any time.

    Args:
        stored_as_used: the transformer's file has the number format that is used on a GPU.
        sampled: the transformer moves to host memory while sample clips are made.
    """
    clip, parameters = demand.clip, demand.clip.sizes.parameters
    checkpoint = _STATE_ITEM * demand.trained_parameters  # assembled in host memory
    if not on_gpu:
        # Everything is converted to float32 and stays in host memory; files are half as large.
        frozen = 0 if demand.lora is None else 4 * parameters
        training = (_STATE_ITEM + _GRADIENT_ITEM) * demand.trained_parameters
        return frozen + training + checkpoint + clip.float32_models
    item = 4 if demand.lora is None else VALUE_BYTES
    copied = sampled or demand.lora is None or not stored_as_used
    return (item * parameters if copied else 0) + checkpoint


def _first_fitting(candidates: Sequence[tuple[str, TrainingDemand]], machine: TrainingMachine) -> str | None:
    """Return the options of the first run that fits."""
    return next((options for options, demand in candidates if demand.gpu_bytes <= machine.memory), None)


def _lighter_runs(
    options: str, demand: TrainingDemand, machine: TrainingMachine, flexible: bool
) -> Iterator[tuple[str, TrainingDemand]]:
    """Yield options that need less memory with the resulting run; each change keeps the previous ones."""
    if flexible and not demand.checkpointed:
        options, demand = f"{options} --gradient-checkpointing", replace(demand, checkpointed=True)
        yield options.strip(), demand
    batch_options = options
    for size in range(demand.batch_size - 1, 0, -1):
        batch_options, demand = f"{options} --batch-size {size}", replace(demand, batch_size=size)
        yield batch_options.strip(), demand
    for count in machine.gpu_counts if flexible else ():
        if count > demand.gpus:
            demand = replace(demand, gpus=count)
            yield f"{batch_options} --gpus {count}".strip(), demand


def _gigabytes(size: float) -> str:
    return f"{size / GIB:.1f} GB"
