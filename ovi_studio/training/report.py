"""The reports of a run: progress lines, `log.jsonl` with every entry, `loss.png` with the curves."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

LOG = "log.jsonl"
PLOT = "loss.png"
_PLOT_SIZE = (900, 420)
_MARGIN = 48
_COLOURS = ((40, 90, 200), (210, 110, 30), (30, 140, 70), (150, 60, 170), (90, 90, 90))
_LEGEND = 140


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a run; losses, gradient norm and speed are means since the previous entry."""

    step: int
    elapsed: float
    """Seconds of training, including those before an interruption."""
    remaining: float
    """Estimated seconds of training left."""
    video: float
    """Loss of the video tower."""
    audio: float
    """Loss of the audio tower."""
    gradient: float
    """Gradient norm before clipping."""
    rate: float
    """Factor of the learning rates."""
    step_seconds: float
    samples_per_second: float

    def line(self) -> str:
        return (
            f"step {self.step}: video {self.video:.4f}, audio {self.audio:.4f}, gradient {self.gradient:.2f}, "
            f"{self.step_seconds:.3f} s/step, {self.samples_per_second:.1f} samples/s, "
            f"{clock(self.elapsed)} done, {clock(self.remaining)} left"
        )


def append_log(folder: Path, entry: Mapping[str, float]) -> None:
    """Append an entry, which has a `step`, to the log."""
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps({name: _rounded(value) for name, value in entry.items()}) + "\n")


def cut_log(folder: Path, step: int) -> None:
    """Remove the entries after a step, which are repeated when a run resumes from its checkpoint."""
    if (folder / LOG).is_file():
        kept = [json.dumps(entry) + "\n" for entry in read_log(folder) if entry["step"] <= step]
        part = folder / f"{LOG}.part"
        part.write_text("".join(kept), encoding="utf-8")
        part.replace(folder / LOG)


def read_log(folder: Path) -> list[dict[str, float]]:
    """Return every entry; a last line cut off by a crash is skipped."""
    entries = []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def plot_losses(folder: Path, names: Sequence[str]) -> None:
    """Plot these losses over the steps, raw and smoothed, on a logarithmic axis."""
    entries = read_log(folder) if (folder / LOG).is_file() else []
    if len(entries) < 2 or not names:
        return
    image = Image.new("RGB", _PLOT_SIZE, "white")
    draw = ImageDraw.Draw(image)
    steps = [entry["step"] for entry in entries]
    curves = {name: [max(entry[name], 1e-6) for entry in entries] for name in names}
    values = [value for curve in curves.values() for value in curve]
    low, high = math.log(min(values) * 0.95), math.log(max(values) * 1.05)
    width, height = (side - 2 * _MARGIN for side in _PLOT_SIZE)

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - steps[0]) / max(1, steps[-1] - steps[0])
        return _MARGIN + across * width, _MARGIN + height * (high - math.log(value)) / (high - low)

    for tick in range(5):
        value = math.exp(low + (high - low) * tick / 4)
        y = place(steps[0], value)[1]
        draw.line([(_MARGIN, y), (_MARGIN + width, y)], fill=(225, 225, 225))
        draw.text((4, y - 6), f"{value:.3g}", fill="black")
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        pale = tuple(200 + level // 5 for level in colour)
        draw.line([place(*point) for point in zip(steps, curve, strict=True)], fill=pale)
        draw.line([place(*point) for point in zip(steps, _smooth(curve), strict=True)], fill=colour, width=2)
        draw.text((_MARGIN + _LEGEND * number, 16), f"{name} loss", fill=colour)
    draw.text((_MARGIN, _PLOT_SIZE[1] - 30), f"steps {steps[0]:.0f} to {steps[-1]:.0f}", fill="black")
    part = folder / f"{PLOT}.part"
    image.save(part, "PNG")
    part.replace(folder / PLOT)


def _smooth(curve: Sequence[float]) -> list[float]:
    """Return the moving average over windows of about a twentieth of the curve."""
    reach = max(1, len(curve) // 40)
    windows = [curve[max(0, index - reach) : index + reach + 1] for index in range(len(curve))]
    return [sum(window) / len(window) for window in windows]


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def clock(seconds: float) -> str:
    """Format seconds as 1:02:03."""
    minutes, rest = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
