"""What the Film tab says."""

from ovi_studio.film.script import Takes
from ovi_studio.web import texts as common

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
STATES = {str(state): words for state, words in common.STATES.items()} | {"blocked": "Blocked", "deleted": "Deleted"}
FILM, SHOTS, CLOSE = "Film", "Shots", "Close"
EARLIER, LATER, EDIT, AGAIN = "Move earlier", "Move later", "Edit", "Another take"
SOUND, SAVE, CANCEL = "Sound", "Save", "Cancel"
SOMEBODY = "somebody"
PLAYED = "Shot {number} of {count}"
"""What the script says while a film plays; it fills in the braces."""
NO_PERCENTAGE = "The percentage of wrong words is not a number; choose 0 to 99."
NO_NUMBER = "That is not a number of this film; reload the page."


def made(done: int, total: int) -> str:
    """Say how far a film is."""
    return f"{done} of {total} shots are made"


def queued(count: int) -> str:
    """Say what a change led to."""
    return NOTHING_ELSE if not count else "1 clip was queued." if count == 1 else f"{count} clips were queued."


def until_right(takes: Takes) -> str:
    """Say how long takes are made."""
    return f"up to {takes.count} takes, until at most {100 * (takes.word_errors or 0):.0f}% of the words are wrong"


def shot(number: int) -> str:
    """What a shot is called."""
    return f"Shot {number}"


def take(number: int) -> str:
    """What a take is called."""
    return f"Take {number}"


def takes_of(number: int) -> str:
    """The group of a shot's takes."""
    return f"Takes of shot {number}"


def checks_of(number: int) -> str:
    """The list of what was measured about a take."""
    return f"Checks of take {number}"


def play_from(shot: str) -> str:
    """What the picture of a shot does."""
    return f"Play from {shot.lower()}"


def continues(shot: str) -> str:
    """Which shot this one goes on from."""
    return f"continues {shot}"


def fades(milliseconds: int) -> str:
    """How a shot begins."""
    return f"fades in {milliseconds} ms"


def state_and_seed(state: str, seed: int) -> str:
    """What became of a take."""
    return f"{STATES[state]}, seed {seed}"


def seen(shot: str) -> str:
    """The field of what a shot shows."""
    return f"{shot}: what is seen"


def speech(number: int, who: str) -> str:
    """The field of what somebody says in a shot."""
    return f"Speech {number}: {who}"
