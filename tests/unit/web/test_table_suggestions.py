"""A helper's suggestions for a table: what is read, what is asked, and the table with accepted prompts."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from chat_server import chat_server, fails

from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.prompt_helper import HelperSettings
from ovi_studio.services.prompt_tables import read_table
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import table_suggestion_handlers
from ovi_studio.web.tabs.create.table_suggestion_handlers import TableSuggestionHandlers

BETTER = "A red ball rolls over a floor. <AUDCAP>Thuds.<ENDAUDCAP>"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TableSuggestionHandlers]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "shown"))
    with chat_server() as server, gr.Blocks():
        server.answers = [BETTER, fails(500)]
        options = RuntimeOptions(checkpoint_directory=tmp_path / "none")
        helper = HelperSettings(server.address, "tiny")
        with closing(Studio.open(tmp_path / "outputs", options, helper=helper)) as studio:
            yield TableSuggestionHandlers(studio, gr.File())


def write(folder: Path, text: str, name: str = "evening.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def sent(**values: Any) -> Any:
    return SimpleNamespace(_data=values)


def test_the_prompts_of_a_table_are_listed_by_their_lines_and_without_tags(
    handlers: TableSuggestionHandlers, tmp_path: Path
) -> None:
    table = write(tmp_path, f'text_prompt,seed\n"he says, <S>Hi.<E>",1\n,2\na,b,c\n{HOSTILE},3\n')
    assert handlers.read(table)["rows"] == [
        {"line": 2, "before": "he says, <S>Hi.<E>", "shown": "he says, “Hi.”"},
        {"line": 5, "before": HOSTILE, "shown": HOSTILE},
    ]


def test_each_prompt_has_its_own_answer_or_reason(handlers: TableSuggestionHandlers) -> None:
    answer = handlers.suggest(sent(line=2, before="a red ball"), "720x720_5s")["answer"]
    assert (answer["line"], answer["after"]) == (2, BETTER)
    assert "".join(text for edit, text in answer["changes"] if edit != "added") == "a red ball"
    assert "HTTP 500" in handlers.suggest(sent(line=3, before="a cube"), "720x720_5s")["answer"]["problem"]
    assert "no prompt yet" in handlers.suggest(sent(line=4), "720x720_5s")["answer"]["problem"]


def test_accepted_prompts_go_into_a_copy_that_holds_the_old_ones_too(
    handlers: TableSuggestionHandlers, tmp_path: Path
) -> None:
    table = write(tmp_path, "seed;text_prompt;typed_prompt\n1;a ball;\n2;a cube;what I typed first\n3;a ring;\n")
    value, path, origin = handlers.apply(sent(prompts={"2": BETTER, "3": "A cube.", "9": "no such line"}), table)
    assert value == {"applied": 3}
    assert origin["id"]
    assert [dict(row.cells) for row in read_table(path, 10).rows] == [
        {"prompt": BETTER, "typed_prompt": "a ball", "seed": "1"},
        {"prompt": "A cube.", "typed_prompt": "what I typed first", "seed": "2"},
        {"prompt": "a ring", "typed_prompt": "", "seed": "3"},
    ]
    assert Path(table).read_text().startswith("seed;text_prompt")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing\n1\n", "has no column text_prompt"),
        ("", "is empty"),
        ("text_prompt\n" + "a\n" * 9, "more than 5 rows"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_sentence(
    handlers: TableSuggestionHandlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    monkeypatch.setattr(table_suggestion_handlers, "MAX_PROMPTS", 5)
    problem = handlers.read(write(tmp_path, text))["problem"]
    assert sentence in problem
    assert str(tmp_path) not in problem
    assert "choose the file again" in handlers.read(None)["problem"]


@pytest.mark.parametrize("prompts", [None, [], {"x": "a"}, {"2": " "}, {"2": "a" * 4001}, {"2": 5}])
def test_what_is_no_prompt_is_not_put_into_the_table(
    handlers: TableSuggestionHandlers, tmp_path: Path, prompts: Any
) -> None:
    table = write(tmp_path, "text_prompt\na ball\n")
    value, path, _ = handlers.apply(sent(prompts=prompts), table)
    assert "problem" in value
    assert not isinstance(path, str)
