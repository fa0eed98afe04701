"""The colours of both modes can be read, and stand in one place."""

import re
from itertools import product
from pathlib import Path

import pytest

import ovi_studio.web as web
from ovi_studio.web.document import head
from ovi_studio.web.theme import build_theme
from ovi_studio.web.tokens import DARK, LIGHT, Palette, gradio_variables, own_variables, token_rules

WEB = Path(web.__file__).parent
HEX = re.compile(r"(?:#|%23)[0-9a-fA-F]{3,8}\b(?=[\s;,)'])")
RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
GRADIO_CLASSES = {
    "gradio-container",
    "html-container",
    "label-wrap",
    "prose",
    "source-selection",
    "tab-container",
    "tab-wrapper",
    "wrap-inner",
}
modes = pytest.mark.parametrize("palette", [DARK, LIGHT], ids=["dark", "light"])


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@modes
def test_text_has_enough_contrast_on_every_background(palette: Palette) -> None:
    p = palette
    pairs = list(product((p.text, p.subdued, p.accent), (p.background, p.panel, p.field, p.raised)))
    pairs += [(p.on_fill, p.fill), (p.on_fill, p.fill_hover), (p.text, p.raised_hover), (p.accent_hover, p.panel)]
    pairs += product((p.good, p.warn, p.bad), (p.panel, p.background))
    pairs += [(p.good, p.good_soft), (p.warn, p.warn_soft), (p.bad, p.bad_soft), (p.text, p.bad_soft)]
    assert [(*pair, round(contrast(*pair), 2)) for pair in pairs if contrast(*pair) < 4.5] == []


@modes
def test_what_marks_a_control_has_enough_contrast(palette: Palette) -> None:
    p = palette
    pairs = list(product((p.strong_line, p.focus, *p.batches), (p.background, p.panel, p.field)))
    assert [(*pair, round(contrast(*pair), 2)) for pair in pairs if contrast(*pair) < 3] == []


def test_both_modes_have_the_same_tokens() -> None:
    assert own_variables(DARK).keys() == own_variables(LIGHT).keys()


def test_no_stylesheet_names_a_colour_of_its_own() -> None:
    found = {
        str(path.relative_to(WEB)): colours
        for path in WEB.rglob("*.css")
        if (colours := HEX.findall(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_sizes_of_text_that_have_a_token_stand_nowhere_else() -> None:
    found = {
        path.name: sizes
        for path in WEB.rglob("*.css")
        if (sizes := re.findall(r"font-size: 1[2-5](?:\.\d)?px", path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_every_variable_of_a_stylesheet_has_a_value() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in WEB.rglob("*") if path.suffix in (".css", ".js"))
    given = set(re.findall(r"(--[\w-]+):", f"{sources} {token_rules()} {build_theme()._get_theme_css()}"))
    given |= set(re.findall(r'setProperty\(\s*"(--[\w-]+)"', sources)) | {"--icon", "--own"}  # of `theme`
    assert set(re.findall(r"var\((--[\w-]+)[,)]", sources)) - given == set()


def test_there_is_one_ring_around_what_has_the_focus() -> None:
    rules = [rule for path in WEB.rglob("*.css") for rule in RULE.findall(path.read_text(encoding="utf-8"))]
    rings = {
        outline.removesuffix(" !important")
        for selector, body in rules
        if "focus" in selector
        for outline in re.findall(r"outline: ([^;]+)", body)
    }
    assert rings == {"2px solid var(--focus)", "none"}


def test_every_class_and_id_of_a_stylesheet_is_one_that_the_page_has() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in WEB.rglob("*") if path.suffix in (".py", ".js"))
    known = set(re.findall(r"[A-Za-z][\w-]*", sources)) | GRADIO_CLASSES | {"too-much"}  # of `PaceLevel`
    unknown = {
        (path.name, name)
        for path in WEB.rglob("*.css")
        for selector, _ in RULE.findall(path.read_text(encoding="utf-8"))
        for name in re.findall(r"[.#]([A-Za-z][\w-]*)", selector)
        if name not in known
    }
    assert unknown == set()


@pytest.mark.parametrize("path", sorted(WEB.rglob("*.css")), ids=lambda path: path.name)
def test_a_stylesheet_closes_what_it_opens_and_is_of_one_concept(path: Path) -> None:
    # All of them are one text on the page, so that a rule that is not closed takes the others with it.
    depth = 0
    text = path.read_text(encoding="utf-8")
    for sign in re.findall(r"[{}]", text):
        depth += 1 if sign == "{" else -1
        assert depth in (0, 1, 2)
    assert depth == 0
    assert len(text.splitlines()) <= 400


def test_the_first_paint_has_the_colours_of_the_theme() -> None:
    for needed in (DARK.background, LIGHT.background, "localStorage"):
        assert needed in head()


def test_the_head_comes_before_everything_else_in_the_document() -> None:
    from gradio import routes

    from ovi_studio.web.document import serve_own_document

    serve_own_document()
    serve_own_document()  # a second server in the same process adds nothing
    source, *_ = routes.templates.env.loader.get_source(routes.templates.env, "frontend/index.html")  # type: ignore
    assert source.count(head()) == 2  # of the login page and of the page
    assert source.rindex(head()) < source.index("<script>window.gradio_config")


def test_every_variable_with_a_colour_has_a_value_for_each_mode() -> None:
    theme, one_value = build_theme(), {"color_accent"}
    lacking = {name for name in gradio_variables(DARK) if not hasattr(theme, f"{name}_dark")}
    assert lacking == one_value
    assert all(f"--{name.replace('_', '-')}: {gradio_variables(DARK)[name]}" in token_rules() for name in one_value)
