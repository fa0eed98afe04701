"""The official sigma grids over diffusers' flow-matching solvers.

Each stream needs a solver of its own, since the multistep ones remember earlier steps. Everything that steers a solver
stays on the host: no step waits for the device.
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ovi_studio.spec import Solver

TRAIN_TIMESTEPS = 1000
_UNIPC_SIGMA_MAX = float(np.float32(1 - 1 / TRAIN_TIMESTEPS))
"""Where the official UniPC grid starts, before the shift, in its precision; at 1 its logarithms would be infinite."""

Scheduler = UniPCMultistepScheduler | DPMSolverMultistepScheduler | FlowMatchEulerDiscreteScheduler


def build_scheduler(solver: Solver, steps: int, shift: float) -> Scheduler:
    """A solver on the official grid of `steps` sigmas, ready for its first step."""
    if solver == "euler":
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(steps, device="cpu")
    else:
        scheduler = _multistep(solver)
        scheduler.set_timesteps(steps, device="cpu")
        start = _UNIPC_SIGMA_MAX if solver == "unipc" else 1.0
        _set_grid(scheduler, shifted(np.linspace(start, 0, steps + 1)[:-1], shift))
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
    # The timestep is not looked at, since the first index is set; it is the solver's own for the reader's sake.
    current = scheduler.timesteps[scheduler.step_index or 0]
    return scheduler.step(velocity, current, latents, return_dict=False)[0]


def _multistep(solver: Solver) -> UniPCMultistepScheduler | DPMSolverMultistepScheduler:
    options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2}
    if solver == "unipc":
        return UniPCMultistepScheduler(**options)
    return DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **options)


def _set_grid(scheduler: UniPCMultistepScheduler | DPMSolverMultistepScheduler, sigmas: np.ndarray) -> None:
    """Replace diffusers' grid by the official one, whose timesteps are cut to whole numbers."""
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
    scheduler.timesteps = torch.from_numpy((sigmas * TRAIN_TIMESTEPS).astype(np.int64))
