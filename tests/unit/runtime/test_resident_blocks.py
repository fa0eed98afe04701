"""What stays on the device between clips: it is copied once, its memory is planned, and changes of weights reach it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_cuda import GIB, computing_on_the_host
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ovi_studio.capacity.memory import Demand
from ovi_studio.capacity.tiers import TIERS, plan_memory
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import published_variants
from ovi_studio.runtime import pinning
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pinning import Pinning
from ovi_studio.runtime.pipeline import Pipeline
from ovi_studio.runtime.streaming import HostedModel
from ovi_studio.runtime.transfers import DirectTransfers

GPU = torch.device("cuda", 0)
SPEC = ClipSpec(prompt="a red ball bounces", variant="tiny", steps=2, seed=7)
SIDE = 8


@pytest.fixture
def _gpu(cuda: Callable[..., Any]) -> Iterator[None]:
    cuda(24)
    with computing_on_the_host():
        yield


on_a_gpu = pytest.mark.usefixtures("_gpu")


def hosted_on_gpu(model: nn.Sequential, resident: int, kept: int, **options: Any) -> HostedModel:
    """Without pinning, which would pack what is copied."""
    options = {"transfers": lambda *_: DirectTransfers()} | options
    return HostedModel(model, GPU, list(model), resident, kept=kept, pinning=Pinning(torch.device("cpu")), **options)


class Taken(TorchDispatchMode):
    """Counts the bytes that copies take from the memory of given tensors."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self.bytes = 0
        self._homes = {tensor.untyped_storage().data_ptr() for tensor in tensors}

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: Any = (), options: Any = None) -> Any:
        if operation.overloadpacket.__name__ == "copy_" and inputs[1].untyped_storage().data_ptr() in self._homes:
            self.bytes += inputs[1].nbytes
        return operation(*inputs, **(options or {}))


def blocks(count: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(SIDE, SIDE, bias=False) for _ in range(count))).requires_grad_(False)


BLOCK = 4 * SIDE * SIDE


@pytest.mark.parametrize(("resident", "kept"), [(6, 6), (6, 4), (4, 4), (4, 1), (4, 0), (0, 0)])
@on_a_gpu
def test_a_second_use_copies_only_what_did_not_stay(resident: int, kept: int) -> None:
    model = blocks()
    x = torch.randn(3, SIDE)
    expected = model(x)
    hosted = hosted_on_gpu(model, resident, kept=kept)
    homes = [block.weight.data for block in model]
    streamed = 6 - resident
    for stays in (0, kept, kept):
        with Taken(*homes) as taken, hosted.in_use():
            at_first = taken.bytes
            assert torch.equal(model(x), expected)
        # Two slots are filled at the start.
        assert at_first == BLOCK * (resident - stays + min(streamed, 2))
    assert [block.weight.data_ptr() for block in model] == [home.data_ptr() for home in homes]


@on_a_gpu
def test_a_weight_that_was_changed_between_two_uses_counts() -> None:
    model = blocks()
    x = torch.randn(3, SIDE)
    hosted = hosted_on_gpu(model, 6, kept=6)
    with hosted.in_use():
        before = model(x)
    with hosted.writable():
        model[2].weight.data.mul_(2)
    with hosted.in_use():
        assert torch.allclose(model(x), 2 * before)
    assert torch.allclose(model(x), 2 * before)


@on_a_gpu
def test_a_weight_that_was_changed_in_use_stays_changed_on_the_device() -> None:
    model = blocks()
    x = torch.randn(3, SIDE)
    hosted = hosted_on_gpu(model, 4, kept=3)
    with hosted.in_use():
        before = model(x)
        with hosted.writable():
            for block in model:
                block.weight.data.mul_(2)
        assert torch.allclose(model(x), 2**6 * before)
    with hosted.in_use():
        assert torch.allclose(model(x), 2**6 * before)


@pytest.mark.parametrize("used", [False, True])
@on_a_gpu
def test_a_change_that_fails_half_way_leaves_nothing_old_on_the_device(used: bool) -> None:
    model = blocks()
    x = torch.randn(3, SIDE)
    hosted = hosted_on_gpu(model, 6, kept=6)
    with hosted.in_use():
        before = model(x)

    def change() -> None:
        with hosted.writable():
            model[0].weight.data.mul_(2)
            raise ZeroDivisionError

    def use() -> None:
        with hosted.in_use():
            change()

    with pytest.raises(ZeroDivisionError):
        use() if used else change()
    with hosted.in_use():
        assert torch.allclose(model(x), 2 * before)


@on_a_gpu
def test_blocks_that_may_no_longer_stay_are_freed() -> None:
    model = blocks()
    hosted = hosted_on_gpu(model, 6, kept=6)
    with hosted.in_use():
        pass
    hosted.set_resident(6, 2)
    with Taken(*(block.weight.data for block in model)) as taken, hosted.in_use():
        assert taken.bytes == 4 * BLOCK


@on_a_gpu
def test_a_change_of_weights_while_they_arrive_counts() -> None:
    model = blocks()
    x = torch.randn(3, SIDE)
    expected = 2 * model(x)
    hosted = hosted_on_gpu(model, 6, kept=6, transfers=lambda *_: Queued())
    hosted.fetch_kept()
    with hosted.writable():
        model[0].weight.data.mul_(2)
    with hosted.in_use():
        assert torch.allclose(model(x), expected)


class Queued(DirectTransfers):
    """Transfers that copy only when something waits for them."""

    def __init__(self) -> None:
        self.waiting: dict[int, tuple[Tensor, Tensor]] = {}

    def fetch(self, slot: int, target: Tensor, source: Tensor) -> None:
        assert slot not in self.waiting
        self.waiting[slot] = target, source

    def arrive(self, slot: int) -> None:
        target, source = self.waiting.pop(slot)
        target.copy_(source)


@on_a_gpu
def test_blocks_that_stay_arrive_while_another_model_computes() -> None:
    model = blocks()
    x = torch.randn(3, SIDE)
    expected = model(x)
    made: list[Queued] = []

    def transfers(device: torch.device, slots: int) -> Queued:
        made.append(Queued())
        return made[-1]

    hosted = hosted_on_gpu(model, 6, kept=4, transfers=transfers)
    hosted.fetch_kept()
    hosted.fetch_kept()
    assert [len(each.waiting) for each in made] == [4]
    for _ in range(2):
        with hosted.in_use():
            assert torch.equal(model(x), expected)
        assert not made[0].waiting
        hosted.fetch_kept()
    assert len(made) == 1, "they are all there"
    hosted.set_resident(6, 5)  # adapters that took their place are gone
    hosted.fetch_kept()
    assert [len(each.waiting) for each in made] == [0, 1]
    with hosted.in_use():
        assert torch.equal(model(x), expected)


@pytest.mark.slow
def test_the_second_clip_on_a_gpu_copies_no_block_that_stays_and_pins_nothing_again(
    cuda: Callable[..., Any], tiny_bundle: Path
) -> None:
    card = cuda(24)
    with computing_on_the_host():
        pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute.of(RuntimeOptions(memory="24")))
        assert pipeline.plan.kept == pipeline.plan.resident == 2
        weights = [p.data for block in pipeline.models.transformer.fusion_blocks for p in block.parameters()]
        others = [p.data for p in pipeline.models.video_vae.parameters()]
        pinned = list(card.pinned)
        taken = []
        for _ in range(2):
            with Taken(*weights) as blocks_taken, Taken(*others) as others_taken:
                pipeline(SPEC)
            taken.append((blocks_taken.bytes, others_taken.bytes > 0))
    assert taken == [(sum(weight.nbytes for weight in weights), True), (0, True)]
    assert pinned
    assert card.pinned == pinned
    assert {weight.untyped_storage().data_ptr() for weight in others} <= set(pinned)


def test_host_memory_that_is_short_is_not_pinned(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card = cuda(24)
    monkeypatch.setattr(pinning, "host_memory", lambda: SimpleNamespace(available=3 * GIB))
    model = blocks()
    scarce = Pinning(torch.device("cuda", 0))
    assert not scarce.has_room_for(1)
    with computing_on_the_host():
        hosted = HostedModel(model, torch.device("cuda", 0), list(model), 2, pinning=scarce)
        with hosted.in_use():
            pass
    assert not card.pinned
    assert [record.message.startswith("Host memory is short") for record in caplog.records] == [True]


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
@pytest.mark.parametrize("variant", list(published_variants()))
def test_blocks_that_stay_fit_next_to_decoder_and_text_encoder(variant: str, tier: Any) -> None:
    plan = plan_memory(tier, Demand.largest(published_variants()[variant]))
    assert 0 <= plan.kept <= plan.resident
    if plan.kept:
        assert plan.kept * plan.block_bytes + max(plan.decode_bytes, plan.text_bytes) <= plan.budget
        assert plan.peak_bytes <= plan.budget
    if tier.name in ("16", "24", "32"):
        assert plan.kept > 0


def test_a_3090_keeps_most_of_the_blocks_of_a_clip_at_720() -> None:
    tier = next(tier for tier in TIERS if tier.name == "24")
    plan = plan_memory(tier, Demand.largest(published_variants()["720x720_5s"]))
    assert plan.kept > plan.resident / 2
