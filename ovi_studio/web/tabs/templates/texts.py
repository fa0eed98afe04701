"""What the Templates tab says."""

ALL = "All"
CATEGORY, CARDS = "Category", "Templates"
NEW, EDIT, DELETE = "New template", "Edit", "Delete template"
NO_OWN = "You have no templates yet. Press New template to write one, or to start from the prompt in the Create tab."
USE = "Use this template"
PROMPT, FILLED_PROMPT = "The prompt", "Filled prompt"

EDIT_TITLE = "Edit template"
TITLE, DESCRIPTION = "Title", "Description"
TEXT, TEXT_HINT = "Prompt with slots", "A slot is a name in braces, such as {animal}. Put speech in <S>…<E>."
TEXT_PLACEHOLDER = "A {animal} looks up and says, <S>{line}<E>"
SOUND, SOUND_HINT = "Sound", "What is heard; it may contain slots."
SLOTS, SLOTS_HINT = "Slot values", "One line for each slot: its name, the default, then suggestions."
SLOTS_PLACEHOLDER = "animal: red fox | grey wolf | lynx"
COPY, SAVE, CANCEL = "Copy the prompt from Create", "Save", "Cancel"

SAVED = "The template was saved among your own."
SOME_UNUSABLE = "Some templates cannot be shown"
NOT_DONE = "That did not work"


def deleted(title: str) -> str:
    """A template was deleted."""
    return f"The template {title} was deleted."


def suggestions(label: str) -> str:
    """The group of suggestions for a slot."""
    return f"Suggestions: {label}"
