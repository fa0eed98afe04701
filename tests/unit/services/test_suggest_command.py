"""`suggest`: prompts and tables of them, from the command line."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_server import ChatServer, chat_server, fails

from ovi_studio.__main__ import main
from ovi_studio.core.spec import ClipSpec

BETTER = "A red ball bounces on a wet wooden floor in warm light. Audio: Soft thuds of rubber."


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def run(server: ChatServer, *arguments: str) -> int:
    return main(["suggest", *arguments, "--helper", server.address, "--helper-model", "tiny", "--variant", "demo"])


def test_a_prompt_is_printed_and_nothing_else(server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers = [BETTER]
    assert run(server, "--prompt", "a red ball <lora:film:0.5>") == 0
    assert capsys.readouterr().out.strip().endswith("<lora:film:0.5>")


def test_a_table_gets_both_texts_and_rows_without_a_suggestion_keep_their_prompt(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, new = tmp_path / "prompts.csv", tmp_path / "new.csv"
    table.write_text("text_prompt,seed\na red ball,3\na blue cube,4\n")
    server.answers = [BETTER, fails(503)]
    assert run(server, "--prompts", str(table), "--out", str(new)) == 1
    first, second = csv.DictReader(new.open(newline=""))
    assert first["prompt"].startswith("A red ball bounces")
    assert (first["typed_prompt"], first["seed"]) == ("a red ball", "3")
    assert (second["prompt"], second["typed_prompt"], second["seed"]) == ("a blue cube", "", "4")
    assert "line 3: The server" in capsys.readouterr().err
    spec = ClipSpec.from_dict({**first, "variant": "demo"})
    assert spec.typed_prompt == "a red ball"
    assert ClipSpec.from_record(spec.to_dict()) == spec
    assert run(server, "--prompts", str(table), "--out", str(new)) == 1  # nothing is overwritten
    assert "exists; name a new file" in capsys.readouterr().err


def test_without_a_helper_a_sentence_says_how_to_set_one_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suggest", "--prompt", "a red ball"]) == 1
    assert "--helper ADDRESS --helper-model NAME" in capsys.readouterr().err


def test_a_picture_that_cannot_be_read_is_one_sentence(
    server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    server.answers = [BETTER]
    assert run(server, "--prompt", "", "--image", str(tmp_path / "a.png")) == 1
    assert "a.png" in capsys.readouterr().err
    assert not server.asked
