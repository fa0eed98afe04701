"""From noise to latents: sigma grids, solvers, guidance and the denoising loop."""

from ovi_studio.core.imports import postpone

# Where SciPy is installed, diffusers' solvers import its statistics, for a sigma grid that few image models ask for.
postpone("scipy.stats")
