"""`Improvement`: what is done to a clip that exists: its picture made larger, and more frames a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovi_studio.core.errors import JobError

FRAME_RATES = (48, 60)
"""Frames a second that a clip can be given."""
MAX_NAME_LENGTH = 300


@dataclass(frozen=True)
class Improvement:
    """What is done to a clip. Raises `JobError` if that is nothing, or something that is not possible."""

    upscaler: str | None = None
    """Name of a model in the folder of the upscalers; None: the size stays."""
    fps: int | None = None
    """One of `FRAME_RATES`; None: the frame rate stays."""
    sha256: str | None = None
    """Hash of the upscaler's file; another file of this name is then refused."""

    def __post_init__(self) -> None:
        rates = " or ".join(map(str, FRAME_RATES))
        if self.upscaler is None and self.fps is None:
            raise JobError(f"Nothing is to be done to the clip; choose an upscaler, or {rates} frames a second.")
        name_fits = isinstance(self.upscaler, str) and 0 < len(self.upscaler) <= MAX_NAME_LENGTH
        if self.upscaler is not None and not name_fits:
            raise JobError("The upscaler must be the name of a file in the folder of the upscalers.")
        if self.fps is not None and (isinstance(self.fps, bool) or self.fps not in FRAME_RATES):
            raise JobError(f"{str(self.fps)[:20]!r} is not a valid number of frames a second; choose {rates}.")
        if self.sha256 is not None and not isinstance(self.sha256, str):
            raise JobError("The hash of an upscaler must be text.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Improvement":
        """Inverse of `to_dict`; raises `JobError` for anything else."""
        if unknown := values.keys() - {"upscaler", "fps", "sha256"}:
            raise JobError(f"Unknown: {', '.join(sorted(map(str, unknown)))[:100]}; give `upscaler` and `fps`.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"upscaler": self.upscaler, "fps": self.fps, "sha256": self.sha256}

    @property
    def words(self) -> str:
        """A short description, such as "RealESRGAN_x2, 48 frames a second"."""
        parts = [self.upscaler, None if self.fps is None else f"{self.fps} frames a second"]
        return ", ".join(filter(None, parts))
