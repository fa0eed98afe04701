"""How many browser sessions a page keeps in memory, and for how long.

Gradio (6.31) keeps the last 10,000 sessions for ever, at 0.8 MB each.
"""

import datetime

import gradio as gr

from ovi_studio.web.events import PRIVATE

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

    page.load(forget, None, None, **PRIVATE)
