"""Small GPUs: quantised weights, blocks that are streamed from host memory, and the tiers that choose between them."""
