"""`auto` takes the fastest exact attention kernel, measured once; the card and its clock are stand-ins."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_cuda import computing_on_the_host
from torch import Tensor

from ovi_studio.checkpoints.hashes import CACHE_VARIABLE
from ovi_studio.checkpoints.layout import require
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.distributed.ranks import Ranks
from ovi_studio.models import attention as dispatch
from ovi_studio.models import attention_timing
from ovi_studio.models.attention_kernels import KERNELS
from ovi_studio.models.device import compute_device
from ovi_studio.runtime import attention_choice
from ovi_studio.runtime.attention_choice import choose_attention, exact_kernels
from ovi_studio.runtime.compute import Compute
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.pipeline import Pipeline

BF16 = torch.bfloat16
SHORT, LONG = 15_004, 54_900
NAMES = {backend: name for name, backend in dispatch._BACKENDS.items()}
Times = dict[str, tuple[float, float] | Exception]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "attention"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Times], list[str]]:
    """`clock(times)`: kernels take so many seconds for (short, long) clips; returns the names that were measured."""
    # As if every package were installed.
    monkeypatch.setattr(dispatch, "_check_attention_backend_requirements", lambda backend: None)

    def install(times: Times) -> list[str]:
        measured = []

        def seconds(attend: Any, tokens: int, *_: Any) -> float:
            name = NAMES[attend.keywords["backend"]]
            measured.append(name)
            found = times.get(name, (9.0, 9.0))
            if isinstance(found, Exception):
                raise found
            return found[attention_timing.MEASURED_TOKENS.index(tokens)]

        monkeypatch.setattr(attention_timing, "time_attention", seconds)
        return measured

    return install


def chosen(tokens: int = SHORT, dtype: torch.dtype = BF16, requested: str = "auto") -> str:
    return choose_attention(requested, tokens, compute_device(), dtype)


def test_auto_takes_the_fastest_kernel_for_the_length_of_the_clips(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]]
) -> None:
    cuda(24)
    clock({"native": (1.0, 10.0), "native-cudnn": (0.8, 11.0), "flash2": (1.2, 9.0)})
    assert chosen(SHORT) == chosen(27_000) == "native-cudnn"
    assert chosen(LONG) == chosen(32_000) == "flash2"


def test_a_kernel_that_is_not_exact_is_neither_measured_nor_chosen_unless_it_is_named(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]]
) -> None:
    cuda(24)
    measured = clock({"native": (1.0, 1.0), "sage": (0.1, 0.1)})
    assert chosen() == "native"
    assert "sage" not in measured
    assert chosen(requested="sage") == "sage"


def test_only_kernels_that_the_card_supports_are_measured(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]]
) -> None:
    usual = {"native", "native-flash", "native-cudnn", "flash2"}
    for gigabytes, expected in ((24, usual), (80, usual | {"flash3"})):
        cuda(gigabytes)
        measured = clock({})
        chosen()
        assert set(measured) == expected
    cuda(24).cards[0].capability = (7, 5)
    measured = clock({})
    assert chosen() == "native"
    assert measured == []  # there is no other one


def test_noise_does_not_decide(cuda: Callable[..., Any], clock: Callable[[Times], list[str]]) -> None:
    cuda(24)
    clock({"native": (1.0, 1.0), "flash2": (0.98, 0.96)})
    assert chosen(SHORT) == "native"
    assert chosen(LONG) == "flash2"


def test_a_card_is_measured_once_and_again_after_an_update(
    cuda: Callable[..., Any],
    clock: Callable[[Times], list[str]],
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = cuda(24).cards[0]
    measured = clock({"native": (1.0, 1.0), "flash2": (0.5, 0.5)})
    assert [chosen(), chosen(LONG), chosen()] == ["flash2"] * 3
    assert len(measured) == 4 * 2
    (kept,) = cache.iterdir()
    assert json.loads(kept.read_text())["subject"]["gpu"] == card.name

    for change in (
        lambda: setattr(card, "name", "NVIDIA GeForce RTX 3080"),
        lambda: monkeypatch.setattr(torch, "__version__", "2.14.0"),
        lambda: monkeypatch.setattr(attention_choice.importlib.metadata, "version", lambda name: "2.9.9"),
    ):
        measured.clear()
        change()
        chosen()
        assert len(measured) == 4 * 2
        chosen()
        assert len(measured) == 4 * 2


@pytest.mark.parametrize("content", ["", "[]", '{"subject": 1}', "null", "\udcff"])
def test_a_damaged_measurement_is_made_again(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]], cache: Path, content: str
) -> None:
    cuda(24)
    measured = clock({"native": (1.0, 1.0), "flash2": (0.5, 0.5)})
    chosen()
    (kept,) = cache.iterdir()
    kept.write_bytes(content.encode(errors="surrogateescape"))
    assert chosen() == "flash2"
    assert len(measured) == 2 * 4 * 2
    assert json.loads(kept.read_text())["seconds"]["flash2"] == [0.5, 0.5]


def test_a_cache_folder_that_cannot_be_written_only_costs_the_time(
    cuda: Callable[..., Any],
    clock: Callable[[Times], list[str]],
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuda(24)
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place")
    clock({"native": (1.0, 1.0), "flash2": (0.5, 0.5)})
    assert chosen() == "flash2"
    assert "could not be kept" in caplog.text


def test_a_kernel_that_fails_is_reported_and_not_used(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    cuda(24)
    measured = clock({"native": (1.0, 1.0), "flash2": RuntimeError("no kernel image is available")})
    with caplog.at_level(logging.WARNING):
        assert chosen() == "native"
    assert "'flash2' failed on NVIDIA GeForce RTX 3090" in caplog.text
    count = len(measured)
    chosen()
    assert len(measured) == count  # nor is it tried again


def test_memory_that_runs_out_is_not_taken_for_a_kernel_that_fails(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]], cache: Path
) -> None:
    cuda(24)
    clock({"native": torch.OutOfMemoryError("CUDA out of memory")})
    with pytest.raises(torch.OutOfMemoryError):
        chosen()
    assert not cache.exists()


def test_a_cpu_and_float32_have_nothing_to_choose_from(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]]
) -> None:
    measured = clock({})
    assert choose_attention("auto", SHORT, torch.device("cpu"), BF16) == "native"
    cuda(24)
    assert exact_kernels(compute_device(), torch.float32) == ["native"]
    assert chosen(dtype=torch.float32) == "native"
    assert measured == []


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "native"])
def test_a_kernel_that_computes_in_16_bits_is_refused_for_float32(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]], name: str
) -> None:
    cuda(80)
    clock({})
    with pytest.raises(JobError, match=f"'{name}' does not compute in float32; use 'native'"):
        chosen(dtype=torch.float32, requested=name)


class Group(Ranks):
    """One of two ranks: what the other one has, and what the leader decided."""

    def __init__(self, index: int, other: list[str], decided: str = "") -> None:
        self.index, self._other, self._decided = index, other, decided

    def all_gather(self, value: Any) -> Any:
        return [value, self._other]

    def broadcast(self, value: Any) -> Any:
        return value if self.is_leader else self._decided


def test_all_ranks_use_the_leaders_choice_of_what_each_of_them_has(
    cuda: Callable[..., Any], clock: Callable[[Times], list[str]]
) -> None:
    cuda(80)
    measured = clock({"native": (1.0, 1.0), "flash3": (0.3, 0.3), "flash2": (0.5, 0.5)})
    device, other = compute_device(), ["native", "flash2"]
    assert choose_attention("auto", SHORT, device, BF16, Group(0, other)) == "flash2"
    assert set(measured) == set(other)
    measured.clear()
    assert choose_attention("auto", SHORT, device, BF16, Group(1, other, "flash2")) == "flash2"
    assert measured == []


def test_a_kernel_is_timed_on_this_device_after_a_call_that_loads_it(
    cuda: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    time_attention = attention_timing.time_attention
    cards = cuda(24)
    now = iter([0.0, 5.0, 10.0, 12.0])
    monkeypatch.setattr(attention_timing.time, "perf_counter", lambda: next(now))
    shapes = []

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        shapes.append((query.shape, query.dtype))
        return value

    with computing_on_the_host():
        assert time_attention(attend, 64, compute_device(), BF16) == 2.0
    assert shapes == [((1, 64, 4, 128), BF16)] * 3
    assert cards.synchronised == 4


@pytest.mark.slow
def test_the_record_of_a_clip_names_the_kernel_that_made_it(
    cuda: Callable[..., Any],
    clock: Callable[[Times], list[str]],
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda(24)
    measured = clock({"native": (1.0, 1.0), "native-flash": (0.5, 0.5)})
    used = set()
    run = dispatch.dispatch_attention_fn

    def watch(*inputs: Tensor, backend: Any) -> Tensor:
        used.add(NAMES[backend])
        return run(*inputs)

    monkeypatch.setattr(dispatch, "dispatch_attention_fn", watch)
    with computing_on_the_host():
        pipeline = Pipeline.load(require("tiny", tiny_bundle), Compute.of(RuntimeOptions(compilation=False)))
        clip = pipeline(ClipSpec(prompt="a red ball", variant="tiny", steps=1, seed=7))
    assert clip.record["machine"]["attention"] == "native-flash"
    assert used == {"native-flash"}
    assert len(measured) == 4 * 2  # once, before the models were loaded
