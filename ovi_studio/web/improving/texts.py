"""What the dialog for larger and smoother clips says."""

from ovi_studio.core.improvement import FRAME_RATES

TITLE = "Larger and smoother"
SIZE, SAME_SIZE = "Size of the picture", "As it is"
RATE, SAME_RATE = "Frames a second", "As they are"
RATES = [str(rate) for rate in FRAME_RATES]
QUEUEING, CANCEL = "Queueing…", "Cancel"
NO_UPSCALERS = "To make pictures larger, put an upscaler (.safetensors or .pth) into the folder of the upscalers."
NO_PACKAGE = "To make pictures larger, install the package spandrel; docs/improve.md says how."

# With {count} in place of a number, since the page counts.
ABOUT_ONE = "A copy of the clip is queued; the clip itself stays as it is. The sound is the same."
ABOUT_MANY = "Copies of {count} clips are queued; the clips themselves stay as they are. The sound is the same."
QUEUE_ONE, QUEUE_MANY = "Queue a copy", "Queue {count} copies"

_MOST_REASONS = 5


def refused(reasons: list[str]) -> str:
    """Why some of the clips were not queued, a line for each; empty if all were."""
    if not reasons:
        return ""
    head = "1 clip was not queued:" if len(reasons) == 1 else f"{len(reasons)} clips were not queued:"
    more = [f"and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    return "\n".join([head, *reasons[:_MOST_REASONS], *more])


def queued(count: int, what: str) -> str:
    """Copies of clips are queued; `what` is done to them."""
    return f"A copy is in the queue: {what}." if count == 1 else f"{count} copies are in the queue: {what}."
