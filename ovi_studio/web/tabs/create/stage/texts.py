"""What the stage says, in one place."""

from ovi_studio.web.keyboard import Shortcut

STAGE_SHORTCUTS = (
    Shortcut("P", "Swap the preview and the clip"),
    Shortcut("C", "Compare the clip with others"),
    Shortcut("W", "Wipe between two clips that are compared"),
    Shortcut("Shift+← Shift+→", "Mark a part of the clip that is made again"),
)

IDLE = "Your clip appears here"
IDLE_HINT = "Describe what it should show and sound like, then press Create or Ctrl+Enter."
PAUSED = "The queue is paused; resume it in the Queue tab."
NEXT = "The next one starts as soon as the engine is free."
CANCELLED = "Cancelled"
CANCEL = "Cancel"
PREVIEW = "Preview of the clip that is being made"
SWAP = "Swap preview and clip (P)"

STRIP = "Recent clips"
EMPTY_STRIP = "Finished clips line up here, the newest first."

VARY = "Vary"
VARY_HINT = "Make it again with a new seed"
NEW_SOUND = "New sound"
NEW_SOUND_HINT = "Keep the picture, and make another sound for it"
NEW_PICTURE = "New picture"
NEW_PICTURE_HINT = "Keep the sound, and make another picture for it"
PART = "New part"
PART_HINT = "Choose a span of time, make it again, and keep the rest"
PART_ABOUT = "Drag over the waveform, press Shift with the arrows, or enter seconds."
PART_FROM, PART_TO, PART_END = "From second", "To second", "end"
PART_HALF = "What is made again"
PART_HALVES = {"": "Picture and sound", "sound": "Only the sound", "picture": "Only the picture"}
PART_FILL, PART_CLOSE = "Put it into the form", "Cancel"
SAME_SEED = "Same seed"
SAME_SEED_HINT = "Put its settings and its seed into the form"
LAST_FRAME = "Last frame"
LAST_FRAME_HINT = "Use its last frame as the first frame of the form"
CONTINUE = "Continue"
CONTINUE_HINT = "Put its settings into the form, with its last frame as the first frame"
IMPROVE = "Improve"
IMPROVE_HINT = "Queue a larger or smoother copy of it"
FAVOURITE = "Favourite"
COMPARE = "Compare"
COMPARE_HINT = "Compare it with up to three others (C)"
GRID = "Grid"
GRID_HINT = "Show the grid that it belongs to"
DOWNLOAD = "Download"
DELETE = "Delete"
CHOOSE_OTHERS = "Choose one to three more clips below."

SETTINGS = "Settings of this clip"
MADE_IN, MEMORY = "Made in", "Memory"
SHEET = "Stage"
SHEET_WORDS = {"clip": "Clip {number}", "clips": "Your clips"}
STAGE_WORDS = {"clip": "Clip {number}", "compared": "Clip {number}, seed {seed}"}
"""What the scripts say; they fill in the braces."""

WITHOUT_FIRST_FRAME = "Filled in without the first frame"
NO_SECONDS = "Enter the part that is made again in seconds, such as 1.5."
NO_CLIP = "This job has no clip."
NOT_DONE = "That did not work"
"""Before the reason."""


def clips_waiting(number: int) -> str:
    """How many clips wait."""
    return "1 clip waiting" if number == 1 else f"{number} clips waiting"


def failed(number: int) -> str:
    """The title of what went wrong with a clip."""
    return f"Clip {number} could not be made"


def sound_queued(number: int) -> str:
    """A new sound was queued."""
    return f"A new sound for clip {number} is in the queue."


def picture_queued(number: int) -> str:
    """A new picture was queued."""
    return f"A new picture for clip {number} is in the queue."


def queued_again(number: int) -> str:
    """A variation was queued."""
    return f"A variation of clip {number} is in the queue."


def percent_of(number: int, percent: int) -> str:
    """How much of a clip's steps is done, as a screen reader says it."""
    return f"Clip {number}: {percent} percent"


def cancel(number: int) -> str:
    """What the button on a running clip does."""
    return f"Cancel clip {number}"


def cancelled(number: int) -> str:
    """A job was cancelled."""
    return f"Clip {number} was cancelled."


def trashed(number: int) -> str:
    """A clip was deleted."""
    return f"Clip {number} was moved to the trash."


def filled(number: int) -> str:
    """The form was filled from a clip."""
    return f"The form has the settings of clip {number}."


def part_filled(number: int) -> str:
    """The form was filled to make a part of a clip again."""
    return f"The form makes this part of clip {number} again."


def continued(number: int) -> str:
    """The form was filled to continue a clip."""
    return f"The form continues clip {number} from its last frame."


def first_frame_taken(number: int) -> str:
    """The form has a new first frame."""
    return f"The last frame of clip {number} is the first frame now."


MAKE_GRID = "Make a grid"
GRID_ABOUT = "Makes the clip of the form with several values of one setting, or of two, and shows them as a table."
ACROSS = "Across"
DOWN = "Down"
VALUES = "Values"
VALUES_HINT = "Choose, or type and press Enter"
NO_AXIS = "Nothing"
QUEUE_GRID = "Create the grid"
CLOSE_GRID = "Close the grid"
NO_CELL = "No clip"


def grid_queued(cells: int) -> str:
    """A grid was queued."""
    return f"A grid of {cells} clips is in the queue."


def grid_progress(done: int, cells: int) -> str:
    """How much of a grid is made."""
    return f"{done} of {cells} made"
