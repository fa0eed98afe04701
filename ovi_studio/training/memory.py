"""What a training run needs of each GPU and of the host, before anything is loaded. Pure functions; imports no torch.

Predicted bytes on each of N GPUs, with d the width, f the feed-forward width, L blocks, B the batch size, P parameters:

    weights = 2 P / N where they are frozen; over several GPUs also what is gathered at a time
    state   = 16 / N for each trained parameter: float32 value, two moments of AdamW, average
    kept    = 2 B * tokens * (a d + b f) of each block, for its backward pass; 2 B * tokens * d if it is computed again
    text    = 2 B L * 7 * text tokens * d
    step    = text + L * kept + (if computed again, one block's a d + b f) + what a backward pass has beside
    all     = weights + state + step + the reserve of `capacity.budget`

Gradients, 4 / N bytes for each trained parameter, grow while activations shrink, so the larger of both counts.
The factors a and b were counted as live tensors of whole steps (tests/unit/training/test_training_memory.py counts them
again), in bfloat16 autocast with attention that does not keep its scores; nothing of it was measured on a GPU.
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
"""Bytes of a trained parameter with two moments of AdamW and its average, float32; a checkpoint has the same again."""
_GRADIENT_ITEM = 4
_GRADIENTS_IN_FLIGHT = 2
"""Of whole blocks, on their way into shards: the one that is computed, and the one that is reduced."""

_FROZEN_WIDTHS, _FROZEN_FFN_WIDTHS = 34.3, 0.85
"""What a block keeps of each token where its own weights are frozen."""
_ATTENTION_COPIES = 4
"""Inputs of its own that each layer with an adapter keeps: of self-attention and cross-attention together."""
_WHOLE_WIDTHS, _WHOLE_FFN_WIDTHS = 38, 2
_TEXT_WIDTHS = 7
"""Keys and values of the text, which are computed outside of the blocks and so are kept in any case."""
_BACKWARD_WIDTHS, _BACKWARD_FFN_WIDTHS = 6, 0.55
_ADAPTED_FFN_BACKWARD = 3.4, 1.2
"""More widths (d, f) where the feed-forward layers have an adapter, whose inputs' gradients are float32."""
_WHOLE_BACKWARD_WIDTHS = 8


@dataclass(frozen=True, kw_only=True)
class TrainingDemand:
    """A training run, as far as its memory follows from it."""

    clip: Demand
    lora: "LoraSettings | None"
    """None: all weights are trained."""
    batch_size: int = 1
    checkpointed: bool = False
    """Blocks are computed again in the backward pass."""
    gpus: int = 1

    @property
    def trained(self) -> int:
        """Parameters."""
        sizes, lora = self.clip.sizes, self.lora
        if lora is None:
            return sizes.parameters
        widths = {"attention": 16 * sizes.dim, "fusion": 4 * sizes.dim, "ffn": 2 * (sizes.dim + sizes.ffn_dim)}
        return sizes.layers * len(set(lora.towers)) * lora.rank * sum(widths[kind] for kind in set(lora.layers))

    @property
    def weight_bytes(self) -> float:
        """Of frozen weights, and of what is gathered; trained weights are counted with their state."""
        sizes = self.clip.sizes
        frozen = 0 if self.lora is None else VALUE_BYTES * sizes.parameters / self.gpus
        if self.gpus == 1:
            return frozen
        item = 4 if self.lora is None else VALUE_BYTES
        # What is in no block stays gathered.
        gathered = item * (sizes.other_parameters + BLOCKS_IN_FLIGHT * sizes.block_parameters)
        gradients = 4 * _GRADIENTS_IN_FLIGHT * sizes.block_parameters if self.lora is None else 0
        return frozen + gathered + gradients

    @property
    def state_bytes(self) -> float:
        """Of trained parameters beside their gradients."""
        return _STATE_ITEM * self.trained / self.gpus

    @property
    def step_bytes(self) -> float:
        """The most that activations and gradients take at once, in a forward and backward pass."""
        sizes = self.clip.sizes
        scale = VALUE_BYTES * self.batch_size
        text = scale * sizes.layers * _TEXT_WIDTHS * 2 * sizes.text_tokens * sizes.dim
        block, beside = scale * self._kept_values(), scale * self._backward_values()
        gradients = _GRADIENT_ITEM * self.trained / self.gpus
        # Autocast keeps what it made of float32 weights: until the forward pass is over, or as long as it is needed.
        casts = VALUE_BYTES * sizes.parameters if self.lora is None else 0
        if self.checkpointed:
            inputs = scale * sizes.layers * self._tokens * sizes.dim
            return text + max(inputs + max(casts, block + beside), block + beside + gradients)
        return text + beside + max(sizes.layers * block + casts, block + gradients)

    @property
    def gpu_bytes(self) -> float:
        """On each GPU, what no plan gives away included."""
        return self.weight_bytes + self.state_bytes + self.step_bytes + RESERVE

    @property
    def _tokens(self) -> int:
        return self.clip.video_tokens + self.clip.audio_tokens

    def _tower_tokens(self) -> Iterator[tuple[int, int]]:
        """Tokens of each tower that has an adapter, and of the other one."""
        for tower in set(self.lora.towers):
            own = self.clip.video_tokens if tower == "video" else self.clip.audio_tokens
            yield own, self._tokens - own

    def _kept_values(self) -> float:
        """That a block keeps for its backward pass, for each sample."""
        sizes, lora = self.clip.sizes, self.lora
        if lora is None:
            return self._tokens * (_WHOLE_WIDTHS * sizes.dim + _WHOLE_FFN_WIDTHS * sizes.ffn_dim)
        values = self._tokens * (_FROZEN_WIDTHS * sizes.dim + _FROZEN_FFN_WIDTHS * sizes.ffn_dim)
        for own, other in self._tower_tokens():
            copies = {
                "attention": own * _ATTENTION_COPIES * sizes.dim,
                "fusion": other * sizes.dim,  # its layers take the other tower's tokens
                "ffn": own * (sizes.dim + sizes.ffn_dim),
            }
            values += sum(copies[kind] for kind in set(lora.layers))
        return values

    def _backward_values(self) -> float:
        """That a backward pass has beside what was kept, for each sample."""
        sizes = self.clip.sizes
        if self.lora is None:
            return self._tokens * _WHOLE_BACKWARD_WIDTHS * sizes.dim
        values = self._tokens * (_BACKWARD_WIDTHS * sizes.dim + _BACKWARD_FFN_WIDTHS * sizes.ffn_dim)
        if "ffn" in self.lora.layers:
            dim, ffn = _ADAPTED_FFN_BACKWARD
            values += max(own for own, _ in self._tower_tokens()) * (dim * sizes.dim + ffn * sizes.ffn_dim)
        return values


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run is to be."""

    memory: float
    """Bytes that this process may have of the smallest GPU; 0 without a GPU."""
    gpu_counts: Sequence[int] = (1,)
    """Numbers of GPUs that a run can be divided over here."""


def require_gpu_memory(
    demand: TrainingDemand, name: str, machine: Machine, smaller: Sequence[tuple[str, Demand]], *, flexible: bool
) -> None:
    """Refuse a run that does not fit its GPUs, with what would fit here.

    Args:
        name: of the variant.
        smaller: other variants that are here, the most wanted first.
        flexible: whether the command has `--gradient-checkpointing` and `--gpus`.

    Raises:
        JobError: it does not fit.
    """
    if demand.gpu_bytes <= machine.memory:
        return
    each = "each GPU" if demand.gpus > 1 else "the GPU"
    problem = (
        f"This training of {name} needs about {_gigabytes(demand.gpu_bytes)} of {each} by prediction "
        f"({_gigabytes(demand.weight_bytes)} weights, {_gigabytes(demand.state_bytes)} state of what is trained, "
        f"{_gigabytes(demand.step_bytes)} activations and gradients, {_gigabytes(RESERVE)} reserve), and "
        f"{_gigabytes(machine.memory)} can be had"
    )
    own = list(_with_other_options("", demand, machine, flexible))
    if found := _fitting(own, machine):
        raise JobError(f"{problem}; what fits here is {found}.")
    if own:
        options, least = own[-1]
        problem = f"{problem}; even with {options} it needs {_gigabytes(least.gpu_bytes)}"
    for other, clip in smaller:
        as_it_is = (f"--variant {other}", replace(demand, clip=clip))
        more = _with_other_options(as_it_is[0], as_it_is[1], machine, flexible)
        if found := _fitting([as_it_is, *more], machine):
            raise JobError(f"{problem}, and what fits here is {found}.")
    raise JobError(f"{problem}: use GPUs with so much memory, or more of them.")


def require_text_encoder_memory(text_encoder: float, machine: Machine) -> None:
    """Refuse to encode captions with a text encoder of so many bytes where it does not fit; raises `JobError`."""
    if text_encoder > usable(machine.memory):
        raise JobError(
            f"Encoding captions needs about {_gigabytes(text_encoder + RESERVE)} of the GPU by prediction, and "
            f"{_gigabytes(machine.memory)} can be had; close other programs that use it, or encode on a larger GPU."
        )


def host_bytes(demand: TrainingDemand, *, on_gpu: bool, stored_as_used: bool, sampled: bool) -> float:
    """Bytes of host memory that a run takes at least.

    Tensors that are used as the file has them are the file's memory map, which takes none that could not be given back.

    Args:
        stored_as_used: the transformer's file has the number format that it is used in on a GPU.
        sampled: the transformer comes home while sample clips are made.
    """
    clip, parameters = demand.clip, demand.clip.sizes.parameters
    checkpoint = _STATE_ITEM * demand.trained  # put together here
    if not on_gpu:
        # Everything is float32 and stays here; files are half as large.
        frozen = 0 if demand.lora is None else 4 * parameters
        return frozen + (_STATE_ITEM + _GRADIENT_ITEM) * demand.trained + checkpoint + clip.float32_models
    item = 4 if demand.lora is None else VALUE_BYTES
    converted = sampled or demand.lora is None or not stored_as_used
    return (item * parameters if converted else 0) + checkpoint


def _fitting(candidates: Sequence[tuple[str, TrainingDemand]], machine: Machine) -> str | None:
    """Options of the first run that fits."""
    return next((options for options, demand in candidates if demand.gpu_bytes <= machine.memory), None)


def _with_other_options(
    options: str, demand: TrainingDemand, machine: Machine, flexible: bool
) -> Iterator[tuple[str, TrainingDemand]]:
    """Options that need less memory and the run that they make of this one; each change keeps those before it."""
    if flexible and not demand.checkpointed:
        options, demand = f"{options} --gradient-checkpointing", replace(demand, checkpointed=True)
        yield options.strip(), demand
    with_batch = options
    for size in range(demand.batch_size - 1, 0, -1):
        with_batch, demand = f"{options} --batch-size {size}", replace(demand, batch_size=size)
        yield with_batch.strip(), demand
    for count in machine.gpu_counts if flexible else ():
        if count > demand.gpus:
            demand = replace(demand, gpus=count)
            yield f"{with_batch} --gpus {count}".strip(), demand


def _gigabytes(size: float) -> str:
    return f"{size / GIB:.1f} GB"
