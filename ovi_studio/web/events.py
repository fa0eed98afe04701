"""Options for the page's own events."""

from typing import Any

PRIVATE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of an event that only the page uses: not queued, and not part of the API, which is in `api`."""
