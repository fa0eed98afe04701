"""The predicted memory of training: the formulas against live tensors of whole steps, and which runs are refused."""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from live_tensors import Live
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ovi_studio.__main__ import main
from ovi_studio.bench.steps import BenchShape, shapes
from ovi_studio.core.variants import published_variants
from ovi_studio.models import fusion_block, token_layout
from ovi_studio.models.transformer import OviTransformer
from ovi_studio.training.flow import VelocityModel
from ovi_studio.training.lora import LoraSettings, add_lora
from ovi_studio.training.memory import TrainingDemand

ALL = LoraSettings()
KINDS = {
    "all": ALL,
    "rank 64": LoraSettings(rank=64),
    "fusion": LoraSettings(layers=("fusion",)),
    "attention": LoraSettings(layers=("attention",)),
    "ffn": LoraSettings(layers=("ffn",)),
    "video": LoraSettings(towers=("video",)),
    "audio": LoraSettings(towers=("audio",)),
    "whole": None,
}


# Counted live tensors


class _Attention(torch.autograd.Function):
    """Keeps what a GPU kernel keeps: its inputs, its output and a log-sum-exp for each query, but no scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:3], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class _Norm(torch.autograd.Function):
    """One fused norm in float32, as under autocast on a GPU (but not on a CPU)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, x.new_empty(*x.shape[:-1], 2))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), *(
            torch.empty_like(weight) if needed else None for needed in ctx.needs_input_grad[1:]
        )


def _norm(module: Any, x: Tensor) -> Tensor:
    given = (module.weight, getattr(module, "bias", None))
    return _Norm.apply(x.float(), *(None if tensor is None else tensor.float() for tensor in given))


@pytest.fixture
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def attention(*heads: Any) -> Tensor:
        return _Attention.apply(*(each.bfloat16() for each in heads[:3]))

    for module in (fusion_block, token_layout):
        monkeypatch.setattr(module, "attention", attention)
    monkeypatch.setattr(nn.RMSNorm, "forward", _norm)
    monkeypatch.setattr(nn.LayerNorm, "forward", _norm)
    yield
    _peak.cache_clear()


def _shallow(shape: BenchShape, layers: int) -> BenchShape:
    return replace(shape, fusion={tower: sizes | {"num_layers": layers} for tower, sizes in shape.fusion.items()})


def _model(shape: BenchShape, lora: LoraSettings | None) -> OviTransformer:
    with torch.device("meta"):
        model = OviTransformer(**shape.fusion)
    if lora is None:
        return model.requires_grad_(True)
    add_lora(model, lora)
    return model


def _faked(model: OviTransformer) -> OviTransformer:
    """Give the model fake tensors, which need no memory but, unlike meta tensors, take part in autocast."""
    for module in model.modules():
        for name, each in list(module.named_parameters(recurse=False)):
            dtype = torch.float32 if each.requires_grad else torch.bfloat16
            setattr(module, name, nn.Parameter(torch.empty(each.shape, dtype=dtype), requires_grad=each.requires_grad))
    return model


@cache
def _peak(kind: str, name: str, layers: int, batch: int, checkpointed: bool) -> int:
    """Return the peak bytes of one step, including its gradients."""
    shape = _shallow(shapes()[name], layers)
    model = _model(shape, KINDS[kind])
    with FakeTensorMode():
        _faked(model)
        if checkpointed:
            for block in model.fusion_blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        video = torch.empty(batch, shape.fusion["video"]["in_dim"], *shape.video)
        audio = torch.empty(batch, shape.audio, shape.fusion["audio"]["in_dim"])
        text = torch.empty(batch, 256, shape.fusion["video"].get("text_dim", 4096))
        with Live() as live:
            with torch.autocast("cpu", torch.bfloat16):
                made = VelocityModel(model)(video, audio, torch.empty(batch), text, text, clean_first_frame=False)
                pairs = zip(made, (video, audio), strict=True)
                loss = sum(functional.mse_loss(one.float(), other) for one, other in pairs)
            loss.backward()
    return live.peak


def _demand(kind: str, name: str, layers: int, batch: int, checkpointed: bool) -> TrainingDemand:
    clip = _shallow(shapes()[name], layers).demand(guided=False)
    return TrainingDemand(clip=clip, lora=KINDS[kind], batch_size=batch, checkpointed=checkpointed)


RUNS = [(kind, "704x704_5s", 2) for kind in KINDS] + [("all", "960x960_5s", 1)]


@pytest.mark.slow
@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize(("kind", "name", "batch"), RUNS)
def test_a_full_width_block_keeps_what_the_formula_says(kind: str, name: str, batch: int) -> None:
    """Counted per block: nothing is kept before the first trained layer, so the first block keeps less."""
    few, more = ((kind, name, layers, batch, False) for layers in (1, 2))
    counted, predicted = _peak(*more) - _peak(*few), _demand(*more).step_bytes - _demand(*few).step_bytes
    assert predicted == pytest.approx(counted, rel=0.2)
    assert _demand(*more).step_bytes > 0.95 * _peak(*more)


@pytest.mark.slow
@pytest.mark.usefixtures("_as_on_a_gpu")
@pytest.mark.parametrize(("kind", "name", "batch"), RUNS)
def test_a_full_width_step_of_checkpointed_blocks_needs_what_the_formula_says(kind: str, name: str, batch: int) -> None:
    for layers in (2, 4):
        run = (kind, name, layers, batch, True)
        assert _demand(*run).step_bytes == pytest.approx(_peak(*run), rel=0.2), run


# Refused runs

GIB = 2**30
COMMAND = ("train-lora", "clips", "--out", "white.safetensors", "--steps", "1")
Cuda = Callable[..., Any]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two published variants whose files have valid headers but no tensors."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for name in ("720x720_5s", "960x960_5s"):
        for file in (file for files in published_variants()[name].files.values() for file in files):
            path = folder / file.location
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix in {".pth", ".pt"}:
                zipfile.ZipFile(path, "w").close()
            else:
                header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
                path.write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture
def refusal(
    checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str | None]:
    """Run a command and return the sentence that refuses it; None if it passes the memory check and loads the files."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str, command: tuple[str, ...] = COMMAND, variant: str = "720x720_5s") -> str | None:
        assert main([*command, "--variant", variant, "--ckpt-dir", str(checkpoints), *options]) == 1
        sentence = capsys.readouterr().err
        if "cannot be read as a checkpoint" in sentence or "is not the" in sentence:
            return None
        assert "predicted to need" in sentence or "of host memory" in sentence
        return sentence

    return run


CHECKPOINTED, FOUR = "--gradient-checkpointing", ("--gpus", "4")


@pytest.mark.parametrize(
    ("gigabytes", "count", "options", "end"),
    [
        (8, 1, (), "predicted to need about 157.4 GB on the GPU"),
        (12, 1, (), "even with --gradient-checkpointing it needs 33.9 GB; this would fit: --variant demo."),
        (24, 1, (), "even with --gradient-checkpointing it needs 33.9 GB; this would fit: --variant demo."),
        (24, 1, (CHECKPOINTED,), "23.4 GB is available; this would fit: --variant demo."),
        (80, 1, (), "this would fit: --gradient-checkpointing."),
        (80, 1, (CHECKPOINTED,), None),
        (80, 1, (CHECKPOINTED, "--batch-size", "9"), "this would fit: --batch-size 5."),
        (
            12,
            4,
            (),
            "even with --gradient-checkpointing --gpus 4 it needs 20.0 GB; this would fit: --variant demo.",
        ),
        (24, 4, (), "this would fit: --gradient-checkpointing --gpus 3."),
        (24, 2, (), "--gradient-checkpointing --gpus 2 it needs 25.7 GB; this would fit: --variant demo."),
        (24, 4, (CHECKPOINTED, *FOUR), None),
        (24, 4, (CHECKPOINTED, *FOUR, "--batch-size", "4"), "this would fit: --batch-size 1."),
        (80, 4, (CHECKPOINTED, *FOUR), None),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_with_options_that_would(
    cuda: Cuda,
    refusal: Callable[..., str | None],
    gigabytes: int,
    count: int,
    options: tuple[str, ...],
    end: str | None,
) -> None:
    cuda(gigabytes, count)
    sentence = refusal(*options)
    assert sentence is None if end is None else sentence is not None and end in sentence


def test_suggested_options_fit(cuda: Cuda, refusal: Callable[..., str | None]) -> None:
    """The card with the least free memory counts: other programs use a part of one of them."""
    cards = cuda(24, 4).cards
    sentence = refusal("--batch-size", "3")
    assert sentence is not None
    offered = sentence.strip().rpartition("this would fit: ")[2].removesuffix(".").split()
    assert offered == ["--gradient-checkpointing", "--batch-size", "1", "--gpus", "3"]
    assert refusal(*offered) is None
    cards[2].taken = 4 * GIB
    sentence = refusal(*offered)
    assert sentence is not None
    assert "on each GPU" in sentence
    assert "19.4 GB is available" in sentence


def test_a_smaller_variant_is_suggested_if_nothing_else_helps(
    cuda: Cuda, refusal: Callable[..., str | None], checkpoints: Path
) -> None:
    cuda(24, 4)
    sentence = refusal(variant="960x960_5s")
    assert sentence is not None
    assert "--gradient-checkpointing --gpus 4 it needs 26.5 GB" in sentence
    assert "this would fit: --variant 720x720_5s --gradient-checkpointing --gpus 3." in sentence


def test_all_weights_of_a_published_model_need_more_than_an_adapter(
    cuda: Cuda, refusal: Callable[..., str | None]
) -> None:
    cuda(80, 4)
    command = ("train", "clips", "--out", "whole.safetensors", "--steps", "1", CHECKPOINTED)
    sentence = refusal(command=command)
    assert sentence is not None
    assert "even with --gpus 4 it needs 79.5 GB; this would fit: --variant demo." in sentence


def test_only_options_of_the_command_are_suggested_for_a_distillation(
    cuda: Cuda, refusal: Callable[..., str | None], tmp_path: Path
) -> None:
    cuda(80, 4)
    (tmp_path / "prompts.txt").write_text("a red ball")
    command = ("distil", "--out", "fast.safetensors", "--prompts", str(tmp_path / "prompts.txt"))
    sentence = refusal(command=command)
    assert sentence is not None
    assert "even with --batch-size 1 it needs" in sentence
    assert "--gradient-checkpointing" not in sentence


def test_encoding_only_needs_memory_for_the_text_encoder(cuda: Cuda, refusal: Callable[..., str | None]) -> None:
    cuda(24)
    assert refusal("--encode-only") is None
    cuda(12)
    assert "Encoding captions is predicted to need about 11.6 GB on the GPU" in (refusal("--encode-only") or "")


def test_too_little_host_memory_is_reported_before_loading(
    refusal: Callable[..., str | None], cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def available(gigabytes: float) -> None:
        memory = int(gigabytes * GIB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory, available=memory))

    available(64)
    assert "needs 77 GB of host memory" in (refusal() or "")  # float32 on a CPU
    cuda(80)
    available(16)
    assert refusal(CHECKPOINTED) is None  # the file is mapped, not copied
    assert "of host memory" in (refusal(CHECKPOINTED, "--sample-prompt", "a ball") or "")
