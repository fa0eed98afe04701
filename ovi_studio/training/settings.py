"""`TrainSettings`: everything that determines a training run, validated on construction. Imports no torch."""

from dataclasses import dataclass, field
from typing import Literal

from ovi_studio.core.errors import JobError

Schedule = Literal["cosine", "constant"]
SigmaDistribution = Literal["logit-normal", "uniform"]
Precision = Literal["no", "bf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSettings:
    """Noise levels and conditioning of the training samples. Raises `JobError` if a value is out of range."""

    shift: float = 5.0
    """Shift of the sigmas towards noise, as in sampling; larger for larger clips."""
    sigmas: SigmaDistribution = "logit-normal"
    first_frame: float = 0.1
    """Fraction of the batches whose first latent frame is given."""
    caption_dropout: float = 0.1
    """Fraction of the samples whose caption is replaced by the embeddings of the negative prompts."""

    def __post_init__(self) -> None:
        _check_range("shift", self.shift, 0.01, 100)
        _check_range("fraction of batches with a first frame", self.first_frame, 0, 1)
        _check_range("caption dropout", self.caption_dropout, 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """How the model is trained. Exactly one of `steps` and `minutes` must be given.

    Raises `JobError` if a value is out of range or values contradict each other.
    """

    steps: int | None = None
    """Optimizer steps of the whole run."""
    minutes: float | None = None
    """Training time, including the time before an interruption."""
    batch_size: int = 8
    """Samples per forward pass on each device."""
    accumulation: int = 1
    """Forward passes per step."""
    learning_rate: float = 1e-4
    """Learning rate of AdamW."""
    muon_learning_rate: float | None = None
    """Learning rate of Muon for the matrices of the blocks; None trains them with AdamW as well."""
    weight_decay: float = 0.0
    warmup_steps: int = 100
    schedule: Schedule = "cosine"
    """After the warm-up: half a cosine, or constant with a linear decay in the last `decay` of the run."""
    decay: float = 0.2
    """Fraction of the run over which the constant schedule decays."""
    clip: float = 1.0
    """Maximum gradient norm of a step."""
    ema: float = 0.999
    """Maximum decay of the averaged weights, which are the result; 0 makes the last weights the result."""
    flow: FlowSettings = field(default_factory=FlowSettings)
    precision: Precision = "no"
    """Number format of the matrix products; trained weights are always float32."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass: a third slower, with activations of only one block in memory."""
    compiled: bool = False
    """Compile the blocks."""
    sharded: bool = False
    """Shard weights and state over the processes instead of replicating them; not available with Muon."""
    checkpoint_minutes: float = 5.0
    log_seconds: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise JobError("Say how long to train: either a number of steps or a number of minutes.")
        if self.sharded and self.muon_learning_rate:
            raise JobError("Muon needs whole matrices, which a sharded model does not have; use only AdamW.")
        _check_range("number of steps", 1 if self.steps is None else self.steps, 1, 10**9)
        _check_range("number of minutes", 1 if self.minutes is None else self.minutes, 0.01, 10**6)
        _check_range("batch size", self.batch_size, 1, 4096)
        _check_range("gradient accumulation", self.accumulation, 1, 4096)
        _check_range("learning rate", self.learning_rate, 0, 1)
        _check_range("learning rate of Muon", self.muon_learning_rate or 0, 0, 1)
        _check_range("weight decay", self.weight_decay, 0, 1)
        _check_range("warm-up", self.warmup_steps, 0, 10**6)
        _check_range("decay", self.decay, 0, 1)
        _check_range("EMA", self.ema, 0, 0.999999)
        _check_range("seed", self.seed, 0, 2**63 - 1)

    def progress(self, step: int, elapsed: float) -> float:
        """Return the fraction of the run, 0 to 1, completed by this many steps in this many seconds."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, elapsed / (60 * self.minutes))

    def remaining(self, step: int, elapsed: float, step_seconds: float) -> float:
        """Return the seconds left of a run that takes `step_seconds` per step."""
        if self.steps is not None:
            return max(0.0, (self.steps - step) * step_seconds)
        assert self.minutes is not None
        return max(0.0, 60 * self.minutes - elapsed)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    # NaN fails every comparison.
    if not low <= value <= high:
        raise JobError(f"The {name} must be between {low} and {high}, not {value!r}.")
