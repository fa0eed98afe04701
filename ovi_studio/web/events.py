"""Options for the page's own events."""

from typing import Any

PRIVATE: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    # Gradio (6.31) would still tell each output, at every step of every event, that there is nothing to show.
    "show_progress_on": [],
    "api_visibility": "private",
}
"""Options of an event that only the page uses: not queued, and not part of the API, which is in `api`."""
LATEST: dict[str, Any] = PRIVATE | {"trigger_mode": "always_last"}
"""Options of an event that says how something is now: while one is answered, the last of the others waits its turn.

By Gradio's own rule (6.31) they would be dropped, and the answer to an old value would stay.
"""
EACH: dict[str, Any] = PRIVATE | {"trigger_mode": "multiple"}
"""Options of an act that names what it is done to: every one counts, also while another is answered."""
