"""What the Film tab says."""

from ovi_studio.film.script import Takes

EMPTY = (
    "No film yet. Paste a screenplay below, or queue one on the command line: its scenes and lines become the shots of "
    "a storyboard."
)
CHOOSE, NO_FILM = "Film", "No film"
PLAY, JOIN = "Play all", "Export film"
NEW = "New film"
SCREENPLAY = "Screenplay in Fountain form, or film.yaml"
SCREENPLAY_INFO = "INT. or EXT. begins a scene, names in capitals speak; docs/film.md describes both forms."
SCREENPLAY_EXAMPLE = (
    "INT. LIGHTHOUSE - NIGHT\n\nMARA (60, in a yellow raincoat) climbs the stairs.\n\nMARA\nIt is still burning."
)
QUEUE = "Queue the film"
UNTITLED = "Untitled"
NOTHING_ELSE = "Everything is made from these takes already."
TAKES = "Takes"
UNTIL = "One after another, until at most this percentage of the words is wrong (empty: all are made)"
FIRST_FRAME, ANOTHER_FRAME = "First frame", "Another first frame"
WITHOUT_FRAME = "Without the first frame"
FROM_PICTURE = "begins with a picture"
NO_UPLOAD = "The first frame was not uploaded here; choose the picture again."
UPLOAD_FAILED = "The first frame could not be uploaded; nothing was changed. Try again, or choose another picture."
STATES = {
    "queued": "Waiting",
    "running": "Running",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "blocked": "Blocked",
    "deleted": "Deleted",
}


def made(done: int, total: int) -> str:
    """Say how far a film is."""
    return f"{done} of {total} shots are made"


def queued(count: int) -> str:
    """Say what a change led to."""
    return NOTHING_ELSE if not count else "1 clip was queued." if count == 1 else f"{count} clips were queued."


def until_right(takes: Takes) -> str:
    """Say how long takes are made."""
    return f"up to {takes.count} takes, until at most {100 * (takes.word_errors or 0):.0f}% of the words are wrong"
