"""How much memory upscaling takes, and how many frames a second: a small random model on 121 frames of 704x1280.

`python tests/measure_improve.py [FRAMES]` prints both, on as many threads as there are cores, with the machine's load
meanwhile. It exits with 1 if memory rose by more than `LIMIT` above what the process had before.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

import numpy as np
import psutil
import torch
from upscaler_files import write_upscaler

from ovi_studio.core.clip import Clip
from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.improve.improver import ClipImprover, Target
from ovi_studio.improve.upscaler_library import UpscalerLibrary
from ovi_studio.media.clip_files import write_clip
from ovi_studio.media.film import Film

LIMIT = 2**30
HEIGHT, WIDTH = 704, 1280


def make_clip(folder: Path, frames: int) -> Path:
    """A clip of noise that moves, which the encoder finds as hard as real ones."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8 + frames, WIDTH // 8, 3), np.uint8)
    with Film(frames, HEIGHT, WIDTH) as film:
        for index in range(frames):
            film.add(noise[index : index + HEIGHT // 8].repeat(8, 0).repeat(8, 1)[None])
    samples = np.zeros(frames * 16_000 // 24, np.float32)
    return write_clip(Clip(ClipSpec(prompt="noise", variant="960x960_5s"), film, samples), folder)


def main() -> int:
    """Measure; returns the exit status."""
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 121
    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_upscaler(folder / "upscalers" / "small.safetensors", 2)
        clip = make_clip(folder / "clips", frames)
        improver = ClipImprover(UpscalerLibrary(folder / "upscalers"), device="cpu")
        peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        before, start = psutil.Process().memory_info().rss, time.monotonic()
        target = Target(folder / "out", "larger", folder / "work", "measured")
        improver.improve(clip, Improvement("small"), target, lambda done, total: None)
        seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rise = (peak - before) / 2**20
    # What making the clip took at its peak hides a smaller rise.
    hidden = " at most" if peak == peak_before else ""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{frames} frames of {HEIGHT}x{WIDTH} by 2: {rise:.0f} MB above {before / 2**20:.0f} MB{hidden}")
    print(f"{frames / seconds:.2f} frames a second on {os.cpu_count()} cores, load {load}")
    return 1 if rise * 2**20 > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
