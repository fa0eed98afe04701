"""The helper's suggestion on the page: asked for, seen as a difference, accepted, undone, and kept with the clip."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import accessibility_faults, close_toasts, go_on, needs_browser, new_page
from chat_server import ChatServer, chat_server, fails
from page_helpers import newest, remember_form, reset_form
from studio_app import Application, running

pytestmark = needs_browser
BETTER = "A red ball bounces on a wet wooden floor. A man says, <S>Look.<E> <AUDCAP>Soft thuds.<ENDAUDCAP>"


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    with chat_server() as found:
        yield found


@pytest.fixture(scope="module")
def application(server: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    outputs = tmp_path_factory.mktemp("suggestion") / "outputs"
    with running(outputs, "--helper", server.address, "--helper-model", "tiny") as found:
        yield found


@pytest.fixture
def page(request: pytest.FixtureRequest, application: Application, chromium: Any) -> Iterator[Any]:
    with go_on(request, lambda: open_form(application, chromium), tidy) as page:
        yield page


def open_form(application: Application, chromium: Any) -> Any:
    page = new_page(chromium, application.url)
    remember_form(page)
    return page


def tidy(page: Any) -> None:
    """Bring back the empty form, with the part for many clips closed."""
    reset_form(page)
    page.wait_for_function("document.querySelector('#prompt textarea').value === ''")
    page.wait_for_function("!/list|evening/.test(document.querySelector('#table')?.innerText)")
    many = page.get_by_role("button", name="Many clips at once")
    if "open" in many.get_attribute("class").split():
        many.click()
    close_toasts(page)


def ask(page: Any) -> None:
    page.get_by_role("button", name="Suggest a better prompt").click()


def test_an_accepted_suggestion_fills_the_form_and_can_be_undone(page: Any, server: ChatServer, client: Any) -> None:
    server.answers = [BETTER]
    place = server.address.removeprefix("http://")
    assert f"are sent to the server at {place} (tiny)" in page.inner_text("#suggestion")
    page.fill("#prompt textarea", 'A red ball, a man says "Look."')
    ask(page)
    page.wait_for_selector("#suggestion ins >> text=wooden")
    assert "<" not in page.inner_text("#suggestion .difference")  # people read no tags
    assert page.input_value("#prompt textarea") == 'A red ball, a man says "Look."'  # nothing by itself
    page.get_by_role("button", name="Use it").click()
    page.wait_for_function("document.querySelector('#prompt textarea').value.startsWith('A red ball bounces')")
    assert page.locator("#cues .cue textarea").input_value() == "Look."
    assert page.get_by_label("Sound", exact=True).input_value() == "Soft thuds."
    assert page.locator("#suggestion .offer").is_hidden()
    page.click("#generate")
    page.wait_for_selector("#notice >> text=1 clip is in the queue")
    spec = newest(client)["spec"]
    assert spec["typed_prompt"] == 'A red ball, a man says "Look."'
    page.click("#desk [data-act=undo]")
    page.wait_for_function("""document.querySelector('#prompt textarea').value === 'A red ball, a man says "Look."'""")


def test_a_problem_is_a_sentence_and_the_prompt_stays(page: Any, server: ChatServer) -> None:
    server.answers = [fails(401)]
    page.fill("#prompt textarea", "a red ball")
    ask(page)
    page.wait_for_selector("#suggestion .problem >> text=refused the key")
    assert page.input_value("#prompt textarea") == "a red ball"
    assert page.get_by_role("button", name="Suggest a better prompt").is_enabled()


def test_a_suggestion_can_be_thrown_away_and_its_text_is_never_markup(page: Any, server: ChatServer) -> None:
    server.answers = ["A red ball &lt;img src=x onerror=alert(1)&gt; rolls over a floor. <AUDCAP>Thuds.<ENDAUDCAP>"]
    page.fill("#prompt textarea", "a red ball")
    ask(page)
    page.wait_for_selector("#suggestion ins")
    assert page.locator("#suggestion img").count() == 0
    page.get_by_role("button", name="Discard").click()
    page.wait_for_function("document.querySelector('#suggestion .offer').hidden")
    assert page.input_value("#prompt textarea") == "a red ball"


TABLE = """text_prompt,seed,remark
a red ball,3,keep this
a {red|blue} cube,4,
"He waves and says, <S>Hello.<E>",5,
a ring,6,
"""


def test_a_table_gets_suggestions_all_at_once_of_which_each_is_used_edited_or_thrown_away(
    page: Any, server: ChatServer, client: Any, tmp_path: Path
) -> None:
    server.answers = [
        "A red ball rolls over a floor. <AUDCAP>Thuds.<ENDAUDCAP>",
        "A {red|blue} cube lies on the grass. <AUDCAP>Wind.<ENDAUDCAP>",
        "A tall man waves and says, <S>Hello.<E> <AUDCAP>A street.<ENDAUDCAP>",
        fails(503),
        "A ring of gold spins on a table. <AUDCAP>A bright hum.<ENDAUDCAP>",
    ]
    (tmp_path / "evening.csv").write_text(TABLE)
    page.get_by_role("button", name="Many clips at once").click()
    button = page.get_by_role("button", name="Suggest better prompts for this table")
    assert button.is_hidden()
    page.set_input_files("#table input[type=file]", str(tmp_path / "evening.csv"))
    button.click()
    dialog = page.get_by_role("dialog", name="Better prompts")
    dialog.get_by_text("failed (HTTP 503)").wait_for()
    rows = dialog.locator("tbody tr")
    assert "<" not in rows.nth(2).inner_text()  # people read no tags
    assert page.get_by_role("button", name="Put them into the table").is_disabled()  # nothing by itself
    dialog.get_by_role("button", name="Ask again").click()
    rows.nth(3).get_by_text("gold").wait_for()
    dialog.get_by_role("button", name="Use all").click()
    rows.nth(1).get_by_role("button", name="Discard").click()
    rows.nth(3).get_by_role("button", name="Edit").click()
    rows.nth(3).get_by_role("textbox").fill("A silver ring. <AUDCAP>A hum.<ENDAUDCAP>")
    dialog.get_by_text("4 of 4 answered, 3 in use").wait_for()
    assert accessibility_faults(page) == []
    dialog.get_by_role("button", name="Put them into the table").click()
    dialog.wait_for(state="hidden")
    page.wait_for_selector("#table-makes >> text=The table makes 5 clips")
    page.click("#generate")
    page.wait_for_selector("#notice >> text=5 clips are in the queue")
    specs = sorted(
        (job["spec"] for job in client.predict(api_name="/list")), key=lambda spec: (spec["seed"], spec["prompt"])
    )
    assert [(spec["prompt"], spec["typed_prompt"]) for spec in specs] == [
        ("A red ball rolls over a floor. <AUDCAP>Thuds.<ENDAUDCAP>", "a red ball"),
        ("a blue cube", ""),
        ("a red cube", ""),
        ("A tall man waves and says, <S>Hello.<E> <AUDCAP>A street.<ENDAUDCAP>", "He waves and says, <S>Hello.<E>"),
        ("A silver ring. <AUDCAP>A hum.<ENDAUDCAP>", "a ring"),
    ]


def test_suggestions_for_a_table_can_be_undone(page: Any, server: ChatServer, tmp_path: Path) -> None:
    server.answers = [BETTER]
    (tmp_path / "list.txt").write_text("a man\n")
    page.get_by_role("button", name="Many clips at once").click()
    page.set_input_files("#table input[type=file]", str(tmp_path / "list.txt"))
    button = page.get_by_role("button", name="Suggest better prompts for this table")
    button.click()
    dialog = page.get_by_role("dialog", name="Better prompts")
    dialog.get_by_text("Nobody speaks in the prompt").wait_for()
    server.answers = ["A man walks. <AUDCAP>Steps.<ENDAUDCAP>"]
    dialog.get_by_role("button", name="Ask again").click()
    dialog.get_by_role("button", name="Use", exact=True).click()
    dialog.get_by_role("button", name="Put them into the table").click()
    holds = "name => document.querySelector('#table').innerText.replace(/\\s/g, '').includes(name)"
    page.wait_for_function(holds, arg="list.csv")
    page.wait_for_selector("#toasts >> text=The form was replaced")
    page.locator("#toasts").get_by_role("button", name="Undo").click()
    page.wait_for_function(holds, arg="list.txt")
