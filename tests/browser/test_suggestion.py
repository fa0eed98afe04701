"""The helper's suggestion on the page: asked for, seen as a difference, accepted, undone, and kept with the clip."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import needs_browser, new_page
from chat_server import ChatServer, chat_server, fails
from page_helpers import newest
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
def page(application: Application, chromium: Any) -> Iterator[Any]:
    page = new_page(chromium, application.url)
    page.wait_for_function("document.querySelector('[data-chip=model] b')?.textContent")
    yield page
    page.context.close()


def ask(page: Any) -> None:
    page.get_by_role("button", name="Suggest a better prompt").click()


def test_an_accepted_suggestion_fills_the_form_and_can_be_undone(page: Any, server: ChatServer, client: Any) -> None:
    server.answers = [BETTER]
    assert f"sent to the server at {server.address.removeprefix('http://')} (tiny)" in page.inner_text("#suggestion")
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
    page.wait_for_selector("#notice >> text=in the queue")
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
