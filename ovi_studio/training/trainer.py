"""The training loop, over Accelerate: flow matching of every parameter of the transformer that requires a gradient.

The random draws of a step (samples, captions, noise, sigmas, conditions) depend only on the seed and the step's number.
So a run that is killed and resumed ends with the same weights as an uninterrupted one; with a time budget the number of
steps differs, their order does not. SIGTERM and Ctrl+C end a run after the current step, with a checkpoint.
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
from ovi_studio.training.cache import LatentDataset, SampleOrder, generator_for
from ovi_studio.training.flow import Losses, Unconditional, VelocityModel, flow_loss
from ovi_studio.training.optimizers import build_optimizers, rate_factor
from ovi_studio.training.report import TrainingProgress, append_log, cut_log, plot_losses
from ovi_studio.training.settings import TrainSettings
from ovi_studio.training.sharding import gather, gather_all, load_optimizer, shard, shard_like
from ovi_studio.training.stopping import stop_requests

CHECKPOINT = "checkpoint.pt"
EMA = "ema.safetensors"

Export = Callable[[Mapping[str, Tensor], Path], None]
"""Writes the averaged weights, under the names of the transformer's parameters, to a file."""
OnProgress = Callable[[TrainingProgress], None]
OnCheckpoint = Callable[[int], None]
ComputeLosses = Callable[[nn.Module, int], Losses]
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
    """Train the transformer in place on encoded clips, resuming a run found in `folder`.

    Args:
        unconditional: embeddings (tokens, dim) of the video tower's and the audio tower's negative prompt.
        folder: receives `checkpoint.pt`, `ema.safetensors` (the result; updated at every checkpoint), `log.jsonl`,
            `loss.png`.
        export: writes the result; by default, the averaged weights under their official names.
        on_progress: called every `log_seconds`; by default a line is printed.
        on_checkpoint: called with the step after every checkpoint; its time does not count as training.

    Raises:
        JobError: the run in `folder` trains other parameters, or the loss became NaN or infinite.
    """
    embeddings = unconditional if isinstance(unconditional, Unconditional) else Unconditional(*unconditional)
    order = SampleOrder(len(dataset), settings.seed)

    def compute_losses(accelerator: Accelerator, predict: nn.Module, index: int) -> Losses:
        number = index * accelerator.num_processes + accelerator.process_index
        generator = generator_for(settings.seed, number)
        chosen = order[number * settings.batch_size : (number + 1) * settings.batch_size]
        batch = dataset.batch(chosen, generator)
        return flow_loss(predict, batch, embeddings, settings.flow, generator, accelerator.device)

    run_training(
        transformer,
        compute_losses,
        settings,
        folder,
        export=export,
        on_progress=on_progress,
        on_checkpoint=on_checkpoint,
    )


def run_training(
    transformer: OviTransformer,
    compute_losses: Callable[[Accelerator, nn.Module, int], Losses],
    settings: TrainSettings,
    folder: Path,
    *,
    export: Export | None = None,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> None:
    """Run the loop of `train` with any loss.

    Args:
        compute_losses: computes the losses of the wrapped `VelocityModel` in the forward pass with this number, counted
            over the whole run; its random draws must depend only on that number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A process may train more than once; Accelerate would keep the first run's precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=settings.precision, cpu=not torch.cuda.is_available())
    with _prepared_blocks(transformer, settings):
        run = _Run(accelerator, transformer, settings, folder, export or save_weights)
        run.resume()
        with stop_requests() as stopping:
            run.train(partial(compute_losses, accelerator), on_progress or _print, on_checkpoint, stopping)


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors atomically to a safetensors file."""
    part = path.with_name(f"{path.name}.part")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, part, {"format": "pt"})
    part.replace(path)


class _Run:
    """A training run and its state."""

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
        # Only now: sharding replaces the parameters.
        self.parameters = {name: each for name, each in transformer.named_parameters() if each.requires_grad}
        if not self.parameters:
            raise ValueError("nothing in the transformer requires a gradient")
        self.optimizers, self.rates = zip(*build_optimizers(self.parameters, settings), strict=True)
        self.average = MovingAverage(self.parameters, settings.ema)

    def train(
        self,
        compute_losses: ComputeLosses,
        on_progress: OnProgress,
        on_checkpoint: OnCheckpoint | None,
        stopping: threading.Event,
    ) -> None:
        """Take steps until the end of the budget or until a stop is requested."""
        window = _Window(self)
        saved, saved_step = self.elapsed, -1
        clock = time.monotonic() - self.elapsed
        stop = False
        while not self.finished and not stop:
            losses, gradient = self.take_step(compute_losses)
            self.elapsed, stop = self.synchronise(time.monotonic() - clock, stopping.is_set())
            window.add(losses, gradient)
            if self.elapsed - window.elapsed >= self.settings.log_seconds:
                window = self.report(window, on_progress)
            if self.elapsed - saved >= 60 * self.settings.checkpoint_minutes:
                if window.steps:  # never save steps whose losses were not checked
                    window = self.report(window, on_progress)
                self.save(on_checkpoint)
                saved, saved_step = self.elapsed, self.step
                clock = time.monotonic() - self.elapsed
        if window.steps:
            self.report(window, on_progress)
        if saved_step != self.step:
            self.save(on_checkpoint)

    def synchronise(self, elapsed: float, stop: bool) -> tuple[float, bool]:
        """Return the mean time, and whether any process is to stop: all processes must take the same steps."""
        if self.accelerator.num_processes == 1:
            return elapsed, stop
        values = torch.tensor([elapsed / self.accelerator.num_processes, float(stop)], device=self.accelerator.device)
        elapsed, stops = self.accelerator.reduce(values, "sum").tolist()
        return elapsed, stops > 0

    @property
    def progress(self) -> float:
        """The fraction of the run that is done."""
        return self.settings.progress(self.step, self.elapsed)

    @property
    def finished(self) -> bool:
        return self.progress >= 1

    def take_step(self, compute_losses: ComputeLosses) -> tuple[list[Losses], Tensor]:
        """Take one optimizer step; returns its losses and its gradient norm."""
        factor = rate_factor(self.step, self.progress, self.settings)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        passes = self.settings.accumulation
        losses = []
        for index in range(self.step * passes, (self.step + 1) * passes):
            with self.accelerator.autocast():
                losses.append(compute_losses(self.model, index))
            self.accelerator.backward(losses[-1].total / passes)
        gradient = nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.step)
        return losses, gather(gradient)

    def report(self, window: "_Window", on_progress: OnProgress) -> "_Window":
        """Log and report a window of steps, and open the next one."""
        progress = window.summary()
        if self.accelerator.is_main_process:
            append_log(self.folder, asdict(progress))
            on_progress(progress)
        # A run does not recover from NaN, and another checkpoint would overwrite the last good one.
        if not math.isfinite(progress.video + progress.audio + progress.gradient):
            start = "the last checkpoint" if (self.folder / CHECKPOINT).is_file() else "the beginning"
            raise JobError(
                f"The loss became NaN or infinite at step {self.step}; lower the learning rate and "
                f"continue from {start}."
            )
        return _Window(self)

    def save(self, on_checkpoint: OnCheckpoint | None = None) -> None:
        """Write the checkpoint and the result, each atomically."""
        state = gather_all(
            {
                "parameters": self.parameters,
                "average": self.average.tensors,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "step": self.step,
                "elapsed": self.elapsed,
            },
            keep=self.accelerator.is_main_process,
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
        """Restore the checkpoint in the folder, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        # Every rank reads its shard from the whole file: memory-mapped, the file is in memory once at most.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=self.settings.sharded)
        _check_parameters(path, self.parameters, state["parameters"])
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(shard_like(state["parameters"][name], parameter))
                average = self.average.tensors[name]
                average.copy_(shard_like(state["average"][name], average))
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer(optimizer, own)
        self.step, self.elapsed = state["step"], state["elapsed"]
        if self.accelerator.is_main_process:
            cut_log(self.folder, self.step)


class _Window:
    """Running sums since the last report; nothing is read from the device until they are reported."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._start = run.step
        self.elapsed = run.elapsed
        self._sums = torch.zeros(())

    @property
    def steps(self) -> int:
        return self._run.step - self._start

    def add(self, losses: list[Losses], gradient: Tensor) -> None:
        video, audio = (torch.stack([getattr(loss, name) for loss in losses]).mean() for name in ("video", "audio"))
        # A scalar of the CPU, as the sums are at first, can be added to a tensor of any device.
        self._sums = self._sums + torch.stack([video.detach(), audio.detach(), gradient.detach().to(video)])

    def summary(self) -> TrainingProgress:
        run, settings = self._run, self._run.settings
        seconds = run.elapsed - self.elapsed
        video, audio, gradient = run.accelerator.reduce(self._sums / self.steps, "mean").tolist()
        samples = self.steps * settings.batch_size * settings.accumulation * run.accelerator.num_processes
        return TrainingProgress(
            step=run.step,
            elapsed=run.elapsed,
            remaining=settings.remaining(run.step, run.elapsed, seconds / self.steps),
            video=video,
            audio=audio,
            gradient=gradient,
            rate=rate_factor(run.step, run.progress, settings),
            step_seconds=seconds / self.steps,
            samples_per_second=samples / max(seconds, 1e-9),
        )


@contextmanager
def _prepared_blocks(transformer: OviTransformer, settings: TrainSettings) -> Iterator[None]:
    """Recompute the blocks in the backward pass or compile them, as the settings say; undone afterwards."""
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


def _check_parameters(path: Path, parameters: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    same_names = parameters.keys() == stored.keys()
    if not same_names or any(parameters[name].shape != tensor.shape for name, tensor in stored.items()):
        raise JobError(f"{path.parent} holds a run that trains other parameters; choose another folder or delete it.")


def _print(progress: TrainingProgress) -> None:
    print(progress.line(), flush=True)
