"""HTML for jobs and clips. All text from users is escaped here.

The strings are used as the value of `gr.HTML` and never in a template: Gradio evaluates `${...}` in what `{{ }}` has
inserted into a template (6.31), so a prompt could run code in the page.
"""

from collections.abc import Sequence
from html import escape

from ovi_studio.engine.slot import EngineSlot
from ovi_studio.queue.model import ClipPhase, EngineInfo, Job
from ovi_studio.services.machines import THIS_MACHINE
from ovi_studio.web import texts
from ovi_studio.web.views import format_pace, format_seconds

WAVE = """
  <svg viewBox="0 0 50 32" aria-hidden="true"><path d="M4 14v4M11 9v14M18 4v24M25 11v10M32 7v18M39 12v8M46 15v2"/></svg>
"""


def makers(engines: Sequence[EngineInfo]) -> list[EngineSlot]:
    """Return the slots of the engines that make clips, here and on other machines."""
    return [slot for slot in (EngineSlot.of(engine.owner) for engine in engines) if slot.makes_clips]


def maker_name(owner: str, engines: Sequence[EngineInfo]) -> str:
    """Return what people call an engine; empty if there is only one, which needs no name."""
    slot, working = EngineSlot.of(owner), makers(engines)
    if slot.elsewhere or sum(not one.elsewhere for one in working) > 1:
        return slot.title
    return THIS_MACHINE if any(one.elsewhere for one in working) else ""


def step_of(job: Job) -> str:
    """Return the step that a running job is at, as in `14/50`; empty before the first."""
    if job.progress is None or not job.progress.step:
        return ""
    return f"{job.progress.step}/{job.progress.total}"


def progress_words(job: Job) -> tuple[str, str, float | None]:
    """Describe a running job as (activity, details, fraction done)."""
    progress = job.progress
    if job.cancelling:
        late = progress is not None and progress.phase is ClipPhase.WRITING
        return texts.CANCELLING, texts.ENDS_BY_ITSELF if late else texts.ENDS_SOON, None
    if progress is None:
        return texts.STARTING, "", None
    left = "" if progress.seconds_left is None else texts.left(format_seconds(progress.seconds_left))
    match progress.phase:
        case ClipPhase.LOADING:
            return texts.LOADING_MODEL, job.spec.variant, None
        case ClipPhase.DRAWING if progress.step:
            fraction = progress.step / max(1, progress.total)
            return texts.drawing_step(progress.step, progress.total), left, fraction
        case ClipPhase.DRAWING:
            return texts.DRAWING_FRAME, left, None
        case ClipPhase.TEXT:
            return texts.ENCODING, left, None
        case ClipPhase.COMPILING:
            return texts.COMPILING, left or texts.ONLY_ONCE, None
        case ClipPhase.DENOISING if progress.step:
            pace = format_pace(progress.seconds_per_step) if progress.seconds_per_step else ""
            more = " · ".join(filter(None, [pace, left]))
            return texts.step(progress.step, progress.total), more, progress.step / max(1, progress.total)
        case ClipPhase.DENOISING:
            return texts.FIRST_STEP, left, 0.0
        case ClipPhase.DECODING:
            return texts.DECODING, left, progress.fraction
        case ClipPhase.IMPROVING:
            return texts.improving_frame(progress.step, progress.total), left, progress.fraction
    return texts.WRITING, left, None


def bar(fraction: float | None, label: str = texts.PROGRESS) -> str:
    """Render a progress bar; None for a fraction that is not known."""
    name = f'role="progressbar" aria-label="{escape(label)}"'
    if fraction is None:
        return f'<div class="bar waiting" {name}><i></i></div>'
    percent = round(100 * fraction)
    return (
        f'<div class="bar" {name} aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<i style="width:{percent}%"></i></div>'
    )
