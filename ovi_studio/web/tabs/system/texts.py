"""What the System tab says."""

from ovi_studio.checkpoints.background import DownloadPhase
from ovi_studio.engine.supervisor import Condition
from ovi_studio.farm.roster import MachineState, Order
from ovi_studio.queue.model import EngineInfo, EngineState
from ovi_studio.services.doctor import CheckState
from ovi_studio.web.views import format_seconds

# Headings and buttons

MACHINES, MODELS, CHECKS, ENGINE = "Machines", "Models", "What this machine can do", "Engine"
SETTINGS, MEMORY, FOLDERS, LOG = "Settings", "Memory and disks", "Folders", "Engine log"
CHECK_AGAIN, RESTART, SAVE = "Check again", "Restart the engine", "Save and restart the engine"
COPY, COPIED, COPY_BY_HAND = "Copy", "Copied", "Press Ctrl+C"
RETRY = "When memory runs out, retry in the next smaller memory tier"
RETRY_HINT = "The clip’s record names the tier; the engine uses it until it is restarted."
PREVIEW, PREVIEW_HINT = "Live preview", "Show a small picture of a clip every few steps."
ON_COMMAND_LINE = "Set on the command line."

# The engine

CONDITIONS = {
    Condition.STARTING: "Starting",
    Condition.RUNNING: "Running",
    Condition.WAITING: "Restarting soon",
    Condition.DOWN: "Down",
    Condition.STOPPED: "Stopped",
}
ENGINE_DOES = {
    EngineState.STARTING: "starting",
    EngineState.IDLE: "waiting for a job",
    EngineState.WORKING: "working",
}
LAST_LINES = "Last lines of the engine log"
NO_LOG = "The engine has not logged anything yet."
STATE_UNREADABLE = "The engine’s state cannot be read"
RESTARTING = "The engine restarts after its current step."
SAVED = "Saved. The engine restarts after its current step; a running job starts again."
NOT_SAVED = "Not saved"

# Models

COMPLETE, NOT_DOWNLOADED, DOWNLOADING = "Complete", "Not downloaded", "Downloading"
DOWNLOAD, RESUME_DOWNLOAD, CANCEL, CANCELLING = "Download", "Resume the download", "Cancel", "Cancelling"
GETTING_SIZES = "Getting file sizes from the hub"
DOWNLOAD_FAILED = "Not downloaded"

# Memory, disks, folders, and what the machine can do

HOST_MEMORY, CLIPS_DISK, CHECKPOINTS_DISK = "Host memory", "Disk with the clips", "Disk with the checkpoints"
CLIPS, CHECKPOINTS, QUEUE_FOLDER, PAGE_LOG = "Clips", "Checkpoints", "Queue, uploads and trash", "Log of the page"
CHECKING = "Checking the machine, the packages and the models."
MACHINE = "Machine"
CHECK_STATES = {CheckState.OK: "OK", CheckState.NOTE: "Note", CheckState.PROBLEM: "Problem"}

# Machines

MACHINE_STATES = {
    MachineState.STARTING: "Starting",
    MachineState.IDLE: "Waiting for a job",
    MachineState.WORKING: "Working",
    MachineState.PAUSED: "Paused",
    MachineState.SET_ASIDE: "Set aside",
    MachineState.REMOVED: "Removed",
}
AFTER_THE_CLIP = {
    Order.PAUSE: "Pauses after its clip",
    Order.DRAIN: "Drains after its clip",
    Order.REMOVE: "Leaves after its step",
}
DRAINED = "Drained"
ORDERS = {Order.PAUSE: "Pause", Order.DRAIN: "Drain", Order.REMOVE: "Remove"}
ORDER_HINTS = {
    Order.PAUSE: "Finish the current clip and take no other",
    Order.DRAIN: "Finish the current clip, take no other, and free the memory",
    Order.REMOVE: "Give the current clip back to the queue and make nothing more",
}
RESUME, RESUME_HINT = "Resume", "Take jobs again"
TRY_AGAIN, TRY_AGAIN_HINT = "Try again", "Take jobs again, whatever went wrong before"
NO_MACHINES = "No other machine has joined. The terminal of this page shows the command that joins one."
NOT_ORDERED = "The machine could not be told"
MAKES, SPEED, CLIPS_MADE, SINCE, MEMORY_OF = "Makes", "Speed", "Clips", "Here for", "Memory"
MAKES_NOTHING, NOT_MEASURED, NOT_KNOWN = "nothing yet", "not measured yet", "not known"
DASHBOARD = "Ray’s dashboard"
DASHBOARD_HINT = "Opens only on the machine of this page, and asks for the token in farm.token"


def machine_state(state: MachineState, order: Order | None) -> str:
    """What a machine does, and what it was told to do next."""
    if state is MachineState.WORKING and order is not None:
        return AFTER_THE_CLIP[order]
    return DRAINED if (state, order) == (MachineState.PAUSED, Order.DRAIN) else MACHINE_STATES[state]


def ordered(name: str, order: Order | None) -> str:
    """What a machine was told."""
    match order:
        case None:
            return f"{name} takes jobs again."
        case Order.PAUSE:
            return f"{name} pauses after its clip."
        case Order.DRAIN:
            return f"{name} frees its memory after its clip."
    return f"{name} is removed; the clip that it was making goes back to the queue."


def speed(per_hour: float | None, per_step: float | None, variant: str) -> str:
    """How fast a machine is, such as `38 clips an hour, 1.20 s a step (960x960_5s)`."""
    if per_step is None or per_hour is None:
        return NOT_MEASURED
    hourly = f"{per_hour:.0f}" if per_hour >= 10 else f"{per_hour:.1f}"
    return f"{hourly} clips an hour, {per_step:.2f} s a step ({variant})"


def memory(total: float, free: float | None) -> str:
    """The memory of a machine in GiB, and what is free of it."""
    if free is None:
        return f"{total:.0f} GiB" if total else NOT_KNOWN
    return f"{free:.1f} GiB free of {total:.0f}"


def free(left: str, total: str) -> str:
    """What is free of a disk or a memory."""
    return f"{left} free of {total}"


def in_use(name: str) -> str:
    """Label of the bar of a disk or a memory."""
    return f"{name} in use"


def engine_line(engine: EngineInfo, *, leads: bool = False) -> str:
    """What an engine's process does; `leads`: it looks after the other machines."""
    if leads:
        return f"Process {engine.pid} looks after the other machines."
    loaded = f"{engine.variant} is loaded" if engine.variant else "no model is loaded yet"
    ending = "; it stops after this step" if engine.stopping else ""
    own = "" if engine.supervised else ", started manually"
    return f"Process {engine.pid}{own}: {ENGINE_DOES[engine.state]}, {loaded}{ending}."


def found(problems: int) -> str:
    """How many problems the checks found."""
    if not problems:
        return "No problems found."
    return "1 problem found." if problems == 1 else f"{problems} problems found."


def results(topic: str, count: int) -> str:
    """The heading of a topic whose results are folded."""
    return f"{topic}: {count} results"


def missing(size: str) -> str:
    """What an incomplete model lacks."""
    return f"Missing {size}"


def model_size(name: str, size: str) -> str:
    """The name and the size of a model."""
    return f"{name}, {size} in total, partly shared with other models"


def not_downloaded(variant: str) -> str:
    """The title of the reason why a model could not be downloaded."""
    return f"{variant} could not be downloaded"


def download_word(phase: DownloadPhase, here: bool) -> str:
    """The button that downloads a model."""
    return RESUME_DOWNLOAD if here and phase is DownloadPhase.CANCELLED else DOWNLOAD


def downloaded(done: str, total: str, speed: str, left: float | None) -> str:
    """How far a download is."""
    time = "" if left is None else f", {format_seconds(left)} left"
    return f"{done} of {total}, {speed}/s{time}"


def check_failed(log: str) -> str:
    """The checks themselves failed."""
    return f"The check failed; {log} says why."
