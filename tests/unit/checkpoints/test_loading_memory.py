"""Loading holds no file in memory twice."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from official_checkpoints import part_path
from warm_start import PIPELINES

from ovi_studio.core.variants import Part
from ovi_studio.models.transformer import OviTransformer

FREE_BYTES = 6 * 10**9
"""On the disk, for the test with a large file."""
PROCESS = 7 * 10**8
"""Bytes of a process that has loaded nothing, 0.4 GB, and of what it converts at a time."""
CHILD = """
import ctypes
import os
import sys
from pathlib import Path
import torch
from ovi_studio.checkpoints.layout import require
from ovi_studio.checkpoints.load import load_models
from ovi_studio.core.weight_formats import Weights

# The allocator gives temporary tensors of the published width back at once, but would keep these smaller ones.
M_MMAP_THRESHOLD = -3
assert ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1000000)

def load(kind):
    dtype, weights = {"int8": ("bfloat16", "int8")}.get(kind, (kind, "bf16"))
    inventory = require("tiny", Path(sys.argv[1]))
    models = load_models(inventory, torch.device("cpu"), getattr(torch, dtype), weights=Weights(weights))
    # What is mapped counts only when it was touched.
    assert not any(each.any() for name, each in models.transformer.named_parameters() if not name.endswith("scale"))
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(kind, int(peak.split()[1]) * 1024, flush=True)

for kind in sys.argv[2:]:
    # Each in a process of its own, which has what is imported here in its memory, too.
    if (child := os.fork()) == 0:
        load(kind)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, kind
"""


@pytest.fixture
def large_bundle(bundle: Path) -> Iterator[Path]:
    """A bundle whose transformer is one float32 file of about 1.1 GB, all zeros."""
    if shutil.disk_usage(bundle).free < FREE_BYTES:
        pytest.skip(f"less than {FREE_BYTES / 1e9:g} GB of disk are free")
    entries = json.loads((bundle / "bundle.json").read_text())
    for tower in entries["dimensions"]["fusion"].values():
        tower |= {"dim": 1024, "ffn_dim": 4096, "num_heads": 8, "num_layers": 6}
    (bundle / "bundle.json").write_text(json.dumps(entries))
    with torch.device("meta"):
        shapes = {
            name: tensor.shape
            for name, tensor in OviTransformer(**entries["dimensions"]["fusion"]).state_dict().items()
        }
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * shape.numel()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    path = part_path(bundle, Part.TRANSFORMER)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        # The rest are zeros that take no time to write, but as much memory as any others to read.
        file.truncate(8 + len(encoded) + end)
    yield bundle
    path.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of resident memory is read from /proc")
def test_loading_takes_no_more_memory_than_the_weights_in_their_number_format(
    large_bundle: Path, python_environment: dict[str, str], tmp_path: Path
) -> None:
    size = part_path(large_bundle, Part.TRANSFORMER).stat().st_size
    assert size > 1e9
    (program := tmp_path / "load.py").write_text(CHILD)
    kinds = ("float32", "bfloat16", "int8")
    done = PIPELINES.run(str(program), str(large_bundle), *kinds, environment=python_environment)
    assert done.returncode == 0, done.stderr
    peaks = {kind: int(peak) for kind, peak in map(str.split, done.stdout.splitlines())}
    print(f"file {size / 1e9:.2f} GB; peaks: {peaks}")
    # The weights, and the process itself.
    assert peaks["float32"] < size + PROCESS
    assert peaks["bfloat16"] < size / 2 + PROCESS
    assert peaks["int8"] < size / 4 + PROCESS
