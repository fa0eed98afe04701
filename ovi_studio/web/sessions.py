"""How many browser sessions a page keeps in memory, and for how long.

Gradio (6.31) keeps the last 10,000 sessions for ever, each with a copy of the description of all components, which it
needs for links to a state of the page only; and each call of the API is a session of its own. Here a session describes
only the components that it has changed.
"""

import datetime
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio import blocks, route_utils, state_holder
from gradio.blocks import Block

from ovi_studio.web.events import LATEST

MAX_SESSIONS = 200
"""The oldest one is forgotten first; its page asks for everything anew when it is used again."""
SESSION_AGE = datetime.timedelta(hours=12)
"""Since a session was last used."""


def forget_old_sessions(page: gr.Blocks) -> None:
    """Let every page that is opened end the sessions that nobody has used for long."""

    def forget() -> None:
        holder = page.state_holder
        oldest = datetime.datetime.now() - SESSION_AGE
        with holder.lock:
            for session in [name for name, used in holder.time_last_used.items() if used < oldest]:
                holder.session_data.pop(session, None)
                holder.time_last_used.pop(session, None)

    page.load(forget, None, None, **LATEST)


class _Session(state_holder.SessionState):
    def __init__(self, page: Any) -> None:
        # Without components there is nothing to describe.
        super().__init__(SimpleNamespace(default_config=page.default_config, blocks={}))

    def __setitem__(self, key: int, value: Any) -> None:
        # Gradio gives a component that a handler has changed a new id, and the session would then keep it under both:
        # one component more for every change, for as long as the page is open.
        if isinstance(value, Block):
            value._id = key
        super().__setitem__(key, value)


# A call that names no session is given one by `route_utils`, and one from within the process by `blocks`.
for module in (state_holder, route_utils, blocks):
    module.SessionState = _Session
