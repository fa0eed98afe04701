"""The two halves of the model that adapters can change apart."""

from typing import Literal

Tower = Literal["video", "audio"]
TOWERS: tuple[Tower, ...] = ("video", "audio")
