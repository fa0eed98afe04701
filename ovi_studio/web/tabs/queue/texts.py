"""What the Queue tab says."""

EMPTY = "Nothing is queued. Describe a clip in the Create tab and press Create: it appears here, and stays in the list."
NOT_FOUND = "No job matches. Show all of them, or search for something else."
NOTHING_TO_TAKE_BACK = "This can no longer be undone: the jobs have changed since."
SEARCH = "Prompt or batch"
PAUSE, RESUME = "Pause", "Resume"
BLOCKED = "Blocked"
CANCEL_ALL, RETRY_ALL, CLEAR = "Cancel all", "Retry all", "Clear finished"
JOBS, EARLIER, LATER = "Jobs", "Earlier", "Later"
SHOW, BATCH, SEARCH_LABEL = "Show", "Batch", "Search"
FILTERS = {"all": "All", "waiting": "Waiting", "done": "Done", "failed": "Failed"}
BATCHES, ALL_BATCHES = "Batches", "All batches"
ALL_JOBS, ALL_OF_THESE = "All jobs", "All of these"
ACTIONS = {
    "first": "Run next",
    "up": "Move up",
    "down": "Move down",
    "edit": "Edit",
    "duplicate": "Duplicate",
    "retry": "Retry",
    "cancel": "Cancel",
    "delete": "Delete",
}
IMPROVES = "improves a clip"
BEFORE_OTHERS, AFTER_OTHERS = "before others", "after others"
ONLY_WAITING = "Only a waiting job can be edited; duplicate this one instead."


def action_of(action: str, number: int) -> str:
    """Name the button of a job's row for a screen reader."""
    return f"{ACTIONS[action]}: clip {number}"


def play(number: int) -> str:
    """Name the link to a finished clip."""
    return f"Play clip {number}"


def place(first: int, last: int, total: int) -> str:
    """Say which jobs of all are shown."""
    return f"{first} to {last} of {total}"


def facts(model: str, steps: int, seed: int) -> list[str]:
    """Say how a clip is made."""
    return [model, f"{steps} steps", f"seed {seed}"]


def attempt(number: int) -> str:
    """Say that a job is tried again."""
    return f"attempt {number}"


def made_in(time: str) -> str:
    """Say how long a clip took."""
    return f"in {time}"


def ended(done: int, total: int, failed: int, cancelled: int, left: str) -> str:
    """Say how far all jobs are, or those of a batch; `left` is a time, empty if that is not known."""
    words = [f"{done} of {total} ended"]
    words += [f"{failed} failed"] if failed else []
    words += [f"{cancelled} cancelled"] if cancelled else []
    words += [f"about {left} left"] if left else []
    return " · ".join(words)


def batch(name: str) -> str:
    """Name the progress of a batch."""
    return f"Batch {name}"


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
