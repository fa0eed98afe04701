"""A drawn picture for what has none of its own, such as a LoRA file: a waveform that its name decides."""

import hashlib

from ovi_studio.web.tokens import BATCH_COLOURS

_BARS = 21


def drawn_html(name: str) -> str:
    """Render the picture of a name, the same every time; `page.css` gives it its place and its colours."""
    digest = hashlib.sha256(name.encode()).digest()
    heights = [12 + (byte % 64) * _envelope(index) for index, byte in enumerate(digest[1 : _BARS + 1])]
    bars = "".join(f"M{10 + index * 7} {45 - height / 2:.0f}v{height:.0f}" for index, height in enumerate(heights))
    return (
        f'<svg class="drawn batch-{digest[0] % BATCH_COLOURS}" viewBox="0 0 160 90" aria-hidden="true" '
        f'preserveAspectRatio="xMidYMid slice"><path d="{bars}"/></svg>'
    )


def _envelope(index: int) -> float:
    """Quiet at both ends, as speech is."""
    middle = (_BARS - 1) / 2
    return 1 - 0.8 * abs(index - middle) / middle
