"""The two towers of the model, which adapters can change independently."""

from typing import Literal

Tower = Literal["video", "audio"]
TOWERS: tuple[Tower, ...] = ("video", "audio")
