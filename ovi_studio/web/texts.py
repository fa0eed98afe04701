"""What several parts of the page say: states and progress of jobs, settings of clips, and what everything is called."""

from ovi_studio.queue.model import JobState

NAME = "Ovi Studio"
STATES = {
    JobState.QUEUED: "Waiting",
    JobState.RUNNING: "Running",
    JobState.DONE: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}

PROGRESS = "Progress"
CANCELLING, ENDS_SOON = "Cancelling", "Ends in a moment"
ENDS_BY_ITSELF = "This cannot be interrupted; it ends soon"
STARTING = "Starting"
LOADING_MODEL = "Loading the model"
DRAWING_FRAME = "Drawing the first frame"
ENCODING = "Encoding the prompt"
COMPILING, ONLY_ONCE = "Compiling the transformer", "Once for clips of this kind"
FIRST_STEP = "First step"
DECODING = "Decoding picture and sound"
WRITING = "Writing the clip"

SEED = "Seed"
SIZE = "Size"
LENGTH = "Length"
MODEL = "Model"
FIRST_FRAME = "First frame"
STEPS = "Steps"
GUIDANCE = "Guidance"
SKIPPED_BLOCK = "Skipped block"
LORAS = "LoRA files"
FILE = "File"
NONE, YES = "none", "yes"
OWN_RATIO = "Own"
SAME_AREA = "All choices have about the same number of pixels."
UNEXPECTED = (
    "The server cannot answer this request; reload the page, or correct the call. The log of the page, {log}, says why."
)
"""`{log}` is a file's name."""


def clip(number: int) -> str:
    """What the clip of a job is called."""
    return f"Clip {number}"


def progress_of(number: int) -> str:
    """What the progress bar of a job is called."""
    return f"Progress of clip {number}"


def step(number: int, total: int) -> str:
    """Which step is being computed."""
    return f"Step {number} of {total}"


def drawing_step(number: int, total: int) -> str:
    """Which step of the first frame is being computed."""
    return f"{DRAWING_FRAME}: step {number} of {total}"


def improving_frame(number: int, total: int) -> str:
    """Which frame is being made larger or smoother."""
    return f"Improving: frame {number} of {total}"


def left(time: str) -> str:
    """How long a job still takes."""
    return f"about {time} left"


def guidance(video: float, audio: float) -> str:
    """The strengths of guidance for picture and sound."""
    return f"video {video:g}, audio {audio:g}"


def decides_size(width: int, height: int) -> str:
    """Why no aspect ratio can be chosen."""
    return f"The first frame decides the size: {width} × {height}."


def accelerator(adapter: str) -> str:
    """An adapter that speeds up."""
    return f"{adapter} (accelerator)"


def strengths(name: str, video: str, audio: str) -> str:
    """An adapter of which the sound has another strength."""
    return f"{name} {video}, audio {audio}"


def sampling(steps: int, solver: str, where: str, cache: str) -> str:
    """How a clip is sampled; `cache` is empty for none."""
    return f"{steps}, {solver}, {where}" + (f", step cache {cache}" if cache else "")


def at(timesteps: str) -> str:
    """The timesteps that a clip is sampled at."""
    return f"at {timesteps}"


def shift(value: float) -> str:
    """How far the timesteps are moved towards noise."""
    return f"shift {value:g}"


def raw_colours(picture: str) -> str:
    """A first frame of which the colour profile is ignored."""
    return f"{picture}, raw colours"


def not_uploaded(what: str) -> str:
    """A file was named that is no upload."""
    return f"The {what} was not uploaded here; choose the file again."
