"""What people read stands in the texts of its part of the page, where it can be read at once, and translated."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ovi_studio.web

WEB = Path(ovi_studio.web.__file__).parent
FOLDERS = ("drop", "header", "improving", "keyboard", "player", "saving", "tabs", "toasts")
SHARED = ("job_views.py", "studio_page.py", "uploads.py", "views.py")
MODULES = sorted(
    path
    for path in [*(WEB / name for name in SHARED), *(path for part in FOLDERS for path in (WEB / part).rglob("*.py"))]
    if path.name not in ("texts.py", "routes.py")
)
SCRIPTS = sorted(WEB.rglob("*.js"))

# Names of keys, and those that browsers, HTTP and Gradio give to things.
NAMES = {"Arrow", "Delete", "End", "Enter", "Escape", "Files", "Home", "Notification", "Tab"}
KEYS = re.compile(r"(Ctrl|Alt|Shift)\+\S+( Alt\+\S+)?|Esc|Space K|Delete|Enter|X Shift\+→")
PRODUCT = "Ovi Studio"
LITERAL = re.compile(r"""//[^\n]*|/\*.*?\*/|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)""", re.DOTALL)
TAG = re.compile(r"<[^>]*>|^[^<]*>|<[^>]*$")
READ_ATTRIBUTE = re.compile(r'(?:aria-label|title|alt|placeholder)="([^"{]+)')
LOGGED = ("debug", "info", "warning", "error", "exception")


def is_words(text: str) -> bool:
    """Whether a text begins as a sentence or a label does, or is several words in a row."""
    return bool(
        re.match(r"[A-Z][a-z]+(?=[\s.,:;!?…]|$)", text) or re.search(r"\b[a-z]{2,} [a-z]{2,} [a-z]{2,}\b", text)
    )


def words_of_script(source: str) -> Iterator[str]:
    """The words among the literals of a script."""
    for match in LITERAL.finditer(source):
        text = " ".join(re.sub(r"\$\{[^}]*\}", " some ", match[1] or "")[1:-1].split())
        if (
            text not in NAMES | {PRODUCT}
            and set(text.split()) != {"some"}
            and re.fullmatch(r"[\w\s.,:;!?…’-]+", text)
            and is_words(text)
        ):
            yield text


def words_of_module(source: str) -> Iterator[str]:
    """The words among the strings of a module that are neither documentation nor written into the log."""
    tree = ast.parse(source)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        logs = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOGGED
        if logs or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            left_out |= {id(part) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in left_out:
            continue
        if "=>" in node.value or "composer" in node.value:
            yield from words_of_script(node.value)
            continue
        shown = [TAG.sub(" ", node.value), *READ_ATTRIBUTE.findall(node.value)]
        yield from (
            text
            for text in map(str.strip, shown)
            if '="' not in text and not KEYS.fullmatch(text) and "(?:" not in text and is_words(text)
        )


def test_words_are_found_in_scripts_and_modules() -> None:
    script = 'say("Not saved"); label = `${at} of ${all} seconds`; // A comment.\nfind("#tabs .open a"); go("Escape");'
    assert list(words_of_script(script)) == ["Not saved", "some of some seconds"]
    module = '"""Documentation."""\nf(f"<p class=\'x\'>Step {n}</p>", \'<b aria-label="Close">\', "clips.css", "Esc")'
    assert sorted(words_of_module(module)) == ["Close", "Step"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(WEB)))
def test_a_module_of_the_page_has_no_words_of_its_own(path: Path) -> None:
    assert list(words_of_module(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_only_what_it_is_given_and_is_of_one_concept(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert list(words_of_script(source)) == []
    assert len(source.splitlines()) <= 400
