"""Ovi Studio: clips with picture and sound from a prompt or a first frame."""

__version__ = "0.1.0"
