"""A variant of four small files in two repositories of a hub on this machine, and its download."""

import dataclasses
import json
import random
import shutil
import zipfile
from pathlib import Path

from hub_server import HubServer

from ovi_studio.checkpoints import download
from ovi_studio.core.variants import HubFile, Part, Variant, published_variants

SIZE = 200_000
"""Bytes of the largest file; enough for a connection to break in its middle."""
MODEL, VAE = "someone/ovi/model.safetensors", "someone/wan/vae.pth"
TOKENIZER = ("someone/wan/google/tokenizer.json", "someone/wan/google/spiece.model")
EVERYTHING = {MODEL, VAE, *TOKENIZER}


def small_variant() -> Variant:
    """A variant of four small files in two repositories."""

    def wan(path: str) -> HubFile:
        return HubFile("someone/wan", path, "Wan", 0, "Apache-2.0")

    files = {
        Part.TRANSFORMER: (HubFile("someone/ovi", "model.safetensors", "Ovi", 0, "CC-BY-NC-4.0"),),
        Part.TOKENIZER: (wan("google/tokenizer.json"), wan("google/spiece.model")),
        Part.VIDEO_VAE: (wan("vae.pth"),),
    }
    return dataclasses.replace(published_variants()["720x720_5s"], name="small", files=files)


def local(directory: Path, file: str) -> Path:
    folder, path = {"ovi": "Ovi", "wan": "Wan"}[file.split("/")[1]], file.split("/", 2)[2]
    return directory / folder / path


def fill_hub(root: Path) -> None:
    noise = random.Random(0).randbytes(SIZE)
    header = json.dumps({"weight": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    contents = {MODEL: len(header).to_bytes(8, "little") + header + noise}
    contents |= {TOKENIZER[0]: b'{"model": "small"}', TOKENIZER[1]: b"\x0apieces"}
    for file, content in contents.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    with zipfile.ZipFile(root / VAE, "w") as archive:
        archive.writestr("data.pkl", noise[:50_000])


def get(directory: Path) -> list[download.DownloadProgress]:
    seen: list[download.DownloadProgress] = []
    inventory = download.fetch(download.plan(small_variant(), directory), seen.append)
    assert inventory.complete
    return seen


def assert_like_hub(directory: Path, hub: HubServer) -> None:
    for file in EVERYTHING:
        assert local(directory, file).read_bytes() == (hub.root / file).read_bytes()
    assert not list(directory.rglob("*.part"))


def copy(hub: HubServer, directory: Path, *files: str) -> None:
    for file in files:
        local(directory, file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(hub.root / file, local(directory, file))
