"""The count of bytes: what an operation reads and writes, what fusion leaves, and how much a step takes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from known_shapes import KnownShapes
from torch import Tensor
from torch.nn import functional

from ovi_studio.__main__ import main
from ovi_studio.bench.roofline import CARDS, expected, floor, frame_traffic, step_traffic
from ovi_studio.bench.steps import BenchShape, shapes
from ovi_studio.bench.traffic import LIBRARY, Kind, Traffic, TrafficCounter
from ovi_studio.core.weight_formats import Weights

ROWS, COLUMNS = 64, 256
SIZE = ROWS * COLUMNS * 2
"""Bytes of `matrix()`."""


def matrix(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(shape or (ROWS, COLUMNS), dtype=dtype, device="meta")


@pytest.fixture(autouse=True)
def _known_shapes() -> Iterator[None]:
    with KnownShapes():
        yield


def counted(work: Callable[[], Any], *, compiled: bool = False) -> dict[Kind, Traffic]:
    with torch.no_grad(), TrafficCounter() as counter:
        if compiled:
            with counter.compiled():
                result = work()
            result.sum()  # so that the result is read
        else:
            work()
    return counter.by_kind()


def pointwise(work: Callable[[], object]) -> tuple[int, int]:
    found = counted(work)[Kind.POINTWISE]
    return found.read, found.written


def test_an_operation_reads_its_inputs_and_writes_its_output() -> None:
    one, other = matrix(), matrix()
    assert pointwise(lambda: one + other) == (2 * SIZE, SIZE)
    assert pointwise(lambda: one.add_(other)) == (2 * SIZE, SIZE)
    assert pointwise(lambda: torch.mul(one, 2, out=other)) == (SIZE, SIZE)


def test_a_broadcast_value_is_read_once() -> None:
    row = matrix(1, COLUMNS)
    assert pointwise(lambda: matrix() * row)[0] == SIZE + COLUMNS * 2
    assert pointwise(lambda: matrix() * row.expand(ROWS, COLUMNS))[0] == SIZE + COLUMNS * 2


def test_views_and_allocations_are_free() -> None:
    assert counted(lambda: matrix().T.unsqueeze(0).flatten(0, 1)[2:].split(4)) == {}
    assert counted(lambda: (torch.empty_like(matrix()), matrix().new_empty(3))) == {}


def test_conversions_and_copies_are_kinds_of_their_own() -> None:
    found = counted(lambda: (matrix().float(), matrix().clone()))
    assert (found[Kind.CONVERSION].read, found[Kind.CONVERSION].written) == (SIZE, 2 * SIZE)
    assert found[Kind.COPY].bytes == 2 * SIZE
    # What is overwritten is not read.
    assert counted(lambda: matrix().copy_(matrix()))[Kind.COPY].read == SIZE


def test_attention_does_not_write_its_scores() -> None:
    query = matrix(1, 8, 512, 64)
    found = counted(lambda: functional.scaled_dot_product_attention(query, query, query))
    assert set(found) == {Kind.ATTENTION}
    assert found[Kind.ATTENTION].bytes < 1.1 * 4 * 8 * 512 * 64 * 2
    assert found[Kind.ATTENTION].flops == 2 * 2 * 8 * 512 * 512 * 64


@pytest.mark.parametrize("norm", [functional.rms_norm, functional.layer_norm])
def test_a_norm_is_one_kernel_after_a_copy_of_what_is_not_contiguous(norm: Callable[..., Tensor]) -> None:
    assert set(counted(lambda: norm(matrix(), (COLUMNS,)))) == {Kind.NORM}
    found = counted(lambda: norm(matrix(COLUMNS, ROWS).T, (COLUMNS,)))
    assert found[Kind.COPY].bytes == 2 * SIZE
    assert found[Kind.NORM].kernels == 1


def test_a_product_counts_its_operations() -> None:
    found = counted(lambda: functional.linear(matrix(), matrix(32, COLUMNS), matrix(32)))[Kind.PRODUCT]
    assert found.flops == 2 * ROWS * COLUMNS * 32
    assert found.read == SIZE + 32 * COLUMNS * 2 + 32 * 2


def test_an_operand_that_is_walked_in_steps_moves_the_gaps() -> None:
    moved = {
        "dense": counted(lambda: matrix() + matrix()),
        "every other": counted(lambda: matrix() + matrix(ROWS, 2 * COLUMNS)[:, ::2]),
        "across": counted(lambda: matrix() + matrix(COLUMNS, ROWS).T),
        "stacked": counted(lambda: torch.stack([matrix(), matrix()], -1)),
    }
    sums = {name: sum(found.values(), Traffic()).moved for name, found in moved.items()}
    # A value of two bytes that is alone in its sector of 32 moves all of it.
    factors = {"dense": 3, "every other": 4, "across": 2 + 16, "stacked": 2 + 2 * 16}
    assert sums == {name: factor * SIZE for name, factor in factors.items()}


def test_a_fused_region_reads_what_comes_from_outside_and_writes_what_leaves() -> None:
    x, weight = matrix(), matrix(COLUMNS, COLUMNS)

    def work() -> Tensor:
        kept = functional.silu(x * 2 + 1)
        return functional.gelu(kept @ weight) + kept

    found = counted(work, compiled=True)
    fused = found[Kind.FUSED]
    assert fused.kernels == 2
    # x; then the product and what was kept from before it.
    assert (fused.read, fused.written) == (SIZE + 2 * SIZE, SIZE + SIZE)
    assert found[Kind.PRODUCT].kernels == 1


def test_what_reads_the_same_is_fused() -> None:
    x, weight = matrix(), matrix(COLUMNS, COLUMNS)
    found = counted(lambda: (x * 2) @ weight + (x + 1) @ weight, compiled=True)[Kind.FUSED]
    assert found.read == SIZE + 2 * SIZE  # x once, then both products


def test_writing_a_part_keeps_the_rest() -> None:
    def work() -> Tensor:
        result = matrix() * 2
        result[:4] = matrix(4, COLUMNS)
        return result

    found = counted(work, compiled=True)[Kind.FUSED]
    assert (found.read, found.written) == (SIZE + 4 * COLUMNS * 2, SIZE)


# A step


def outside(found: dict[Kind, Traffic]) -> Traffic:
    """What is neither matrix product nor attention nor convolution."""
    return sum((one for kind, one in found.items() if kind not in LIBRARY), Traffic())


def two_blocks() -> BenchShape:
    """The full width and number of tokens, with two blocks, of which the negative pass skips one."""
    full = shapes()["704x704_5s"]
    return BenchShape({name: tower | {"num_layers": 2} for name, tower in full.fusion.items()}, full.video, full.audio)


@pytest.mark.slow
@pytest.mark.parametrize(("compiled", "gigabytes"), [(False, 21.72), (True, 10.65)])
def test_a_change_adds_no_more_than_a_twentieth_of_the_bytes_of_a_step(compiled: bool, gigabytes: float) -> None:
    """A change that saves more than a tenth writes its own number here."""
    found = outside(step_traffic(two_blocks(), guided=True, compiled=compiled))
    assert 0.9 * gigabytes < found.bytes / 1e9 < 1.05 * gigabytes


def test_an_eager_step_moves_no_more_than_it_reads_and_writes() -> None:
    """Its tensors are contiguous, but for the patches, of which there is one copy a step."""
    found = outside(step_traffic(two_blocks(), guided=True))
    assert found.moved < 1.1 * found.bytes


def test_a_step_counts_the_operations_that_the_formula_does() -> None:
    shape = two_blocks()
    demand = shape.demand(guided=False)
    found = sum(step_traffic(shape, guided=False).values(), Traffic())
    assert found.flops == pytest.approx(demand.sizes.flops(demand.video_tokens, demand.audio_tokens), rel=0.02)


@pytest.mark.slow
def test_int8_weights_are_read_as_bytes() -> None:
    shape = shapes()["demo"]
    plain, quantised = (step_traffic(shape, guided=False, weights=weights) for weights in (Weights.BF16, Weights.INT8))
    assert quantised[Kind.PRODUCT].read < plain[Kind.PRODUCT].read


@pytest.mark.slow
def test_a_longer_clip_does_not_change_what_a_decoded_frame_takes() -> None:
    shape = shapes()["demo"]
    frame = sum(frame_traffic(shape).values(), Traffic())
    assert frame.flops > 0
    frames, height, width = shape.video
    longer = replace(shape, video=(2 * frames, height, width))
    assert sum(frame_traffic(longer).values(), Traffic()) == frame
    larger = replace(shape, video=(frames, 2 * height, 2 * width))
    assert 3 * frame.bytes < sum(frame_traffic(larger).values(), Traffic()).bytes < 5 * frame.bytes


@pytest.mark.parametrize("card", CARDS)
def test_the_floor_is_the_longer_of_computing_and_moving(card: str) -> None:
    one = CARDS[card]
    computing, moving = Traffic(flops=10**15), Traffic(read=10**12, written=10**12, moved=3 * 10**12)
    assert floor(computing, one) == 1e15 / one.rate
    assert floor(moving, one) == 2e12 / one.bandwidth
    assert expected(Kind.POINTWISE, moving, one) == 3e12 / one.bandwidth
    assert expected(Kind.ATTENTION, computing, one) > floor(computing, one)


@pytest.mark.slow
def test_the_command_prints_a_row_for_every_kind_and_every_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "demo", "--traffic", "--compile"]) == 0
    printed = capsys.readouterr().out
    for word in ("compiled blocks", "matrix products", "attention", "fused", "latent frame", "convolutions", *CARDS):
        assert word in printed


@pytest.mark.parametrize("shape", ["clip", "704"])
def test_the_command_refuses_what_it_cannot_count(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", shape, "--traffic"]) == 1
    assert "choose one of small, demo, 704x704_5s" in capsys.readouterr().err


def test_a_channels_last_convolution_is_followed_by_no_copy() -> None:
    """On the meta device the result of a convolution in three dimensions has another layout than on a GPU."""
    video = matrix(1, 16, 4, 8, 8).to(memory_format=torch.channels_last_3d)
    weight = matrix(16, 16, 3, 3, 3).to(memory_format=torch.channels_last_3d)

    def normalised() -> Tensor:
        convolved = functional.conv3d(video, weight, padding=(1, 1, 1))
        return functional.rms_norm(convolved.movedim(1, -1), (16,))

    assert set(counted(normalised)) == {Kind.CONVOLUTION, Kind.NORM}
