"""The official sigma grids over diffusers' flow-matching solvers, and the restart solver of distilled models.

Each stream needs a solver of its own, since the multistep ones remember earlier steps. Everything that steers a solver
stays on the host: no step waits for the device.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ovi_studio.core.spec import Solver

TRAIN_TIMESTEPS = 1000
_UNIPC_SIGMA_MAX = float(np.float32(1 - 1 / TRAIN_TIMESTEPS))
"""Where the official UniPC grid starts, before the shift, in its precision; at 1 its logarithms would be infinite."""


class RestartSolver:
    """Each step predicts the clean latents and starts anew from them with fresh noise, less of it every time.

    What few-step models are distilled for (consistency sampling, arXiv 2303.01469, algorithm 1; arXiv 2405.14867). A
    step is x0 = x - sigma * velocity, then x = (1 - next sigma) * x0 + next sigma * noise.

    Args:
        sigmas: one per step, falling.
        noise: draws standard normal noise like the given latents.
    """

    def __init__(self, sigmas: np.ndarray, noise: Callable[[Tensor], Tensor]) -> None:
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


Scheduler = UniPCMultistepScheduler | DPMSolverMultistepScheduler | FlowMatchEulerDiscreteScheduler | RestartSolver


def build_scheduler(
    solver: Solver,
    steps: int,
    shift: float,
    timesteps: Sequence[float] | None = None,
    noise: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Scheduler:
    """A solver on the official grid of `steps` sigmas, or on explicit timesteps, ready for its first step.

    Args:
        timesteps: falling, at most 1000; sigma is a thousandth of them, without a shift.
        noise: where the restart solver takes its noise from.
    """
    start = _UNIPC_SIGMA_MAX if solver == "unipc" else 1.0
    sigmas = shifted(np.linspace(start, 0, steps + 1)[:-1], shift)
    if timesteps is not None:
        sigmas = np.minimum(np.array(timesteps) / TRAIN_TIMESTEPS, start)
    if solver == "restart":
        return RestartSolver(sigmas, noise)
    if solver == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift if timesteps is None else 1.0)
        # Its own grid is the official one, so that it is only given one that it cannot know.
        scheduler.set_timesteps(steps, device="cpu", sigmas=None if timesteps is None else sigmas.tolist())
    else:
        scheduler = _multistep(solver)
        scheduler.set_timesteps(steps, device="cpu")
        _set_grid(scheduler, sigmas, timesteps)
    scheduler.set_begin_index(0)
    return scheduler


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


def _multistep(solver: Solver) -> UniPCMultistepScheduler | DPMSolverMultistepScheduler:
    options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2}
    if solver == "unipc":
        return UniPCMultistepScheduler(**options)
    return DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **options)


def _set_grid(
    scheduler: UniPCMultistepScheduler | DPMSolverMultistepScheduler,
    sigmas: np.ndarray,
    timesteps: Sequence[float] | None,
) -> None:
    """Replace diffusers' grid by the official one, whose timesteps are cut to whole numbers, or by an explicit one."""
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
    whole = (sigmas * TRAIN_TIMESTEPS).astype(np.int64)
    scheduler.timesteps = torch.from_numpy(whole if timesteps is None else np.array(timesteps, np.float32))
