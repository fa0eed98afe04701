"""`TrainSettings`: everything that decides a training run, checked once when it is made. Imports no torch."""

from dataclasses import dataclass, field
from typing import Literal

from ovi_studio.core.errors import JobError

Schedule = Literal["cosine", "constant"]
SigmaDistribution = Literal["logit-normal", "uniform"]
Precision = Literal["no", "bf16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSettings:
    """What the model is shown. Raises `JobError` when a value is out of its limits."""

    shift: float = 5.0
    """Moves sigmas towards noise, as in sampling; larger for larger clips."""
    sigmas: SigmaDistribution = "logit-normal"
    first_frame: float = 0.1
    """Part of the batches whose first latent frame is given."""
    caption_dropout: float = 0.1
    """Part of the samples that see the embeddings of the negative prompts instead of their caption."""

    def __post_init__(self) -> None:
        _check_range("shift", self.shift, 0.01, 100)
        _check_range("part of batches with a first frame", self.first_frame, 0, 1)
        _check_range("caption dropout", self.caption_dropout, 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """How the model is trained. Exactly one of `steps` and `minutes` ends a run; raises `JobError` otherwise."""

    steps: int | None = None
    minutes: float | None = None
    """Of training, those before an interruption included."""
    batch_size: int = 8
    """Samples of one forward pass on each device."""
    accumulation: int = 1
    """Forward passes a step."""
    learning_rate: float = 1e-4
    """Of AdamW."""
    muon_learning_rate: float | None = None
    """Of Muon, for the matrices of the blocks; None: AdamW for these as well."""
    weight_decay: float = 0.0
    warmup_steps: int = 100
    schedule: Schedule = "cosine"
    """After the warm-up: half a cosine, or constant and then a straight line down in the last `decay` of the run."""
    decay: float = 0.2
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    ema: float = 0.999
    """Largest decay of the averaged weights, which are the result; 0: the last weights are."""
    flow: FlowSettings = field(default_factory=FlowSettings)
    precision: Precision = "no"
    """What products are computed in; the weights that are trained are float32."""
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass: a third slower, and memory for one block only."""
    compiled: bool = False
    sharded: bool = False
    """Divide weights and state over the processes instead of having them whole in each; not with Muon."""
    checkpoint_minutes: float = 5.0
    log_seconds: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise JobError("Say how long to train: either a number of steps or a number of minutes.")
        if self.sharded and self.muon_learning_rate:
            raise JobError("Muon needs whole matrices, which a sharded model does not have; use AdamW alone.")
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


def _check_range(name: str, value: float, low: float, high: float) -> None:
    # NaN fails every comparison.
    if not low <= value <= high:
        raise JobError(f"The {name} must be between {low} and {high}, not {value!r}.")
