"""What only a GPU takes, without one: `torch.cuda` answers as cards of given sizes would (see `fake_cuda`)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import computing_on_the_host

from ovi_studio.checkpoints.layout import require
from ovi_studio.memory.gpu import available_memory, compute_device, usable_memory
from ovi_studio.pipeline import Compute, Pipeline
from ovi_studio.spec import ClipSpec

SOURCES = Path(__file__).parents[1] / "ovi_studio"
SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=2, seed=7)
GIB = 2**30

Cuda = Callable[..., Any]
CARDS = [(8, 1, False), (12, 1, False), (16, 1, False), (24, 1, False), (24, 1, True), (80, 1, False), (24, 4, True)]
every_card = pytest.mark.parametrize(("gigabytes", "count", "desktop"), CARDS)


def test_a_device_always_has_an_index(cuda: Cuda) -> None:
    assert compute_device() == torch.device("cpu")
    cards = cuda(24, 4)
    assert compute_device() == torch.device("cuda", 0)
    cards.current = 2
    assert compute_device() == Compute.default().device == torch.device("cuda", 2)


def test_only_one_place_makes_a_device() -> None:
    made = re.compile(r"""device\(\s*f?["']cuda|device\(.*if torch\.cuda\.is_available""")
    places = [path for path in SOURCES.rglob("*.py") if made.search(path.read_text(encoding="utf-8"))]
    assert places == [SOURCES / "memory" / "gpu.py"]


def test_memory_is_what_this_process_may_have(cuda: Cuda) -> None:
    card = cuda(24).cards[0]
    device = compute_device()
    before = usable_memory(device)
    card.allocated, card.reserved = 3 * GIB, 5 * GIB
    assert usable_memory(device) == before
    assert available_memory(device) == before - 3 * GIB
    torch.cuda.set_per_process_memory_fraction(0.25, device)
    assert usable_memory(device) == int(card.total * 0.25)


@every_card
def test_a_clip_is_made_on_every_card(cuda: Cuda, tiny_bundle: Path, gigabytes: int, count: int, desktop: bool) -> None:
    cuda(gigabytes, count, desktop=desktop)
    with computing_on_the_host():
        pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute.default())
        clip = pipeline(SPEC)
    assert clip.record["machine"]["device"].startswith("NVIDIA")
    assert clip.frames.shape == (17, 64, 64, 3)
