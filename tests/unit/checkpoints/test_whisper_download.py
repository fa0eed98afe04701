"""`download whisper`: the listener's files, from a local hub."""

import argparse
import json
from pathlib import Path

import pytest
from hub_server import HubServer

from ovi_studio.checkpoints.whisper_files import SIZES
from ovi_studio.cli.download import COMMAND


def run(directory: Path, *arguments: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.add_options(parser)
    return COMMAND.run(parser.parse_args(["whisper", "--ckpt-dir", str(directory), *arguments]))


@pytest.mark.slow
def test_whisper_is_downloaded_once_with_its_licence_shown(
    hub: HubServer, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hub.root / "openai/whisper-small"
    folder.mkdir(parents=True)
    for name in SIZES:
        (folder / name).write_bytes(b"{}")
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    assert run(directory, "--dry-run") == 0
    assert not (directory / "whisper-small").exists()
    assert run(directory) == 0
    text = capsys.readouterr().out
    assert "whisper-small/model.safetensors  (openai/whisper-small, Apache-2.0)" in text
    assert "Listener whisper is complete" in text
    assert {path.name for path in (directory / "whisper-small").iterdir()} >= set(SIZES)
    hub.requests.clear()
    assert run(directory) == 0
    assert hub.requests == []
