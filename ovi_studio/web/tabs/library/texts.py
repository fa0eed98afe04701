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
