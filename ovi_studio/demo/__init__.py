"""The embedded model: the published layout and code with small dimensions, for machines without GPU or checkpoints."""
