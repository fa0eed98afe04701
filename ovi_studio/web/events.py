"""How the page's own events are declared."""

from typing import Any

PRIVATE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of an event that only the page has: answered at once and not a part of the API, which is in `api`."""
