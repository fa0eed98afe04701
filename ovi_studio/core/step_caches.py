"""What a step may leave out and take from an earlier one. Imports no torch.

The page, the command line and `ClipSpec` take the names from `STEP_CACHES`; `sampling/guidance.py` follows the rule. It
depends on the number of a step alone, so several ranks always agree.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ovi_studio.core.errors import JobError


@dataclass(frozen=True)
class StepCache:
    """Which steps compute both passes; the others leave out the video of the negative one (`sampling/guidance.py`)."""

    name: str
    """Used in settings, files and API calls."""
    title: str
    """Shown on the page."""
    about: str
    """What it costs and gives: a few words for the page's help, without a full stop."""
    interval: float
    """Fraction of the steps: all steps in the first interval compute both passes, since they decide the layout of the
    clip, then only the last one of each. Few steps are far apart, so that an interval may be a single step."""

    def computes_both_passes(self, step: int, steps: int) -> bool:
        """Whether a step, counted from 0, computes both passes."""
        length = max(1, math.ceil(self.interval * steps))
        return step < length or step % length == length - 1


OFF = "off"
_STEP_CACHES = (
    StepCache(OFF, "Off", "every step is computed", interval=0),
    StepCache("fast", "Fast", "most guidance is reused, 1.3 (at 20) to 1.5 times as fast (at 50)", interval=0.08),
)
STEP_CACHES: Mapping[str, StepCache] = MappingProxyType({cache.name: cache for cache in _STEP_CACHES})
"""Name -> cache, in display order."""


def find_step_cache(name: Any) -> StepCache:
    """The cache called `name`; raises `JobError` that lists the valid names."""
    if not isinstance(name, str) or name not in STEP_CACHES:
        raise JobError(f"Unknown step cache {name!r}; choose one of {', '.join(STEP_CACHES)}.")
    return STEP_CACHES[name]


def describe_step_caches() -> str:
    """All caches and what they give, in one line."""
    return "; ".join(f"{cache.title}: {cache.about}" for cache in STEP_CACHES.values())
