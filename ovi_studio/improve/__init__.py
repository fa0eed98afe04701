"""Clips that exist, made larger (`upscaler`, `tiles`) and smoother (`smooth`), chunk by chunk (`improver`)."""
