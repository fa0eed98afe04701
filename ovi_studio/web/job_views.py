"""HTML for jobs and clips. All text from users is escaped here.

The strings are used as the value of `gr.HTML` and never in a template: Gradio evaluates `${...}` in what `{{ }}` has
inserted into a template (6.31), so a prompt could run code in the page.
"""

from html import escape
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import Variant
from ovi_studio.media.clip_files import read_record
from ovi_studio.queue.model import ClipPhase, Job, JobState
from ovi_studio.web.media_routes import job_picture_url
from ovi_studio.web.public_text import for_page
from ovi_studio.web.views import (
    format_adapters,
    format_first_frame,
    format_pace,
    format_sampling,
    format_seconds,
    notice_html,
)

WAVE = """
  <svg viewBox="0 0 50 32" aria-hidden="true"><path d="M4 14v4M11 9v14M18 4v24M25 11v10M32 7v18M39 12v8M46 15v2"/></svg>
"""
STATE_NAMES = {
    JobState.QUEUED: "Waiting",
    JobState.RUNNING: "Running",
    JobState.DONE: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}


def progress_words(job: Job) -> tuple[str, str, float | None]:
    """Describe a running job as (activity, details, fraction done)."""
    progress = job.progress
    if job.cancelling:
        late = progress is not None and progress.phase is ClipPhase.WRITING
        return "Cancelling", "This cannot be interrupted; it ends soon" if late else "Ends in a moment", None
    if progress is None:
        return "Starting", "", None
    left = "" if progress.seconds_left is None else f"about {format_seconds(progress.seconds_left)} left"
    match progress.phase:
        case ClipPhase.LOADING:
            return "Loading the model", job.spec.variant, None
        case ClipPhase.TEXT:
            return "Encoding the prompt", left, None
        case ClipPhase.COMPILING:
            return "Compiling the transformer", left or "Once for clips of this kind", None
        case ClipPhase.DENOISING if progress.step:
            pace = format_pace(progress.seconds_per_step) if progress.seconds_per_step else ""
            more = " · ".join(filter(None, [pace, left]))
            return f"Step {progress.step} of {progress.total}", more, progress.step / max(1, progress.total)
        case ClipPhase.DENOISING:
            return "First step", left, 0.0
        case ClipPhase.DECODING:
            return "Decoding picture and sound", left, progress.fraction
    return "Writing the clip", left, None


def bar(fraction: float | None, label: str = "Progress") -> str:
    """Render a progress bar; None for a fraction that is not known."""
    name = f'role="progressbar" aria-label="{escape(label)}"'
    if fraction is None:
        return f'<div class="bar waiting" {name}><i></i></div>'
    percent = round(100 * fraction)
    return (
        f'<div class="bar" {name} aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<i style="width:{percent}%"></i></div>'
    )


def stage_html(running: Job | None, ended: Job | None, waiting: int, paused: bool, has_clip: bool) -> str:
    """Render the panel above the last clip: the current activity, or how the last job ended."""
    tall = "" if has_clip else " tall"
    if running is not None:
        return _running_html(running, tall)
    if waiting:
        more = "The queue is paused; resume it in the Queue tab." if paused else "The engine starts the next one."
        jobs = "1 clip waiting" if waiting == 1 else f"{waiting} clips waiting"
        return (
            f'<div class="stage{tall}" role="status">{WAVE}<p class="line"><span class="state">{jobs}</span>'
            f'<span class="left">{more}</span></p></div>'
        )
    if ended is not None and ended.state is JobState.FAILED:
        return notice_html(ended.error or "", f"Clip {ended.number} could not be made")
    if ended is not None and ended.state is JobState.CANCELLED:
        return f'<div class="stage{tall and " tall idle"}" role="status">{WAVE}<p class="state">Cancelled</p></div>'
    if has_clip:
        return ""
    return (
        f'<div class="stage tall idle">{WAVE}<p class="state">Your clip appears here</p>'
        '<p class="hint">Describe what it should show and sound like, then press Queue or Ctrl+Enter.</p></div>'
    )


def _running_html(job: Job, tall: str) -> str:
    state, left, fraction = progress_words(job)
    picture, shown = "", ""
    if job.progress is not None and job.progress.preview is not None:
        address = escape(job_picture_url(job) or "")
        picture, shown = f'<img class="preview" src="{address}" alt="Preview of the clip that is being made">', " shown"
    title = f"Clip {job.number}: {_shorten(job.spec.prompt, 90)}"
    return f"""
<div class="stage working{tall}{shown}">{picture or WAVE}
  <p class="what">{escape(title)}</p>
  <p class="line" role="status"><span class="state">{escape(state)}</span><span class="left">{escape(left)}</span></p>
  {bar(fraction)}
</div>
"""


def clip_html(job: Job | None) -> str:
    """Render the last clip with a player and a download link; its file is requested by the job's id."""
    if job is None or job.clip is None:
        return ""
    address = f"studio/job/{escape(job.id)}"
    if not job.clip.is_file():
        return '<div class="stage"><p class="hint">The last clip was moved or deleted.</p></div>'
    return (
        f'<figure class="clip"><video src="{address}/clip.mp4" poster="{address}/poster.jpg" controls loop playsinline '
        f'preload="metadata" aria-label="Clip {job.number}"></video>'
        f'<a class="save" href="{address}/clip.mp4?download" download>Save clip {job.number}</a></figure>'
    )


def recipe_html(job: Job | None, variant: Variant | None) -> str:
    """Render the settings of a clip."""
    if job is None or job.clip is None:
        return ""
    spec = job.spec
    rows = {
        "Seed": str(spec.seed),
        "Size": _size(job.clip),
        "Length": f"{variant.seconds:.1f} s" if variant else "",
        "Model": variant.title if variant else spec.variant,
        "First frame": format_first_frame(spec, "yes"),
        "Steps": format_sampling(spec),
        "Guidance": f"video {spec.video_guidance:g}, audio {spec.audio_guidance:g}",
        "Skipped block": _skipped(spec.slg_layer, variant),
        "LoRAs": format_adapters(spec),
        "Made in": format_seconds(job.seconds),
        "Memory": for_page(job.note or ""),
        "File": job.clip.name,
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows.items() if value)
    return f'<div class="recipe"><p class="prompt">{escape(spec.prompt)}</p><dl>{items}</dl></div>'


def _shorten(text: str, length: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else words[: length - 1].rstrip() + "…"


def _skipped(layer: int | None, variant: Variant | None) -> str:
    if layer is None and variant is None:
        return ""
    block = variant.slg_layer if layer is None and variant else layer or 0
    return str(block) if block > 0 else "none"


def _size(clip: Path) -> str:
    try:
        height, width = read_record(clip)["size"]
    except (JobError, KeyError, TypeError, ValueError):
        return ""
    return f"{width} × {height}"
