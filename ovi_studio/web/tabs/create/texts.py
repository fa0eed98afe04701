"""The words of the Create tab's form, in one place."""

from ovi_studio.core.prompt_check import PaceLevel, Severity

PROMPT = "Prompt"
PROMPT_RAW = "Prompt as the model reads it"
PROMPT_PLACEHOLDER = "A fisherman in a yellow coat looks out over a misty harbour at dawn."
SOUND = "Sound"
SOUND_PLACEHOLDER = "Gulls, slow waves against wood, a low calm voice."
FIRST_FRAME, THE_FIRST_FRAME = "First frame (optional)", "first frame"
DRAW_FRAME = "Draw a first frame"
IMAGE_MODEL = "Image model"
OFFICIAL_IMAGE_MODEL = "FLUX.1 Krea [dev], as in the official code"
OFFICIAL_FACTS = "Not on this machine: {size:.0f} GB, {licence}. Accept its terms on the hub, then set HF_TOKEN here."
HUB_FACTS = (
    'Not on this machine; its size and licence are <a href="https://huggingface.co/{name}" target="_blank" '
    'rel="noopener">on the hub</a>.'
)
DOWNLOAD_IMAGE_MODEL = "Download"
IMAGE_MODEL_DOWNLOADS = "Downloading {name}: {done:.1f} of {total:.1f} GB"
IMAGE_PROMPT = "What to draw"
IMAGE_PROMPT_HINT = "The prompt, without speech and sound"
IMAGE_NEGATIVE = "What to leave out"
IMAGE_STEPS, IMAGE_GUIDANCE, IMAGE_SEED = "Steps", "Guidance", "Seed"
MODELS_OWN, CLIPS_OWN = "the model's", "the clip's"
CANDIDATES = "Pictures"
CANDIDATES_HINT = "Choose one as the first frame"
DRAW, CANCEL_DRAWING = "Draw", "Cancel"
DRAW_AND_GO_ON = "Draw and go on"
DRAW_AND_GO_ON_HINT = "Every clip gets a first frame of its own, drawn just before it is made"
DRAWING_WAITS = "Waits for the engine, which draws after its current clip"
LOADING_IMAGE_MODEL = "Loading the image model"
DRAWING_STEP = "Picture {number} of {count}: step {step} of {total}"
DRAWING_CANCELLED = "Cancelled"
NOT_DRAWN = "No picture was drawn"
NO_CANDIDATE = "This picture is no longer here; draw again."
FIRST_FRAME_PLACEHOLDER = "Drop or paste a picture"

MODEL = "Model"
STEPS = "Steps"
RATIO = "Aspect ratio"
SEED = "Seed"
SEED_RANDOM = "Random"
SEED_FIXED = "Fixed"
SEED_NEXT = "+1"
SEED_NUMBER = "Number"
SEED_PLACEHOLDER = "Drawn at random"
COUNT = "Seeds for each prompt"

SAMPLING = "Guidance and sampling"
VIDEO_GUIDANCE, AUDIO_GUIDANCE = "Video guidance", "Audio guidance"
SOLVER = "Solver"
SHIFT, SHIFT_HINT = "Shift", "Larger: more steps near noise"
TIMESTEPS = "Explicit timesteps (optional)"
TIMESTEPS_HINT = "Instead of steps and shift, from noise (1000) to clean (0)"
SKIPPED_BLOCK, SKIPPED_BLOCK_HINT = "Skipped block", "Skipped in the negative pass; 0 skips none"
RAW_COLOURS = "Raw colours of the first frame"
RAW_COLOURS_HINT = "Ignore its colour profile and transparency, as the official code does"
STEP_CACHE = "Step cache"
VIDEO_NEGATIVE, AUDIO_NEGATIVE = "Negative prompt for the picture", "Negative prompt for the sound"

BATCH = "Many clips at once: table, batch name, priority"
BATCH_NAME = "Name of the batch (optional)"
PRIORITY = "Priority"
BEFORE_OTHERS, NORMAL, AFTER_OTHERS = "Before others", "Normal", "After others"
TABLE = "Prompts from a file"
TABLE_HINT = (
    "A file of prompts is queued instead of the prompt above: CSV or TSV with a column text_prompt, or a text file "
    "with one prompt on each line."
)

SAVE_PRESET = "Save these settings as a preset"
PRESET_TITLE, PRESET_PLACEHOLDER = "Title", "Quick film look"
PRESET_HINT = "Model, size, sampling and LoRA files; not the prompt, the picture or the seed"
SAVE_PRESET_BUTTON = "Save preset"

QUEUE_ONE = "Create clip"
QUEUE_MANY = "Create {number} clips"
SAVE_JOB = "Save changes"

CHIPS = {
    "model": "Model",
    "look": "Preset",
    "ratio": "Ratio",
    "length": "Length",
    "steps": "Steps",
    "seed": "Seed",
    "count": "Count",
}
CHIPS_GROUP = "Settings"
CHIP_WORDS = {
    "random": "Random",
    "then_next": "{seed}, then +1",
    "seconds": "{seconds} s",
    "first_frame": "First frame",
    "own_ratio": "Own",
    "explicit": "{steps}, explicit",
    "changed": "{title}, changed",
    "own_preset": "Your own",
    "none": "None",
}
"""What the chips say of their settings."""
LENGTH = "Length"
ONE_LENGTH = "Every clip of this model has this length. Continue a clip from its last frame to make it longer."

DESK = "Form"
UNDO, UNDO_HINT = "Undo", "Undo the last replacement of the form (Ctrl+Z)"
REDO, REDO_HINT = "Redo", "Redo it (Ctrl+Shift+Z)"
RAW, RAW_HINT = "Raw text", "The prompt as the model reads it"
EDITING, DISCARD, SAVE = "Editing a job", "Discard", "Save"
EDITED_JOB = "Editing job {number}"
HISTORY, EARLIER_PROMPTS, SEARCH_PROMPTS = "History", "Earlier prompts", "Search earlier prompts"
CLIPS_OF_WILDCARD = "{count} clips: {lines}"

CUES = "Speech and what happens in between"
ADD_SPEECH, ADD_TEXT = "Add speech", "Add what happens next"
CUE_WORDS = {
    "text": "What happens, row {row}",
    "text_example": "Then what happens",
    "who": "Who speaks, row {row}",
    "who_example": "The man says",
    "said": "What they say, row {row}",
    "said_example": "The sea was louder last night.",
    "up": "Move up",
    "down": "Move down",
    "remove": "Remove",
    "act": "{act} row {row}",
    "removed": "The row was removed.",
}
"""What the rows of speech say; `{row}` is a number."""
KEPT, FORGET_KEPT = "Made again in part", "Make a whole new clip"
KEPT_DROPPED = "The form no longer makes a part of a clip again."
KEPT_WORDS = {
    "title": "A part of {clip} is made again",
    "spans": "Kept of the picture: {picture}; of the sound: {sound}.",
    "dropped": KEPT_DROPPED,
    "backwards": "This part ends before it begins; enter a later second.",
    "strength": "The rest starts from the clip, with a strength of {strength}.",
}
KEPT_OR_FRAME = "With a first frame, the form no longer keeps the beginning of a clip."
KEPT_GONE = "The clip of which a part is kept is no longer in the library; restore it, or make a whole new clip."
SOURCE_ELSEWHERE_TITLE = "Not all of it is in the form"
SOURCE_ELSEWHERE = "This clip keeps a part of {name}, which is not in the library; the form makes all of it new."
LOST_PICTURE = "The first frame is no longer kept; choose the picture again."
LOST_TABLE = "The table is no longer kept; choose the file again."
NO_PROMPTS = "The prompts of the clips that you queue are listed here."
NO_MATCH = "No earlier prompt contains these words."
WILDCARDS = "Wildcards"
GROUP = "{red|blue} makes a clip of each. For a literal brace, write \\{"
GROUP_GOES_ON = "One clip for each alternative; close the group with }"

SUGGEST = "Suggest a better prompt"
SUGGEST_ASKING = "Asking…"
SUGGEST_PLACE = "Your prompt and any first frame are sent to {place}."
SUGGEST_OFFER = "Suggestion"
SUGGEST_ACCEPT = "Use it"
SUGGEST_DISCARD = "Discard"
TABLE_SUGGESTIONS = {
    "open": "Suggest better prompts for this table",
    "title": "Better prompts",
    "prompt": "Your prompt",
    "suggestion": "Suggestion",
    "line": "Line {line}",
    "waiting": "Waiting",
    "asking": "Asking…",
    "use": "Use",
    "discard": "Discard",
    "edit": "Edit",
    "edited": "Suggestion for line {line}",
    "again": "Ask again",
    "useAll": "Use all",
    "discardAll": "Discard all",
    "stop": "Stop asking",
    "goOn": "Go on asking",
    "progress": "{done} of {count} answered, {used} in use",
    "apply": "Put them into the table",
    "cancel": "Cancel",
    "noTable": "The table has no prompts.",
}
"""What the dialog with suggestions for a table says; the script fills in the braces."""
TABLE_SUGGESTIONS_PLACE = "Your prompts are sent to {place}, one after another. The table changes only when you say so."

PRESETS, LACKING_PRESETS = "Presets", "Presets with missing files"
DOWNLOAD_BAR, STOP_DOWNLOAD, CONTACTING_HUB = "Download", "Stop", "Contacting the hub"
DELETE_PRESET = "Delete"
ACCELERATOR, STYLE, CLIP_LORAS = "Accelerator", "Style", "LoRA files of this clip"

MARKS = {Severity.ERROR: "Error", Severity.WARNING: "Warning", Severity.HINT: "Hint"}
TAGS, HAS_TAGS, SPLIT = "Tags", "The text has tags.", "Turn them into fields"
RIGHT_FORM, REPAIR = "Right form", "Repair the prompt"
SPEECH = "Speech"
PACES = {PaceLevel.SILENT: "", PaceLevel.CALM: "fits", PaceLevel.FAST: "tight", PaceLevel.TOO_MUCH: "too long"}
NOT_MEASURED = "Time not measured yet on this machine"
NO_SUGGESTION_USED = "No suggestion is in use; press Use beside those that you want."

FORM_REPLACED = "The form was replaced."
NOT_SPLIT = "The tags of this text are not in the order that the fields below can show. It stays as it is."
NOT_SPLIT_TITLE = "Stays as text"
JOB_SAVED = "The job was changed."
NOT_SAVED = "Not changed"
SEED_EMPTY = "The seed is empty; enter one for the clip."
ONE_CLIP_ONLY = "A job is one clip; remove the braces and wildcards, or stop editing and queue it."
NO_ROW = "No row of the table makes a clip{reason}; correct it."
NO_ROW_REASON = " (line {line}: {reason})"
NOT_YET, TABLE_UNUSABLE = "This cannot be queued yet", "This table cannot be used"
PICTURE_UNUSABLE = "This picture cannot be used as the first frame"
PRESET_NOT_APPLIED, PRESET_APPLIED = "The preset was not applied", "{title}: settings applied."
PRESET_NOT_SAVED, PRESET_SAVED = "The preset was not saved", "The preset {title} was saved."
PRESET_DELETED = "The preset {title} was deleted."
PRESET_GONE = "This preset no longer exists; reload the page."
MODEL_NOT_HERE = "The model {model} is not downloaded; download it in the System tab first."
LORAS_UNUSABLE = "These LoRA files cannot be used"
NOT_QUEUED = "Not queued"
WHICH_PICTURES = "Which pictures work with the embedded model?"
TRY_ONE = "Try one:"
NO_EXAMPLE = "There is no such example; reload the page."
NO_MODEL_TITLE, NO_MODEL = "No model is installed", "Download one first."
MODEL_REPLACED = "Model replaced"

WELCOME_TITLE = "Make your first clip"
WELCOME = "The small model that comes with Ovi Studio draws simple shapes with sound. One click makes a clip."
EXAMPLES = (
    ("Bouncing ball", "A red ball bounces up and down over a green floor.", "a thud at every bounce"),
    ("Rising triangle", "A large cyan triangle floats up above brown wood.", "a tone that follows its height"),
    ("Circling ring", "A yellow ring flies in circles in the dark.", "a tone that follows its height"),
)
"""Title, scene and sound of examples in the words of the embedded model (`demo/captions.py`)."""
ONLY_DEMO = "Get a model for real scenes"
REAL_MODEL = "For real scenes: {title}."
RUNS_HERE = "It {how}."
DOES_NOT_RUN_HERE = "This machine cannot run it: it {how}."
LICENCES = "Licences: {licences}."
DOWNLOAD = "Download {size}"
DOWNLOADING = "Downloading: {done} of {total}. The System tab can stop it."
DOWNLOAD_STARTS = "The download starts."
DOWNLOAD_FAILED = "Not downloaded"


def lacking(presets: int) -> str:
    """How many presets cannot be used, and why."""
    many = "1 more preset needs" if presets == 1 else f"{presets} more presets need"
    return f"{many} a LoRA file or another model"


def unusable(preset: str) -> str:
    """A preset that cannot be used."""
    return f"{preset}, cannot be used"


def delete_preset(preset: str) -> str:
    """What the button beside a preset does."""
    return f"Delete the preset {preset}"


def download_failed(variant: str) -> str:
    """The title of the reason why files could not be downloaded."""
    return f"{variant}: the download failed"


def amount(done: str, total: str) -> str:
    """How much of a download is done."""
    return f"{done} of {total}"


def licence(names: str) -> str:
    """The licences of a preset's files."""
    return f"Licence: {names}"


def remove(adapter: str) -> str:
    """What the button beside an adapter does."""
    return f"Remove {adapter}"


def pace(words_per_second: float, level: PaceLevel) -> str:
    """How fast a row has to be spoken, in short."""
    return f"{words_per_second:.1f}/s {PACES[level]}"


def characters(used: int, most: int) -> str:
    """How much of the longest possible prompt is used."""
    return f"{used:,} of {most:,} characters"


def makes(clips: int) -> str:
    """How many clips the form makes."""
    return f"Makes {_clips(clips)}"


def table_makes(clips: int) -> str:
    """How many clips a table makes."""
    return f"The table makes {_clips(clips)}"


def in_queue(clips: int, batch: str) -> str:
    """Clips were queued; `batch` is empty without a name."""
    named = f" as “{batch}”" if batch else ""
    return f"{_clips(clips)} {'is' if clips == 1 else 'are'} in the queue{named}."


def takes(whole: str, each: str) -> str:
    """How long all clips take, and each of them; `each` is empty for one clip."""
    return f"About {whole}" + (f" ({each} each)" if each else "")


def prompts(count: int, seeds: int) -> str:
    """How many prompts a pattern stands for."""
    return f"{count} prompts" + (f", {seeds} seeds each" if seeds > 1 else "")


def and_more(count: int) -> str:
    """How many are not listed."""
    return f"and {count} more"


def skipped(rows: int) -> str:
    """How many rows of a table make no clip."""
    return "1 row is skipped" if rows == 1 else f"{rows} rows are skipped"


def bad_row(line: int, reason: str) -> str:
    """Why a row of a table makes no clip."""
    return f"Line {line}: {reason}"


def warning(sentence: str) -> str:
    """What may be wrong with a table."""
    return f"Warning: {sentence}"


def wrong_length(line: int, most: int, length: int) -> str:
    """A prompt of a table is empty or too long."""
    return f"The prompt of line {line} must have 1 to {most} characters, not {length}."


def other_model(missing: str, used: str) -> str:
    """The form has another model than the clip was made with."""
    return f"{missing} is not installed; using {used}."


def _clips(number: int) -> str:
    return "1 clip" if number == 1 else f"{number} clips"
