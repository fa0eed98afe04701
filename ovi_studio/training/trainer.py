"""The training loop, over Accelerate: flow matching of whatever in the transformer requires a gradient.

What a step draws (samples, captions, noise, sigmas, conditions) is decided by the seed and the step's number alone. So
a run that was killed and started again ends with the same weights as one that was not; with a time budget the number of
steps differs, the order does not. SIGTERM and Ctrl+C end a run after the step at hand and a checkpoint.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ovi_studio.core.errors import JobError
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.average import MovingAverage
from ovi_studio.training.cache import LatentDataset, Order, generator_for
from ovi_studio.training.flow import Losses, Unconditional, VelocityModel, flow_loss
from ovi_studio.training.optimizers import build_optimizers, rate_factor
from ovi_studio.training.report import Progress, append_log, cut_log, plot_losses
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.sharding import gathered, load_optimizer, shard, shared_like, whole
from ovi_studio.training.stopping import stop_requests

CHECKPOINT = "checkpoint.pt"
EMA = "ema.safetensors"

Export = Callable[[Mapping[str, Tensor], Path], None]
"""Writes the averaged weights, under the names of the transformer's parameters, to a file."""
OnProgress = Callable[[Progress], None]
OnCheckpoint = Callable[[int], None]
LossOf = Callable[[nn.Module, int], Losses]
"""Losses of the wrapped `VelocityModel` in the forward pass with this number, counted over the whole run."""


def train(
    transformer: OviTransformer,
    dataset: LatentDataset,
    unconditional: tuple[Tensor, Tensor] | Unconditional,
    settings: TrainSettings,
    folder: Path,
    *,
    export: Export | None = None,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> None:
    """Train the transformer in place on encoded clips; a run that is found in `folder` is continued.

    Args:
        unconditional: embeddings (tokens, dim) of the video tower's and the audio tower's negative prompt.
        folder: takes `checkpoint.pt`, `ema.safetensors` (the result; new at every checkpoint), `log.jsonl`, `loss.png`.
        export: writes the result; without it, the averaged weights under their official names.
        on_progress: called every `log_seconds`; without it a line is printed.
        on_checkpoint: called with the step after every checkpoint; its time is not counted as training.

    Raises:
        JobError: the run in `folder` cannot be continued with these parameters, or its loss became NaN or infinite.
    """
    if not isinstance(unconditional, Unconditional):
        unconditional = Unconditional(*unconditional)
    order = Order(len(dataset), settings.seed)

    def loss_of(accelerator: Accelerator, predict: nn.Module, index: int) -> Losses:
        place = index * accelerator.num_processes + accelerator.process_index
        generator = generator_for(settings.seed, place)
        chosen = order[place * settings.batch_size : (place + 1) * settings.batch_size]
        batch = dataset.batch(chosen, generator)
        return flow_loss(predict, batch, unconditional, settings.flow, generator, accelerator.device)

    run_training(
        transformer, loss_of, settings, folder, export=export, on_progress=on_progress, on_checkpoint=on_checkpoint
    )


def run_training(
    transformer: OviTransformer,
    loss_of: Callable[[Accelerator, nn.Module, int], Losses],
    settings: TrainSettings,
    folder: Path,
    *,
    export: Export | None = None,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> None:
    """The loop of `train` with any loss.

    Args:
        loss_of: losses of the wrapped `VelocityModel` in the forward pass with this number, counted over the whole
            run; all that it draws must follow from that number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # One process may train twice; Accelerate would keep the first one's precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=settings.precision, cpu=not torch.cuda.is_available())
    with _prepared_blocks(transformer, settings):
        run = _Run(accelerator, transformer, settings, folder, export or save_weights)
        run.resume()
        with stop_requests() as stopping:
            run.work(partial(loss_of, accelerator), on_progress or _print, on_checkpoint, stopping)


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file that appears when it is whole."""
    part = path.with_name(f"{path.name}.part")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, part, {"format": "pt"})
    part.replace(path)


class _Run:
    """A training run and where it stands."""

    def __init__(
        self,
        accelerator: Accelerator,
        transformer: OviTransformer,
        settings: TrainSettings,
        folder: Path,
        export: Export,
    ) -> None:
        self.accelerator = accelerator
        self.settings = settings
        self.folder = folder
        self.export = export
        self.step = 0
        self.elapsed = 0.0
        model = VelocityModel(transformer).train()
        self.model = shard(accelerator, model) if settings.sharded else accelerator.prepare(model)
        # Only now: sharding puts other parameters in their place.
        self.parameters = {name: each for name, each in transformer.named_parameters() if each.requires_grad}
        if not self.parameters:
            raise ValueError("nothing in the transformer requires a gradient")
        self.optimizers, self.rates = zip(*build_optimizers(self.parameters, settings), strict=True)
        self.average = MovingAverage(self.parameters, settings.ema)

    def work(
        self,
        loss_of: LossOf,
        on_progress: OnProgress,
        on_checkpoint: OnCheckpoint | None,
        stopping: threading.Event,
    ) -> None:
        """Steps until the end of the budget or a wish to stop."""
        window = _Window(self)
        saved = self.elapsed
        clock = time.monotonic() - self.elapsed
        stop = False
        while not self.finished and not stop:
            losses, gradient = self.advance(loss_of)
            self.elapsed, stop = self.agree(time.monotonic() - clock, stopping.is_set())
            window.add(losses, gradient)
            if self.elapsed - window.elapsed >= self.settings.log_seconds:
                window = self.report(window, on_progress)
            if self.elapsed - saved >= 60 * self.settings.checkpoint_minutes:
                if window.steps:  # what is saved was looked at
                    window = self.report(window, on_progress)
                self.save(on_checkpoint)
                saved = self.elapsed
                clock = time.monotonic() - self.elapsed
        if window.steps:
            self.report(window, on_progress)
        self.save(on_checkpoint)

    def agree(self, elapsed: float, stop: bool) -> tuple[float, bool]:
        """The same time and the same wish to stop in every process, since all must take the same steps."""
        if self.accelerator.num_processes == 1:
            return elapsed, stop
        values = torch.tensor([elapsed / self.accelerator.num_processes, float(stop)], device=self.accelerator.device)
        elapsed, wishes = self.accelerator.reduce(values, "sum").tolist()
        return elapsed, wishes > 0

    @property
    def progress(self) -> float:
        """Part of the run that is done."""
        if self.settings.steps is not None:
            return min(1.0, self.step / self.settings.steps)
        return min(1.0, self.elapsed / (60 * self.settings.minutes))

    @property
    def finished(self) -> bool:
        return self.progress >= 1

    def advance(self, loss_of: LossOf) -> tuple[list[Losses], Tensor]:
        """One step; returns what it lost and the norm of its gradient."""
        factor = rate_factor(self.step, self.progress, self.settings)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        passes = self.settings.accumulation
        losses = []
        for index in range(self.step * passes, (self.step + 1) * passes):
            with self.accelerator.autocast():
                losses.append(loss_of(self.model, index))
            self.accelerator.backward(losses[-1].total / passes)
        gradient = nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.step)
        return losses, gathered(gradient)

    def report(self, window: "_Window", on_progress: OnProgress) -> "_Window":
        """Say what happened in a window, and open the next one."""
        progress = window.summary()
        if self.accelerator.is_main_process:
            append_log(self.folder, asdict(progress))
            on_progress(progress)
        # A run that has left the numbers never comes back, and its checkpoint would be lost with it.
        if not math.isfinite(progress.video + progress.audio + progress.gradient):
            kept = "the last checkpoint" if (self.folder / CHECKPOINT).is_file() else "the beginning"
            raise JobError(
                f"The loss is no number any more at step {self.step}; lower the learning rate and go on from {kept}."
            )
        return _Window(self)

    def save(self, on_checkpoint: OnCheckpoint | None = None) -> None:
        """Write the checkpoint and the result, each whole or not at all."""
        state = whole(
            {
                "parameters": self.parameters,
                "average": self.average.tensors,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "step": self.step,
                "elapsed": self.elapsed,
            },
            kept=self.accelerator.is_main_process,
        )
        if self.accelerator.is_main_process:
            self._write(state)
            if on_checkpoint is not None:
                on_checkpoint(self.step)
        self.accelerator.wait_for_everyone()

    def _write(self, state: dict[str, Any]) -> None:
        part = self.folder / f"{CHECKPOINT}.part"
        torch.save(state, part)
        part.replace(self.folder / CHECKPOINT)
        self.export(state["average" if self.settings.ema else "parameters"], self.folder / EMA)
        plot_losses(self.folder, ("video", "audio"))

    def resume(self) -> None:
        """Go on from the checkpoint in the folder, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        # Every rank reads the whole file to take its share: mapped, it is in memory once at most.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=self.settings.sharded)
        _check_same(path, self.parameters, state["parameters"])
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(shared_like(state["parameters"][name], parameter))
                average = self.average.tensors[name]
                average.copy_(shared_like(state["average"][name], average))
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, own)
        self.step, self.elapsed = state["step"], state["elapsed"]
        if self.accelerator.is_main_process:
            cut_log(self.folder, self.step)


class _Window:
    """Sums since the last report; nothing is read from the device before it is reported."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._start = run.step
        self.elapsed = run.elapsed
        self._sums: Tensor | None = None

    @property
    def steps(self) -> int:
        return self._run.step - self._start

    def add(self, losses: list[Losses], gradient: Tensor) -> None:
        video, audio = (torch.stack([getattr(loss, name) for loss in losses]).mean() for name in ("video", "audio"))
        values = torch.stack([video.detach(), audio.detach(), gradient.detach().to(video)])
        self._sums = values if self._sums is None else self._sums + values

    def summary(self) -> Progress:
        run, settings = self._run, self._run.settings
        seconds = run.elapsed - self.elapsed
        video, audio, gradient = run.accelerator.reduce(self._sums / self.steps, "mean").tolist()
        samples = self.steps * settings.batch_size * settings.accumulation * run.accelerator.num_processes
        if settings.minutes is not None:
            remaining = 60 * settings.minutes - run.elapsed
        else:
            remaining = (settings.steps - run.step) * seconds / self.steps
        return Progress(
            step=run.step,
            elapsed=run.elapsed,
            remaining=max(0.0, remaining),
            video=video,
            audio=audio,
            gradient=gradient,
            rate=rate_factor(run.step, run.progress, settings),
            step_seconds=seconds / self.steps,
            samples_per_second=samples / max(seconds, 1e-9),
        )


@contextmanager
def _prepared_blocks(transformer: OviTransformer, settings: TrainSettings) -> Iterator[None]:
    """Blocks that are computed again in the backward pass, or compiled; plain ones again afterwards."""
    if settings.gradient_checkpointing:
        for block in transformer.fusion_blocks:
            block.forward = partial(  # type: ignore[method-assign]  # of this block alone
                checkpoint, block.forward, use_reentrant=False
            )
    if settings.compiled:
        transformer.compile_blocks()
    try:
        yield
    finally:
        for block in transformer.fusion_blocks:
            block.__dict__.pop("forward", None)
            block.__dict__.pop("forward_one", None)


def _check_same(path: Path, parameters: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    same = parameters.keys() == stored.keys()
    if not same or any(parameters[name].shape != tensor.shape for name, tensor in stored.items()):
        raise JobError(f"{path.parent} holds a run that trains other parameters; choose another folder or delete it.")


def _print(progress: Progress) -> None:
    print(progress.line(), flush=True)
