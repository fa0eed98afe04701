"""The reference cases of adapters: what each changes, fused and at run time, and which files are refused."""

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from parity_case import CPU, Case, Place, load_case, relative_error
from parity_models import fresh_transformer, load_transformer
from safetensors.torch import load_file
from torch import nn

from ovi_studio.adapters.header import locate, read_header
from ovi_studio.adapters.manager import AdapterManager
from ovi_studio.adapters.match import match_header
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.core.adapter_stack import AdapterUse, Strength
from ovi_studio.core.errors import JobError

ADAPTER_TOLERANCE = 1e-5


def find_adapter_cases(directory: Path, place: Place) -> Iterator[Case]:
    for expected in sorted((directory / "lora").glob("*.expected.safetensors")):
        name = expected.name.removesuffix(".expected.safetensors")
        file = expected.with_name(f"{name}.safetensors")
        path = file if file.is_file() else file.with_suffix("")
        yield Case(
            f"lora/{name}/fused", ADAPTER_TOLERANCE, lambda path=path, to=expected: _fused_error(path, to, place)
        )
        yield Case(
            f"lora/{name}/run_time", ADAPTER_TOLERANCE, lambda path=path, to=expected: _run_time_error(path, to, place)
        )
        yield Case(f"lora/{name}/report", 0, lambda path=path, to=expected: _report_error(path, to))


def _fused_error(path: Path, expected: Path, place: Place) -> float:
    """What the parameters differ by after fusing; infinite if one differs that should not."""
    model = fresh_transformer(path.parent.parent, place)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    AdapterManager(model, lambda _: path).prepare((AdapterUse(name=path.name),), steps=1)
    differences = load_case(expected, place)
    after = {name: parameter - before[name] for name, parameter in model.named_parameters()}
    if any(change.any() for name, change in after.items() if name not in differences):
        return float("inf")
    return max(relative_error(after[name], difference) for name, difference in differences.items())


def _run_time_error(path: Path, expected: Path, place: Place) -> float:
    """What a scheduled adapter changes in its first step: layers by what they answer, other parameters by value."""
    model = fresh_transformer(path.parent.parent, place)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    use = AdapterUse(name=path.name, video=Strength.parse("1;0"), audio=Strength.parse("1;0"))
    AdapterManager(model, lambda _: path).prepare((use,), steps=2)
    errors = []
    for name, difference in load_case(expected, place).items():
        owner, _, kind = name.rpartition(".")
        layer = model.get_submodule(owner)
        if kind == "weight" and hasattr(layer, "get_base_layer"):
            unit = torch.eye(layer.in_features, device=place.device, dtype=place.dtype)
            change = (layer(unit) - layer.get_base_layer()(unit)).T
        else:
            plain = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
            change = getattr(plain, kind) - before[name]
        errors.append(relative_error(change, difference))
    return max(errors)


def _report_error(path: Path, expected: Path) -> int:
    """Tensors of the file that are neither used nor reported as left out, and parameters changed wrongly or not."""
    names = _name_map(load_transformer(path.parent.parent, CPU))
    header = read_header(locate(path).weights)
    match = match_header(path.name, header, names)
    used = {tensor for change in match.changes for tensor in change.tensors.values()}
    left_out = {item.tensor for item in match.report.unused}
    silent = bool(left_out) and match.report.warning() is None
    changed = {change.parameter for change in match.changes}
    return len(header.tensors.keys() ^ (used | left_out)) + len(changed ^ load_file(expected).keys()) + silent


def find_refused_adapters(directory: Path) -> Iterator[Case]:
    for path in sorted((directory / "lora" / "rejected").glob("*")):
        yield Case(f"lora/rejected/{path.name}", 0, lambda path=path: _refusal_error(path))


REASONS = {
    "empty": "is empty",
    "half": "contains only a part of its change",
    "html": "is a web page",
    "lfs": "is a git-lfs pointer",
    "nan": "contains NaN or infinite values",
    "match": "does not match this model",
    "pickle": "is a pickle",
    "truncated": "was cut off",
    "wrong": "was made for",
}
"""A word in the name of a refused case -> what the sentence must say."""


def _refusal_error(path: Path) -> int:
    """0 if the file is there and is refused with a sentence that says what its name does, without opening a pickle."""
    if not path.is_file():
        return 1
    reasons = [REASONS[word] for word in path.stem.split("_") if word in REASONS]
    names = _name_map(load_transformer(path.parent.parent.parent, CPU))
    never = AssertionError("a pickle was opened")
    with (
        patch("torch.load", side_effect=never),
        patch("pickle.load", side_effect=never),
        patch("pickle.loads", side_effect=never),
        patch("pickle.Unpickler", side_effect=never),
    ):
        try:
            read_adapter(path, names)
        except JobError as error:
            said = str(error)
            named = said.startswith(path.name) and said.endswith(".")
            return 0 if named and all(reason in said for reason in reasons) else 1
    return 1


def _name_map(model: nn.Module) -> NameMap:
    return NameMap({name: tuple(parameter.shape) for name, parameter in model.named_parameters()})
