"""The words of the Create tab's form, in one place."""

PROMPT = "Prompt"
PROMPT_RAW = "Prompt as the model reads it"
PROMPT_PLACEHOLDER = "A fisherman in a yellow coat looks out over a misty harbour at dawn."
SOUND = "Sound"
SOUND_PLACEHOLDER = "Gulls, slow waves against wood, a low calm voice."
FIRST_FRAME = "First frame (optional)"
FIRST_FRAME_PLACEHOLDER = "Drop or paste a picture"

MODEL = "Model"
STEPS = "Steps"
RATIO = "Aspect ratio"
SEED = "Seed"
SEED_RANDOM = "Random"
SEED_FIXED = "Fixed"
SEED_NEXT = "+1"
SEED_NUMBER = "Number"
COUNT = "Seeds for each prompt"

SAMPLING = "Guidance and sampling"
BATCH = "Many clips at once: table, batch name, priority"
SAVE_PRESET = "Save these settings as a preset"

QUEUE_ONE = "Create clip"
QUEUE_MANY = "Create {number} clips"
SAVE_JOB = "Save changes"

CHIPS = {
    "model": "Model",
    "look": "Look",
    "ratio": "Ratio",
    "length": "Length",
    "steps": "Steps",
    "seed": "Seed",
    "count": "Count",
}
LENGTH = "Length"
ONE_LENGTH = "Every clip of this model has this length. Continue a clip from its last frame to make it longer."
LOST_PICTURE = "The first frame is no longer kept; choose the picture again."
LOST_TABLE = "The table is no longer kept; choose the file again."
NO_PROMPTS = "The prompts of the clips that you queue are listed here."
NO_MATCH = "No earlier prompt contains these words."
WILDCARDS = "Wildcards"
GROUP = "{red|blue} makes a clip of each. For a literal brace, write \\{"
GROUP_GOES_ON = "One clip for each alternative; close the group with }"

SUGGEST = "Suggest a better prompt"
SUGGEST_ASKING = "Asking…"
SUGGEST_PLACE = "Your prompt is sent to {place}, and so is a first frame."
SUGGEST_OFFER = "Suggestion"
SUGGEST_ACCEPT = "Use it"
SUGGEST_DISCARD = "Discard"

FORM_REPLACED = "The form was replaced."
NOT_SPLIT = "The tags of this text are not in the order that the fields below can show. It stays as it is."
NOT_SPLIT_TITLE = "Stays as text"
JOB_SAVED = "The job was changed."
NOT_SAVED = "Not changed"
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
ONLY_DEMO = "Only the small model is installed: get one for real scenes"
REAL_MODEL = "For real scenes: {title}."
RUNS_HERE = "It {how}."
DOES_NOT_RUN_HERE = "This machine cannot run it: it {how}."
LICENCES = "Licences: {licences}."
DOWNLOAD = "Download {size}"
DOWNLOADING = "Downloading: {done} of {total}. The System tab can stop it."
DOWNLOAD_STARTS = "The download starts."
DOWNLOAD_FAILED = "Not downloaded"
