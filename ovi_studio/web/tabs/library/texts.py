"""What the Library tab says."""

from ovi_studio.web.keyboard import Shortcut

EMPTY = "Clips appear here as soon as they are made. Describe the first one in the Create tab."
EMPTY_TRASH = "The trash is empty. Deleted clips wait here until the trash is emptied."
NOTHING_FOUND = "No clips match. Use fewer words, or remove a filter."

SEARCH = "Search"
SEARCH_PLACEHOLDER = "fox snow"
SYNTAX_BEFORE = "Words, or also:"
MODEL, ALL_MODELS = "Model", "All models"
FIRST_FRAME, FIRST_FRAMES = "First frame", ("Any", "With", "Without")
SORT, NEWEST, OLDEST = "Sort", "Newest first", "Oldest first"
FAVOURITES_ONLY = "Favourites only"
PLACE, CLIPS, TRASH = "Show", "Clips", "Trash"
ADD_FILES = "Add files…"

SAVE_SEARCH = "Save this search"
COLLECTION_NAME = "Name of the collection"
SAVE, CANCEL = "Save", "Cancel"
COLLECTIONS, TAGS = "Collections", "Tags"

DOWNLOAD_SELECTED = "Download zip"
COMPARE_SELECTED = "Compare"
IMPROVE_SELECTED = "Larger and smoother"
FAVOURITE_SELECTED = "Favourite"
TAGS_FIELD, TAGS_PLACEHOLDER = "Tags for the selected clips", "Tags, separated by commas"
ADD_TAGS, REMOVE_TAGS = "Add tags", "Remove tags"
DELETE_SELECTED, RESTORE_SELECTED, CLEAR_SELECTION = "Delete selected", "Restore selected", "Clear selection"
EMPTY_TRASH_BUTTON, CONFIRM_EMPTY, KEEP = "Empty the trash", "Delete permanently", "Keep them"
PREVIOUS, NEXT = "Previous", "Next"

UNREADABLE = "The library cannot be read"
SEARCH_UNCLEAR = "The search is not clear"
NOT_SHOWN = "The clip cannot be shown"
NOT_MARKED = "Not marked"
NOT_TAGGED = "Not tagged"
NOT_SAVED = "The search was not saved"
NOT_DELETED = "Not deleted"
NOT_RESTORED = "Not restored"
NOT_EMPTIED = "The trash was not emptied"
NOT_USED = "The settings cannot be used"
WITHOUT_FIRST_FRAME = "Filled in without the first frame"

WALL_LABEL, TRASH_LABEL = "Clips", "Trash"
SELECT = "Select"
PLAY, MARK, UNMARK = "Play", "Add to favourites", "Remove from favourites"
FAVOURITE = "Favourite"
TYPE_A_TAG = "Type a tag first; several are separated by commas."
MODELS_OWN = "the model's default"
VIDEO_NEGATIVE, AUDIO_NEGATIVE = "Negative prompt, picture", "Negative prompt, sound"
MADE = "Made"
CHECKS, MARK, CREDENTIALS = "Checks", "Mark", "Content Credentials"

LIGHTBOX = {
    "title": "Clip",
    "hints": "← → browse · Space play · F favourite · D download · C compare · Delete · Esc close",
    "prompt": "Prompt",
    "tags": "Tags",
    "addTag": "Add a tag",
    "removeTag": "Remove the tag",
    "favourite": "Favourite (F)",
    "download": "Download",
    "use": "Use these settings",
    "continue": "Continue from the last frame",
    "improve": "Larger and smoother",
    "compare": "Compare",
    "compareKey": "Compare (C)",
    "delete": "Delete",
    "deleteKey": "Delete (Delete)",
    "previous": "Previous clip (←)",
    "next": "Next clip (→)",
    "close": "Close (Esc)",
    "position": "Clip {at} of {count} on this page",
    "gone": "This clip is no longer in the library.",
    "lost": "The server does not answer; the settings of the clip follow as soon as it does.",
    "seed": "Seed",
}
"""What the lightbox says; the script fills in the braces."""

SHORTCUTS = (
    Shortcut("← → ↑ ↓", "Go from poster to poster; in the lightbox, from clip to clip"),
    Shortcut("Enter", "Open the lightbox"),
    Shortcut("X Shift+→", "Select; select on the way"),
    Shortcut("Ctrl+A", "Select all clips of the page"),
    Shortcut("F", "In the lightbox: favourite"),
    Shortcut("D", "In the lightbox: download"),
    Shortcut("C", "In the lightbox: compare with the selected clips, or with the next one"),
    Shortcut("Delete", "Move to the trash"),
)


def clips(count: int) -> str:
    """A number of clips."""
    return "1 clip" if count == 1 else f"{count} clips"


def selected(count: int) -> str:
    """How many clips are selected."""
    return f"{clips(count)} selected"


def shown(first: int, last: int, total: int) -> str:
    """Which clips the page shows."""
    return f"{first} to {last} of {clips(total)}"


def trashed(count: int) -> str:
    """Clips were moved to the trash."""
    return f"{clips(count)} moved to the trash."


def restored(count: int) -> str:
    """Clips were moved back from the trash."""
    return f"{clips(count)} moved back to the library."


def empty_question(count: int) -> str:
    """Whether to empty the trash."""
    return f"Delete {clips(count)} from the disk? You can undo this for ten seconds."


def emptied(count: int) -> str:
    """The trash was emptied."""
    return f"The trash was emptied: {clips(count)} deleted."


def collection_deleted(name: str) -> str:
    """A collection was deleted."""
    return f"The collection {name} was deleted."


def delete_collection(name: str) -> str:
    """What the button beside a collection does."""
    return f"Delete the collection {name}"


def deleted(when: str) -> str:
    """When a clip was moved to the trash."""
    return f"Deleted {when}"


def today(time: str) -> str:
    """A time of this day."""
    return f"today {time}"
