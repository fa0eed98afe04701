"""A record of a log is one line, whatever it quotes."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovi_studio.cli.sources import report
from ovi_studio.core.log_lines import one_line, start_log
from ovi_studio.core.requests import BadRow, Expansion, PromptWarning

FORGED = "clip\n2026-01-01 00:00:00,000 1 ERROR forged\r\x1b[2J\x85\u2028\u202e"


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level = logging.getLogger("ovi_studio").level
    before = list(root.handlers)
    start_log(tmp_path / "page.log", to_terminal=False)
    yield tmp_path / "page.log"
    logging.setLogRecordFactory(factory)
    logging.getLogger("ovi_studio").setLevel(level)
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()


def records(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\d{4}-", line)]


def test_text_with_control_characters_stays_in_its_line(log_file: Path) -> None:
    for logger in ("ovi_studio.web", "another.library", ""):
        logging.getLogger(logger).warning("%s cannot be read", FORGED)
    logging.getLogger("ovi_studio").info(FORGED)
    assert len(log_file.read_text(encoding="utf-8").splitlines()) == len(records(log_file)) == 4
    assert "\\n2026-01-01" in records(log_file)[0]
    assert "\\x1b[2J\\x85\\u2028\\u202e" in records(log_file)[0]


def test_a_traceback_follows_its_record_and_forges_none(log_file: Path) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("ovi_studio").exception("It failed")
    (record,) = records(log_file)
    assert record.endswith("ERROR It failed")
    lines = log_file.read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("  ") for line in lines[1:])
    assert any("ValueError: clip" in line for line in lines)


def test_plain_text_is_not_changed() -> None:
    assert one_line("Grüße, 東京 – “quoted” \\n") == "Grüße, 東京 – “quoted” \\n"


def test_a_command_reports_each_row_and_prompt_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report(Expansion((), (PromptWarning(FORGED, (FORGED,)),), (BadRow(1, FORGED),), (FORGED,)))
    said = capsys.readouterr().err
    assert [line.split(":")[0] for line in said.splitlines()] == ["note", "warning", "line 1"]
    assert "\x1b" not in said
