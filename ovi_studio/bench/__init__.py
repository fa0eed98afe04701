"""Reproducible measurements: forward passes of the transformer, and the cost of adapters."""
