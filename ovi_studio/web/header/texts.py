"""What the header says: the engine and the queue, the tools, notices, and what became of batches."""

RESTART = "Restart the engine"
BELL, BELL_HINT = "Notify me when done", "Sound and notification"
THEME = "Theme"
THEMES = {"system": "Theme: same as the system", "light": "Theme: light", "dark": "Theme: dark"}
HELP, HELP_HINT = "Keyboard shortcuts", "Keyboard shortcuts (?)"
DISMISS = "Dismiss this notice"
LOG = "Last lines of its log"
PAUSED = "Paused"

DOWN = "The engine is down"
RESTARTS = "The engine is being restarted"
STOPPED = "The engine is not running"
STARTS = "The engine is starting"
RESTARTS_SOON = "The engine will restart after this step"
WORKING = "Working"
READY = "Ready"

LOST, LOST_TITLE = "No connection; the page goes on by itself as soon as it is back", "No connection"
LOGGED_OUT, LOG_IN = "You are logged out.", "Log in again"


def ready(loaded: str | None) -> str:
    """Say that the engine is ready, and with which model."""
    return f"{READY}, {loaded} loaded" if loaded else READY


def working(number: int, count: int) -> str:
    """Say how many of several engines and machines are working."""
    return f"{number} of {count} engines are working"


def left(waiting: int, time: str, unmeasured: int) -> str:
    """Say how many jobs wait, and how long all of them take; `time` is empty if that is not known."""
    words = [f"{waiting} waiting"] if waiting else []
    if time:
        more = f", and {unmeasured} not measured yet" if unmeasured else ""
        words.append(f"{time} left{more}")
    elif waiting:
        words.append("time not measured yet")
    return " · ".join(words)


def batch_done(name: str, done: int, failed: int) -> str:
    """Say what became of a batch."""
    more = f", {failed} failed" if failed else ""
    return f"Done: {name} ({done} made{more})"
