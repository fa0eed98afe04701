"""A training loop for the small models: time budget, cosine schedule, averaged weights, checkpoints, logs, samples.

The data depend only on the step's number, so a run that is killed resumes exactly from its last checkpoint. Accelerate
handles devices and distribution.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ovi_studio.demo.sheets import SheetRow, save_sheet
from ovi_studio.training.muon import Muon
from ovi_studio.training.report import append_log, clock, cut_log, plot_losses

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 60.0
SAMPLE_SECONDS = 300.0
_LOG_STEPS = 20
_CLIP_NORM = 1.0

NamedLosses = Mapping[str, Tensor]
"""Scalar losses by name; their sum is minimised."""
ModelT = TypeVar("ModelT", bound=nn.Module)


@dataclass(frozen=True)
class TrainingBudget:
    """Length of a training and learning rates of a model. Exactly one of `minutes` and `steps` must be given.

    Steps are for a machine that others use as well, where minutes say little.
    """

    minutes: float | None = None
    steps: int | None = None
    learning_rate: float = 2e-3
    """Learning rate of AdamW."""
    matrix_rate: float = 0.02
    """Learning rate of Muon, which trains the matrices and kernels."""
    warmup_steps: int = 100
    averaging: float = 0.998
    """Maximum decay of the exponential moving average of the weights."""

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("a budget is either a number of minutes or a number of steps")

    def progress(self, step: int, seconds: float) -> float:
        """Return the fraction of the training, 0 to 1, that this many steps in this many seconds are."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))


def fit(
    model: ModelT,
    losses: Callable[[ModelT, int], NamedLosses],
    budget: TrainingBudget,
    folder: Path,
    samples: Callable[[ModelT], Sequence[SheetRow]] | None = None,
) -> None:
    """Train `model` in place; at the end it holds the averaged weights.

    Args:
        losses: computes the losses of the model at a step, on data that depend only on the step's number.
        folder: receives checkpoints, `log.jsonl`, `loss.png` and sample sheets; a run found there is resumed.
        samples: makes samples with the model, which holds its averaged weights; this time does not count as training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator()
    model, *optimizers = accelerator.prepare(model, *_optimizers(model, budget))
    plain = accelerator.unwrap_model(model)
    run = _Run(plain, optimizers, folder)
    run.resume()
    start = time.monotonic() - run.seconds
    saved = shown = run.seconds
    while budget.progress(run.step, run.seconds) < 1:
        _set_rates(budget, run)
        values = losses(model, run.step)
        model.zero_grad(set_to_none=True)
        accelerator.backward(sum(values.values()))
        accelerator.clip_grad_norm_(model.parameters(), _CLIP_NORM)
        for optimizer in optimizers:
            optimizer.step()
        run.average(budget.averaging)
        run.step += 1
        run.seconds = time.monotonic() - start
        if accelerator.is_main_process:
            if run.step % _LOG_STEPS == 0:
                run.report(values, budget)
            if run.seconds - saved > CHECKPOINT_SECONDS:
                run.save()
                saved = run.seconds
            if samples and run.seconds - shown > SAMPLE_SECONDS:
                run.show(samples)
                shown = run.seconds
            start = time.monotonic() - run.seconds  # saving and sampling do not count as training
    if accelerator.is_main_process:
        run.save()
        if samples:
            run.show(samples)
    plain.load_state_dict(run.averaged)


@dataclass
class _Run(Generic[ModelT]):
    """The state of a training run."""

    model: ModelT
    optimizers: list[torch.optim.Optimizer]
    folder: Path
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.averaged = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self._names: list[str] = []  # of the losses, once they are known

    @torch.no_grad()
    def average(self, decay: float) -> None:
        # Early on the average follows closely, so that it forgets the random initial weights.
        decay = min(decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                self.averaged[name].lerp_(tensor, 1 - decay)
            else:
                self.averaged[name].copy_(tensor)

    def save(self) -> None:
        path = self.folder / CHECKPOINT
        part = path.with_name(f"{path.name}.part")
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averaged": self.averaged,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, part)
        part.replace(path)
        plot_losses(self.folder, self._names)

    def resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        # To the model's current device, whichever it was trained on before.
        state = torch.load(path, map_location=next(self.model.parameters()).device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.averaged = state["averaged"]
        self.step, self.seconds = state["step"], state["seconds"]
        cut_log(self.folder, self.step)

    def report(self, values: NamedLosses, budget: TrainingBudget) -> None:
        """Print and log the losses of the current step."""
        losses = {name: value.item() for name, value in values.items()}
        self._names = list(losses)
        append_log(self.folder, {"step": self.step, "seconds": self.seconds, **losses})
        part = budget.progress(self.step, self.seconds)
        text = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        print(f"step {self.step}: {text}; {clock(self.seconds)}, {part:.0%} done", flush=True)

    @torch.no_grad()
    def show(self, samples: Callable[[ModelT], Sequence[SheetRow]]) -> None:
        """Write a sample sheet made with the averaged weights."""
        current = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged)
        try:
            path = save_sheet(samples(self.model), self.folder, self.step)
        finally:
            self.model.load_state_dict(current)
        print(f"samples: {path}", flush=True)


def _optimizers(model: nn.Module, budget: TrainingBudget) -> list[torch.optim.Optimizer]:
    """Return Muon for hidden matrices and kernels, and AdamW for everything else."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() > 1 and min(parameter.flatten(1).shape) > 1]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in trained if id(parameter) not in chosen]
    return [
        Muon(matrices, lr=budget.matrix_rate),
        torch.optim.AdamW(others, lr=budget.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _set_rates(budget: TrainingBudget, run: _Run[ModelT]) -> None:
    """Set the learning rates for the current step and time."""
    warmup = min(1.0, (run.step + 1) / budget.warmup_steps)
    progress = budget.progress(run.step, run.seconds)
    factor = warmup * max(0.01, (1 + math.cos(math.pi * progress)) / 2)
    for optimizer, rate in zip(run.optimizers, (budget.matrix_rate, budget.learning_rate), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
