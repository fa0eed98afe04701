"""Damaged adapter files: each is read or refused with a message, quickly and without unpickling."""

import json
import pickle
import random
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_helpers import parameter_shapes
from places import REFERENCE

from ovi_studio.adapters.header import read_header
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.read import read_adapter
from ovi_studio.core.errors import JobError

MUTATIONS = 1000
SECONDS = 5.0
"""Processor time limit (the machine may be busy) for a file of at most 2 MB; a valid one takes a few milliseconds."""
BYTES = 64_000_000

SOURCES = sorted(
    path for path in (REFERENCE / "lora").rglob("*.safetensors") if not path.name.endswith(".expected.safetensors")
)
HUGE: list[Any] = [0, -1, 2**31, 2**40, 2**62, 2**64, 10**400, 1.5, 1e308, True, None, "64", [], {}, [64], float("nan")]


def flip_bits(content: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 16)):
        if content:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def flip_header_bytes(content: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 4)):
        if content:
            content[draw.randrange(min(len(content), 2000))] = draw.randrange(256)
    return bytes(content)


def cut(content: bytearray, draw: random.Random) -> bytes:
    return bytes(content[: draw.randint(0, len(content))])


def append(content: bytearray, draw: random.Random) -> bytes:
    return bytes(content) + draw.randbytes(draw.randint(1, 100))


def change_length(content: bytearray, draw: random.Random) -> bytes:
    length = draw.choice([0, 1, 2, 7, 2**24, 2**31, 2**32, 2**63 - 1, 2**64 - 1, draw.randrange(2**16)])
    return length.to_bytes(8, "little") + bytes(content[8:])


def swallow(content: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return bytes(content[:start] + content[start + draw.randint(1, 64) :])


def put_number(content: bytearray, draw: random.Random) -> bytes:
    """NaN or infinite values somewhere in the tensors."""
    if len(content) > 64:
        start = draw.randrange(len(content) // 2, len(content) - 4)
        content[start : start + 4] = draw.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"])
    return bytes(content)


def edit_header(content: bytearray, draw: random.Random) -> bytes:
    """Other shapes, byte ranges, formats and names in a header that stays well-formed JSON."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        return flip_bits(content, draw)
    for _ in range(draw.randint(1, 3)):
        name = draw.choice(list(header))
        _edit_entry(header, name, draw)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(content[8 + length :])


def _edit_entry(header: dict[str, Any], name: str, draw: random.Random) -> None:
    entry = header.get(name)
    match draw.randrange(8):
        case 0 if isinstance(entry, dict) and entry.get("shape"):
            entry["shape"][draw.randrange(len(entry["shape"]))] = draw.choice(HUGE)
        case 1 if isinstance(entry, dict) and "data_offsets" in entry:
            entry["data_offsets"] = [draw.choice(HUGE), draw.choice(HUGE)]
        case 2 if isinstance(entry, dict):
            entry["dtype"] = draw.choice(["F64", "F16", "BF16", "I64", "F8_E4M3", "C64", "", 5, None])
        case 3:
            header[name] = draw.choice(HUGE)
        case 4:
            header["__metadata__"] = draw.choice([*HUGE, {"a": 5}, {"ss_": "x" * 10_000}])
        case 5:
            header["x" * 100_000 + ".lora_A.weight"] = header.pop(name)
        case 6 if isinstance(entry, dict) and entry.get("shape"):
            entry["shape"] = [1] * draw.randint(1, 40) + entry["shape"]
        case _:
            suffix = draw.choice(
                [".lora_B.weight", ".alpha", ".dora_scale", ".lokr_w1", ".hada_w1_a", ".diff", ".lokr_t2"]
            )
            header[name.rpartition(".lora")[0] + suffix] = header.pop(name)


def nest(content: bytearray, draw: random.Random) -> bytes:
    depth = draw.choice([10, 1000, 100_000])
    text = b'{"a":' * depth + b"1" + b"}" * depth
    return len(text).to_bytes(8, "little") + text


def many_tensors(content: bytearray, draw: random.Random) -> bytes:
    """A header that describes very many tensors over the same bytes."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    text = json.dumps({f"blocks.0.self_attn.q.{index}.diff": entry for index in range(20_000)}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(16)


def disguise(content: bytearray, draw: random.Random) -> bytes:
    return pickle.dumps(_Bomb(), protocol=draw.randint(0, 5))


KINDS: list[tuple[Callable[[bytearray, random.Random], bytes], int]] = [
    (flip_bits, 8),
    (flip_header_bytes, 20),
    (cut, 15),
    (append, 3),
    (change_length, 5),
    (swallow, 8),
    (put_number, 8),
    (edit_header, 60),
    (nest, 2),
    (many_tensors, 1),
    (disguise, 3),
]


class _Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def _explode() -> None:
    raise AssertionError("a pickle was opened")


@pytest.fixture(scope="module")
def names() -> NameMap:
    return NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))


def refusal(path: Path, names: NameMap) -> str | None:
    """Return the message that refuses a file; None if the file can be used."""
    try:
        adapter = read_adapter(path, names)
    except JobError as error:
        return str(error)
    assert adapter.changes
    return None


@pytest.mark.slow
def test_no_damage_crashes_hangs_or_unpickles(tmp_path: Path, names: NameMap, monkeypatch: pytest.MonkeyPatch) -> None:
    for opener in ("torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler"):
        monkeypatch.setattr(opener, lambda *_, **__: _explode())
    draw = random.Random(20_240)
    mutate, weights = zip(*KINDS, strict=True)
    contents = [path.read_bytes() for path in SOURCES]
    refused = 0
    path = tmp_path / "damaged.safetensors"
    for number in range(MUTATIONS):
        (kind,) = draw.choices(mutate, weights)
        path.write_bytes(kind(bytearray(draw.choice(contents)), draw))
        start = time.process_time()
        sentence = refusal(path, names)
        if sentence is not None:
            refused += 1
            assert path.name in sentence, (number, kind.__name__)
            assert len(sentence) < 600, (number, kind.__name__)
        assert time.process_time() - start < SECONDS, (number, kind.__name__)
    assert MUTATIONS / 2 < refused < MUTATIONS, "the mutations are too harsh or too mild to say anything"


def test_what_is_read_from_damaged_files_can_be_applied(tmp_path: Path, names: NameMap) -> None:
    draw = random.Random(7)
    path = tmp_path / "damaged.safetensors"
    applied = 0
    for _ in range(150):
        path.write_bytes(draw.choice([flip_bits, edit_header])(bytearray(draw.choice(SOURCES).read_bytes()), draw))
        try:
            changes = read_adapter(path, names).changes
        except JobError:
            continue
        for parameter, own in changes.items():
            weight = torch.ones(names.shapes[parameter])
            for change in own:
                change.add_to(torch.zeros_like(weight), weight, 0.5)
                applied += 1
    assert applied


def test_a_damaged_peft_configuration_is_refused(tmp_path: Path, names: NameMap) -> None:
    source = REFERENCE / "lora" / "peft_rslora"
    folder = tmp_path / "peft"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes((source / "adapter_model.safetensors").read_bytes())
    config = bytearray((source / "adapter_config.json").read_bytes())
    draw = random.Random(3)
    for _ in range(200):
        (folder / "adapter_config.json").write_bytes(draw.choice([flip_bits, cut, swallow])(config.copy(), draw))
        assert (refusal(folder, names) or ".").endswith(".")


def test_headers_that_ask_for_memory_get_none(tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    tracemalloc.start()
    try:
        for length in (2**24, 2**32, 2**63):
            path.write_bytes(length.to_bytes(8, "little") + b"{}" * 100)
            with pytest.raises(JobError):
                read_header(path)
        for shape in ([2**40], [2**31, 2**31], [1] * 100):
            entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 2**42]}
            text = json.dumps({"a.diff": entry}).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text)
            with pytest.raises(JobError):
                read_header(path)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_the_library_lists_a_folder_of_damaged_files(tmp_path: Path) -> None:
    draw = random.Random(5)
    mutate, weights = zip(*KINDS, strict=True)
    for number in range(60):
        (kind,) = draw.choices(mutate, weights)
        (tmp_path / f"{number}.safetensors").write_bytes(kind(bytearray(draw.choice(SOURCES).read_bytes()), draw))
    library = AdapterLibrary(tmp_path)
    assert all(entry.problem is None or entry.problem.endswith(".") for entry in library.scan())
