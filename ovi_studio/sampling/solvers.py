"""The official sigma grids over diffusers' flow-matching solvers, and the restart solver of distilled models.

Each solver of `core/solvers.py` is one function here, registered under its name. Each stream needs its own scheduler,
since the multistep ones remember earlier steps. All state that controls a solver stays on the host: no step waits for
the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ovi_studio.core.solvers import find_solver

TRAIN_TIMESTEPS = 1000
_UNIPC_SIGMA_MAX = float(np.float32(1 - 1 / TRAIN_TIMESTEPS))
"""Start of the official UniPC grid, before the shift, in its precision; at 1 its logarithms would be infinite."""
_MULTISTEP = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2}

Noise = Callable[[Tensor], Tensor]
"""Draws standard normal noise like the given latents."""


class RestartSolver:
    """Each step predicts the clean latents and restarts from them with fresh noise, less each time.

    Few-step models are distilled for this solver (consistency sampling, arXiv 2303.01469, algorithm 1; arXiv
    2405.14867). A step is x0 = x - sigma * velocity, then x = (1 - next sigma) * x0 + next sigma * noise.

    Args:
        sigmas: one per step, decreasing.
        noise: the source of each step's noise.
    """

    def __init__(self, sigmas: np.ndarray, noise: Noise) -> None:
        self.timesteps = torch.from_numpy(sigmas * TRAIN_TIMESTEPS)
        self.noise_levels: list[float] = [*sigmas.tolist(), 0.0]
        self._noise = noise
        self._index = 0

    def set_begin_index(self, begin_index: int) -> None:
        """Start with the step of this index, like diffusers' schedulers."""
        self._index = begin_index

    def step(self, velocity: Tensor, latents: Tensor) -> Tensor:
        """Return the latents at the next sigma."""
        sigma, following = self.noise_levels[self._index : self._index + 2]
        self._index += 1
        clean = latents - sigma * velocity
        return clean if following == 0 else torch.lerp(clean, self._noise(clean), following)


class DiffusersScheduler(Protocol):
    """What is used of diffusers' schedulers, whose types are not checked."""

    timesteps: Tensor
    sigmas: Tensor

    @property
    def step_index(self) -> int | None: ...

    @property
    def begin_index(self) -> int | None: ...

    def set_timesteps(self, num_inference_steps: int, *, device: str, sigmas: list[float] | None = None) -> None: ...

    def set_begin_index(self, begin_index: int) -> None: ...

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool
    ) -> tuple[Tensor, ...]: ...


Scheduler = DiffusersScheduler | RestartSolver


@dataclass(frozen=True)
class Grid:
    """The sigmas at which the model is evaluated on the way from noise to latents."""

    steps: int
    shift: float
    timesteps: Sequence[float] | None = None
    """Explicit timesteps, decreasing, at most 1000; sigma is a thousandth of each, without a shift."""

    def sigmas(self, start: float = 1.0) -> np.ndarray:
        """Return one sigma per step, decreasing from `start` (before the shift)."""
        if self.timesteps is None:
            return shifted(np.linspace(start, 0, self.steps + 1)[:-1], self.shift)
        return np.minimum(np.array(self.timesteps) / TRAIN_TIMESTEPS, start)


_Builder = Callable[[Grid, Noise], Scheduler]
_BUILDERS: dict[str, _Builder] = {}


def _builds(name: str) -> Callable[[_Builder], _Builder]:
    """Register the builder of the solver called `name` in `core/solvers.py`."""
    find_solver(name)

    def register(build: _Builder) -> _Builder:
        _BUILDERS[name] = build
        return build

    return register


def build_scheduler(
    solver: str,
    steps: int,
    shift: float,
    timesteps: Sequence[float] | None = None,
    noise: Noise = torch.randn_like,
) -> Scheduler:
    """Build a solver on the official grid of `steps` sigmas, or on explicit timesteps, ready for its first step.

    Args:
        solver: a name from `core/solvers.py`; raises `JobError` for any other.
        timesteps: explicit timesteps, decreasing, at most 1000; sigma is a thousandth of each, without a shift.
        noise: the source of the restart solver's noise.
    """
    return _BUILDERS[find_solver(solver).name](Grid(steps, shift, timesteps), noise)


@_builds("unipc")
def _unipc(grid: Grid, noise: Noise) -> Scheduler:
    return _on_grid(UniPCMultistepScheduler(**_MULTISTEP), grid, _UNIPC_SIGMA_MAX)


@_builds("dpm++")
def _dpm(grid: Grid, noise: Noise) -> Scheduler:
    return _on_grid(DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **_MULTISTEP), grid)


@_builds("euler")
def _euler(grid: Grid, noise: Noise) -> Scheduler:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=grid.shift if grid.timesteps is None else 1.0)
    # Its own grid is the official one; only explicit timesteps are passed.
    scheduler.set_timesteps(grid.steps, device="cpu", sigmas=None if grid.timesteps is None else grid.sigmas().tolist())
    scheduler.set_begin_index(0)
    return scheduler


@_builds("restart")
def _restart(grid: Grid, noise: Noise) -> Scheduler:
    return RestartSolver(grid.sigmas(), noise)


def shifted(sigmas: np.ndarray, shift: float) -> np.ndarray:
    """Move a grid towards noise: shift * sigma / (1 + (shift - 1) * sigma)."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def timesteps(scheduler: Scheduler) -> Sequence[float]:
    """Return one timestep per step, from noise to clean."""
    return scheduler.timesteps.tolist()


def noise_levels(scheduler: Scheduler) -> Sequence[float]:
    """Return the sigma at which each step starts, and after the last one 0."""
    return scheduler.noise_levels if isinstance(scheduler, RestartSolver) else scheduler.sigmas.tolist()


def begin_at(scheduler: Scheduler, index: int) -> None:
    """Leave out the steps before `index`; only before the first step."""
    scheduler.set_begin_index(index)


def advance(scheduler: Scheduler, velocity: Tensor, latents: Tensor) -> Tensor:
    """Return the latents one step closer to clean; the scheduler counts its steps itself."""
    if isinstance(scheduler, RestartSolver):
        return scheduler.step(velocity, latents)
    # The schedulers ignore the timestep, since their first index is set; the right one is passed for clarity.
    index = scheduler.begin_index if scheduler.step_index is None else scheduler.step_index
    current = scheduler.timesteps[index or 0]
    return scheduler.step(velocity, current, latents, return_dict=False)[0]


def _on_grid(scheduler: DiffusersScheduler, grid: Grid, start: float = 1.0) -> DiffusersScheduler:
    """Replace diffusers' grid by the official one, whose timesteps are truncated to integers, or by an explicit one."""
    scheduler.set_timesteps(grid.steps, device="cpu")
    sigmas = grid.sigmas(start)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
    whole = (sigmas * TRAIN_TIMESTEPS).astype(np.int64)
    explicit = grid.timesteps
    scheduler.timesteps = torch.from_numpy(whole if explicit is None else np.array(explicit, np.float32))
    scheduler.set_begin_index(0)
    return scheduler
