"""What the LoRAs tab says."""

SEARCH, SEARCH_PLACEHOLDER = "Search", "Name, base model or trigger word"
SAVE_LABEL, SAVE_PLACEHOLDER, SAVE = "Save the LoRA files in use as a preset", "Title", "Save preset"
CARDS = "LoRA files"
NOTHING_FOUND = "No files match. Use fewer words."
NO_FILES = "There are no LoRA files here."
EMPTY_BEFORE, EMPTY_AFTER = "Put .safetensors files or PEFT folders into", "; they appear here automatically."

TOWERS = {"video": "Picture", "audio": "Sound"}
STRENGTH_HINT = "A number, or a schedule over the steps such as 1;0"
USE, REMOVE = "Use", "Remove"
ACCELERATOR = "The preset’s accelerator; choose another preset in the Create tab to change it."
NO_LICENCE = "Licence: not stated in the file"

NOT_SAVED = "The preset was not saved"
NOT_DONE = "That did not work"
NOTHING_TO_SAVE = "No LoRA files are in use; choose some first."
WORD_GONE = "This trigger word no longer exists; reload the page."


def rejected(count: int) -> str:
    """The summary of the files that cannot be used."""
    return "1 file cannot be used" if count == 1 else f"{count} files cannot be used"


def in_use(count: int, accelerators: str) -> str:
    """What the next clip uses."""
    files = {0: "no LoRA file", 1: "1 LoRA file"}.get(count, f"{count} LoRA files")
    more = f" The preset’s accelerator is {accelerators}." if accelerators else ""
    return f"The next clip uses {files}.{more}"


def author(name: str) -> str:
    """Who made a file."""
    return f"by {name}" if name else ""


def licence(name: str) -> str:
    """Under what a file may be used."""
    return f"Licence: {name}" if name else NO_LICENCE


def use(title: str) -> str:
    """What the button that adds a file to the clip does."""
    return f"Use {title}"


def remove(title: str) -> str:
    """What the button that takes a file out of the clip does."""
    return f"Remove {title}"


def strengths(title: str) -> str:
    """The group of a file's strengths."""
    return f"Strengths of {title}"


def strength(tower: str, title: str) -> str:
    """The slider of one strength."""
    return f"{TOWERS[tower]}: strength of {title}"


def trigger_words(title: str) -> str:
    """The group of a file's trigger words."""
    return f"Trigger words of {title}"


def add_word(word: str) -> str:
    """What the button of a trigger word does."""
    return f"Add “{word}” to the prompt"


def prompt_too_long(length: int, most: int) -> str:
    """Why a trigger word was not added."""
    return f"The prompt would have {length} characters; the maximum is {most}."


def preset_saved(title: str) -> str:
    """A preset was saved."""
    return f"The preset {title} was saved."
