"""A training loop for the small codecs: a time budget, one cosine, averaged weights, checkpoints, a log, sample sheets.

Data depend on the step's number alone, so a run that was killed goes on from its last checkpoint as if nothing had
happened. Distribution and devices are Accelerate's.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ovi_studio.demo.sheets import Row, save_sheet
from ovi_studio.training.muon import Muon
from ovi_studio.training.report import append_log, clock, cut_log, plot_losses

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 60.0
SAMPLE_SECONDS = 300.0
_LOG_STEPS = 20
_CLIP_NORM = 1.0

Losses = Mapping[str, Tensor]
"""By name, scalars; their sum is minimised."""


@dataclass(frozen=True)
class Budget:
    """How long and how fast a model is trained."""

    minutes: float
    learning_rate: float = 2e-3
    """Of AdamW."""
    matrix_rate: float = 0.02
    """Of Muon, which trains the matrices and kernels."""
    warmup_steps: int = 100
    averaging: float = 0.998
    """Of the weights' exponential moving average."""


def fit(
    model: nn.Module,
    losses: Callable[[nn.Module, int], Losses],
    budget: Budget,
    folder: Path,
    samples: Callable[[nn.Module], Sequence[Row]] | None = None,
) -> None:
    """Train `model` in place; at the end it holds the averaged weights.

    Args:
        losses: of the model at a step, on data that depend on the step's number alone.
        folder: takes checkpoints, `log.jsonl`, `loss.png` and sample sheets; a run that is found there is continued.
        samples: what the model can do by now, with its averaged weights; their time does not count.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator()
    model, *optimizers = accelerator.prepare(model, *_optimizers(model, budget))
    plain = accelerator.unwrap_model(model)
    run = _Run(plain, optimizers, folder)
    run.resume()
    began = time.monotonic() - run.seconds
    saved = shown = run.seconds
    while run.seconds < 60 * budget.minutes:
        _set_rates(budget, run)
        values = losses(model, run.step)
        model.zero_grad(set_to_none=True)
        accelerator.backward(sum(values.values()))
        accelerator.clip_grad_norm_(model.parameters(), _CLIP_NORM)
        for optimizer in optimizers:
            optimizer.step()
        run.average(budget.averaging)
        run.step += 1
        run.seconds = time.monotonic() - began
        if accelerator.is_main_process:
            if run.step % _LOG_STEPS == 0:
                run.report(values, budget)
            if run.seconds - saved > CHECKPOINT_SECONDS:
                run.save()
                saved = run.seconds
            if samples and run.seconds - shown > SAMPLE_SECONDS:
                run.show(samples)
                shown = run.seconds
            began = time.monotonic() - run.seconds  # saving and showing is no training
    if accelerator.is_main_process:
        run.save()
        if samples:
            run.show(samples)
    plain.load_state_dict(run.averaged)


@dataclass
class _Run:
    """Where a training run stands."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    folder: Path
    step: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.averaged = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self._names: list[str] = []  # of the losses, once they are known

    @torch.no_grad()
    def average(self, decay: float) -> None:
        # Early on the average follows closely, so that it does not remember the random start.
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
        # Where the model is now, wherever it was trained before.
        state = torch.load(path, map_location=next(self.model.parameters()).device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        self.averaged = state["averaged"]
        self.step, self.seconds = state["step"], state["seconds"]
        cut_log(self.folder, self.step)

    def report(self, values: Losses, budget: Budget) -> None:
        """Say and write down what the step at hand lost."""
        losses = {name: value.item() for name, value in values.items()}
        self._names = list(losses)
        append_log(self.folder, {"step": self.step, "seconds": self.seconds, **losses})
        said = ", ".join(f"{name} {loss:.4g}" for name, loss in losses.items())
        print(f"step {self.step}: {said}; {clock(self.seconds)} of {clock(60 * budget.minutes)}", flush=True)

    @torch.no_grad()
    def show(self, samples: Callable[[nn.Module], Sequence[Row]]) -> None:
        """A sheet of what the averaged weights can do."""
        own = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.averaged)
        try:
            path = save_sheet(samples(self.model), self.folder, self.step)
        finally:
            self.model.load_state_dict(own)
        print(f"samples: {path}", flush=True)


def _optimizers(model: nn.Module, budget: Budget) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and kernels, AdamW for everything else."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() > 1 and min(parameter.flatten(1).shape) > 1]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in trained if id(parameter) not in chosen]
    return [
        Muon(matrices, lr=budget.matrix_rate),
        torch.optim.AdamW(others, lr=budget.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _set_rates(budget: Budget, run: _Run) -> None:
    warmup = min(1.0, (run.step + 1) / budget.warmup_steps)
    progress = min(1.0, run.seconds / (60 * budget.minutes))
    factor = warmup * max(0.01, (1 + math.cos(math.pi * progress)) / 2)
    for optimizer, rate in zip(run.optimizers, (budget.matrix_rate, budget.learning_rate), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
