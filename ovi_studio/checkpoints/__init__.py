"""Checkpoint files: where they are, how they come here, and how they become models."""
