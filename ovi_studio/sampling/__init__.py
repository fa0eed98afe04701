"""From noise to latents: sigma grids, solvers, guidance and the denoising loop."""
