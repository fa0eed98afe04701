"""What the Queue tab says."""

EMPTY = "Nothing is queued. Describe a clip in the Create tab and press Create: it appears here, and stays in the list."
NOT_FOUND = "No job matches. Show all of them, or search for something else."
NOTHING_TO_TAKE_BACK = "This can no longer be undone: the jobs have changed since."
SEARCH = "Prompt or batch"
PAUSE, RESUME = "Pause", "Resume"
BLOCKED = "Blocked"
CANCEL_ALL, RETRY_ALL, CLEAR = "Cancel all", "Retry all", "Clear finished"


def cancelled(count: int) -> str:
    """Say how many jobs were cancelled."""
    return f"{_jobs(count)} cancelled."


def removed(count: int) -> str:
    """Say how many jobs were removed."""
    return f"{_jobs(count)} removed from the list; the clips stay in the library."


def queued_again(count: int) -> str:
    """Say how many jobs wait again."""
    return f"{_jobs(count)} queued again."


def _jobs(count: int) -> str:
    return "1 job was" if count == 1 else f"{count} jobs were"
