"""Sessions of browsers that are gone do not stay in memory."""

import datetime
import tracemalloc
from typing import Any

import gradio as gr
import pytest
from gradio.routes import App
from starlette.testclient import TestClient

from ovi_studio.web.sessions import MAX_SESSIONS, SESSION_AGE, forget_old_sessions


def test_sessions_are_forgotten_by_age_and_number() -> None:
    with gr.Blocks() as page:
        gr.State(0)
        forget_old_sessions(page)
    page.state_session_capacity = MAX_SESSIONS
    App.create_app(page)
    holder: Any = page.state_holder
    for number in range(MAX_SESSIONS + 50):
        holder[f"session {number}"]
    assert len(holder.session_data) <= MAX_SESSIONS + 1
    old = [f"session {number}" for number in range(100, 150)]
    for name in old:
        holder.time_last_used[name] -= SESSION_AGE + datetime.timedelta(seconds=1)
    forget = next(iter(page.fns.values())).fn
    forget()
    assert not [name for name in old if name in holder]
    assert "session 200" in holder


def test_a_session_takes_little_memory_however_many_components_there_are() -> None:
    with gr.Blocks() as page:
        gr.State(0)
        for number in range(100):
            gr.Textbox(str(number), label=f"Field {number}")
    App.create_app(page)
    holder: Any = page.state_holder
    holder["first"]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(50):
        holder[f"session {number}"]
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after - before) / 50 < 50_000


def test_a_session_does_not_grow_with_every_change_of_a_component() -> None:
    with gr.Blocks() as page:
        choice = gr.Dropdown(["a"], value="a")
        gr.Button().click(lambda _: gr.Dropdown(choices=["a", "b"]), choice, choice)
    client = TestClient(App.create_app(page))
    for _ in range(5):
        answer = client.post("/gradio_api/run/predict", json={"data": ["a"], "fn_index": 0, "session_hash": "one"})
        assert answer.json()["data"][0]["choices"] == [["a", "a"], ["b", "b"]]
    session: Any = page.state_holder["one"]
    assert session.blocks_config.blocks.keys() == page.blocks.keys()


@pytest.mark.parametrize("session", [{}, {"session_hash": "one"}], ids=["without a session", "in a session"])
def test_a_call_describes_only_the_component_that_it_changes(
    session: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gr.Blocks() as page:
        text, _ = gr.Textbox(), gr.Textbox()
        gr.Button().click(str.upper, text, text)
    client = TestClient(App.create_app(page))
    described: list[gr.Textbox] = []
    monkeypatch.setattr(gr.Textbox, "get_config", lambda self: described.append(self) or {})
    answer = client.post("/gradio_api/run/predict", json={"data": ["a"], "fn_index": 0} | session)
    assert answer.json()["data"] == ["A"]
    assert [one._id for one in described] == [text._id]
