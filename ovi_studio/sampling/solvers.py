"""The official sigma grids over diffusers' flow-matching solvers, and the restart solver of distilled models.

Each solver of `core/solvers.py` is one function here, registered under its name. Each stream needs a scheduler of its
own, since the multistep ones remember earlier steps. Everything that steers a solver stays on the host: no step waits
for the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ovi_studio.core.solvers import find_solver

TRAIN_TIMESTEPS = 1000
_UNIPC_SIGMA_MAX = float(np.float32(1 - 1 / TRAIN_TIMESTEPS))
"""Where the official UniPC grid starts, before the shift, in its precision; at 1 its logarithms would be infinite."""
_MULTISTEP = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2}

Noise = Callable[[Tensor], Tensor]
"""Draws standard normal noise like the given latents."""


class RestartSolver:
    """Each step predicts the clean latents and starts anew from them with fresh noise, less of it every time.

    What few-step models are distilled for (consistency sampling, arXiv 2303.01469, algorithm 1; arXiv 2405.14867). A
    step is x0 = x - sigma * velocity, then x = (1 - next sigma) * x0 + next sigma * noise.

    Args:
        sigmas: one per step, falling.
        noise: where each step takes its noise from.
    """

    def __init__(self, sigmas: np.ndarray, noise: Noise) -> None:
        self.timesteps = torch.from_numpy(sigmas * TRAIN_TIMESTEPS)
        self._sigmas = [*sigmas.tolist(), 0.0]
        self._noise = noise
        self._index = 0

    def step(self, velocity: Tensor, latents: Tensor) -> Tensor:
        """The latents at the next sigma."""
        sigma, following = self._sigmas[self._index : self._index + 2]
        self._index += 1
        clean = latents - sigma * velocity
        return clean if following == 0 else torch.lerp(clean, self._noise(clean), following)


_Multistep = UniPCMultistepScheduler | DPMSolverMultistepScheduler
Scheduler = _Multistep | FlowMatchEulerDiscreteScheduler | RestartSolver


@dataclass(frozen=True)
class Grid:
    """Where the model is asked on the way from noise to latents."""

    steps: int
    shift: float
    timesteps: Sequence[float] | None = None
    """Explicit ones, falling, at most 1000; sigma is a thousandth of them, without a shift."""

    def sigmas(self, start: float = 1.0) -> np.ndarray:
        """One per step, falling from `start` (before the shift)."""
        if self.timesteps is None:
            return shifted(np.linspace(start, 0, self.steps + 1)[:-1], self.shift)
        return np.minimum(np.array(self.timesteps) / TRAIN_TIMESTEPS, start)


_Builder = Callable[[Grid, Noise], Scheduler]
_BUILDERS: dict[str, _Builder] = {}


def _builds(name: str) -> Callable[[_Builder], _Builder]:
    """Register what builds the solver called `name` in `core/solvers.py`."""
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
    """A solver on the official grid of `steps` sigmas, or on explicit timesteps, ready for its first step.

    Args:
        solver: a name of `core/solvers.py`; raises `JobError` for any other.
        timesteps: falling, at most 1000; sigma is a thousandth of them, without a shift.
        noise: where the restart solver takes its noise from.
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
    # Its own grid is the official one, so that it is only given one that it cannot know.
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
    """One per step, from noise to clean."""
    return scheduler.timesteps.tolist()


def advance(scheduler: Scheduler, velocity: Tensor, latents: Tensor) -> Tensor:
    """The latents one step closer to clean; the scheduler counts its steps itself."""
    if isinstance(scheduler, RestartSolver):
        return scheduler.step(velocity, latents)
    # The timestep is not looked at, since the first index is set; it is the solver's own for the reader's sake.
    current = scheduler.timesteps[scheduler.step_index or 0]
    return scheduler.step(velocity, current, latents, return_dict=False)[0]


def _on_grid(scheduler: _Multistep, grid: Grid, start: float = 1.0) -> _Multistep:
    """Replace diffusers' grid by the official one, whose timesteps are cut to whole numbers, or by an explicit one."""
    scheduler.set_timesteps(grid.steps, device="cpu")
    sigmas = grid.sigmas(start)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
    whole = (sigmas * TRAIN_TIMESTEPS).astype(np.int64)
    explicit = grid.timesteps
    scheduler.timesteps = torch.from_numpy(whole if explicit is None else np.array(explicit, np.float32))
    scheduler.set_begin_index(0)
    return scheduler
