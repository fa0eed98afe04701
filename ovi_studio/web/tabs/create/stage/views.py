"""HTML for the stage. All text from users is escaped here.

The strings are used as the value of `gr.HTML` and never in a template (see `job_views`). Which clip is on the stage is
up to the page: `stage.js` reads the data attributes.
"""

from collections.abc import Sequence
from html import escape

from ovi_studio.core.prompt_spelling import for_people
from ovi_studio.core.variants import Variant
from ovi_studio.queue.model import ClipPhase, Job, JobState
from ovi_studio.web import texts as common
from ovi_studio.web.job_views import WAVE, bar, progress_words, step_of
from ovi_studio.web.media_routes import job_picture_url
from ovi_studio.web.public_text import for_page
from ovi_studio.web.saving import save_html
from ovi_studio.web.tabs.create.stage import texts
from ovi_studio.web.views import (
    format_adapters,
    format_first_frame,
    format_sampling,
    format_seconds,
    notice_html,
    shorten,
)

_ICONS = {
    "vary": "M4 7h3l9 10h4m-3-3l3 3-3 3M4 17h3l2.4-2.7M13 8.6L16 7h4m-3-3l3 3-3 3",
    "new_sound": "M4 10v4h3l5 4V6l-5 4zM16 8l4 4m0-4l-4 4M16 16h5",
    "new_picture": "M4 5h11v14H4zM4 15l3-3 3 3 2-2 3 3M20 6v6m-3-3h6",
    "part": "M8 4v16M16 4v16M3 12h2M19 12h2M11 9v6M13 10v4",
    "use": "M6 3h9l4 4v14H6zM14 3v5h5M9 13h6M9 17h6",
    "frame": "M4 5h16v14H4zM4 15l4-4 4 4 3-3 5 5",
    "extend": "M4 6v12l8-6zM14 12h6m-3-3l3 3-3 3",
    "improve": "M4 14v6h6M4 20l7-7M20 10V4h-6M20 4l-7 7",
    "favourite": "M12 20s-7.5-4.6-7.5-10A4.2 4.2 0 0 1 12 7.4 4.2 4.2 0 0 1 19.5 10c0 5.4-7.5 10-7.5 10z",
    "compare": "M4 5h7v14H4zM13 5h7v14h-7z",
    "grid": "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
    "download": "M12 4v11m-4-4l4 4 4-4M5 20h14",
    "remove": "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
    "cancel": "M7 7l10 10M17 7L7 17",
    "swap": "M4 6h16v12H4zM12 11h6v5h-6z",
}


def status_html(running: Sequence[Job], ended: Job | None, waiting: int, paused: bool, has_clip: bool) -> str:
    """Render what is being made, or how the last job ended if it made no clip; empty if there is nothing to say."""
    if running:
        return "".join(map(_live_html, running))
    if waiting:
        more = texts.PAUSED if paused else texts.NEXT
        return (
            f'<div class="idle" role="status">{WAVE}<p class="state">{texts.clips_waiting(waiting)}</p>'
            f'<p class="hint">{more}</p></div>'
        )
    if ended is not None and ended.state is JobState.FAILED:
        return notice_html(ended.error or "", texts.failed(ended.number))
    if ended is not None and ended.state is JobState.CANCELLED:
        return f'<div class="idle" role="status">{WAVE}<p class="state">{texts.CANCELLED}</p></div>'
    if has_clip:
        return ""
    return (
        f'<div class="idle">{WAVE}<p class="state">{texts.IDLE}</p><p class="hint">{escape(texts.IDLE_HINT)}</p></div>'
    )


def _live_html(job: Job) -> str:
    state, left, fraction = progress_words(job)
    picture = f'<div class="picture">{WAVE}</div>'
    if job.progress is not None and job.progress.preview is not None:
        address = escape(job_picture_url(job) or "")
        picture = f'<div class="picture"><img src="{address}" alt="{texts.PREVIEW}"></div>'
    title = f"{common.clip(job.number)}: {shorten(job.spec.prompt, 160)}"
    return (
        f'<section class="live" data-id="{escape(job.id)}" aria-label="{common.clip(job.number)}">'
        f'<button type="button" class="swap" data-act="swap" aria-label="{texts.SWAP}" title="{texts.SWAP}">'
        f"{picture}{_icon('swap')}</button>"
        f'<div class="doing"><p class="what">{escape(title)}</p>'
        f'<p class="line"><span class="state">{escape(state)}</span><span class="left">{escape(left)}</span></p>'
        f'{bar(fraction)}<p class="spoken" role="status">{escape(_spoken(job, state, fraction))}</p></div>'
        f"{_cancel(job, texts.CANCEL)}</section>"
    )


def _spoken(job: Job, state: str, fraction: float | None) -> str:
    """What a screen reader hears: every phase, and every quarter of the steps."""
    if job.progress is not None and job.progress.phase is ClipPhase.DENOISING and fraction is not None:
        return texts.percent_of(job.number, 25 * int(4 * fraction))
    return f"{common.clip(job.number)}: {state}"


def _cancel(job: Job, words: str = "") -> str:
    label = texts.cancel(job.number)
    disabled = " disabled" if job.cancelling else ""
    return (
        f'<button type="button" class="cancel" data-act="cancel" data-id="{escape(job.id)}" aria-label="{label}" '
        f'title="{label}"{disabled}>{words or _icon("cancel")}</button>'
    )


def filmstrip_html(running: Sequence[Job], done: Sequence[Job], grids: frozenset[int], waiting: int) -> str:
    """Render running jobs with their progress, then finished clips, the newest first.

    Args:
        grids: the batches that are grids.
    """
    cards = [_running_card(job) for job in running] + [_clip_card(job, job.batch in grids) for job in done]
    if not cards and not waiting:
        return f'<p class="hint">{texts.EMPTY_STRIP}</p>'
    more = f'<li class="waiting"><span>{texts.clips_waiting(waiting)}</span></li>' if waiting else ""
    return f'<ol class="strip" aria-label="{texts.STRIP}">{more}{"".join(cards)}</ol>'


def _running_card(job: Job) -> str:
    state, _, fraction = progress_words(job)
    denoises = job.progress is not None and job.progress.phase is ClipPhase.DENOISING and not job.cancelling
    short = (step_of(job) if denoises else "") or state
    words = shorten(job.spec.prompt, 70)
    return (
        f'<li class="card running"><button type="button" class="frame" data-show="{escape(job.id)}" '
        f'data-state="running" data-number="{job.number}" title="{escape(words)}" '
        f'aria-label="{common.clip(job.number)}, {escape(state)}: {escape(words)}">{_picture(job)}'
        f'<span class="number">{job.number}</span><span class="step">{escape(short)}</span></button>'
        f"{bar(fraction, common.progress_of(job.number))}{_cancel(job)}</li>"
    )


def _clip_card(job: Job, in_grid: bool) -> str:
    words = shorten(job.spec.prompt, 70)
    grid = f' data-grid="{job.batch}"' if in_grid else ""
    return (
        f'<li class="card"><button type="button" class="frame" data-show="{escape(job.id)}" data-state="done" '
        f'data-number="{job.number}" data-seed="{job.spec.seed}"{grid} title="{escape(words)}" '
        f'aria-label="{common.clip(job.number)}: {escape(words)}">{_picture(job)}'
        f'<span class="number">{job.number}</span></button></li>'
    )


def _picture(job: Job) -> str:
    address = job_picture_url(job)
    return f'<img src="{escape(address)}" alt="" decoding="async">' if address else WAVE


def result_bar_html(job: Job, favourite: bool | None, in_grid: bool) -> str:
    """Render the buttons for the clip on the stage.

    Args:
        favourite: None if the clip is no longer in the library.
    """
    address = f"studio/job/{escape(job.id)}"
    acts = [
        _act(job, "vary", texts.VARY, texts.VARY_HINT),
        _act(job, "new_sound", texts.NEW_SOUND, texts.NEW_SOUND_HINT),
        _act(job, "new_picture", texts.NEW_PICTURE, texts.NEW_PICTURE_HINT),
        _act(job, "part", texts.PART, texts.PART_HINT),
        _act(job, "use", texts.SAME_SEED, texts.SAME_SEED_HINT),
        _act(job, "frame", texts.LAST_FRAME, texts.LAST_FRAME_HINT),
        _act(job, "extend", texts.CONTINUE, texts.CONTINUE_HINT),
        _act(job, "improve", texts.IMPROVE, texts.IMPROVE_HINT),
        '<span class="grow"></span>',
    ]
    if in_grid:
        acts.append(_act(job, "grid", texts.GRID, texts.GRID_HINT, f' data-batch="{job.batch}"'))
    if favourite is not None:
        pressed = f' aria-pressed="{str(favourite).lower()}"'
        acts.append(_act(job, "favourite", texts.FAVOURITE, texts.FAVOURITE, pressed))
    acts += [
        _act(job, "compare", texts.COMPARE, texts.COMPARE_HINT),
        f'<a href="{address}/clip.mp4?download" download title="{texts.DOWNLOAD}">{_icon("download")}'
        f"<span>{texts.DOWNLOAD}</span></a>",
        save_html(address),
        _act(job, "remove", texts.DELETE, texts.DELETE),
    ]
    return (
        f'<div class="acts" role="toolbar" aria-label="{common.clip(job.number)}" data-of="{escape(job.id)}">'
        f'{"".join(acts)}</div><p class="asking" role="status">{texts.CHOOSE_OTHERS}</p>'
    )


def _act(job: Job, act: str, words: str, hint: str, more: str = "") -> str:
    return (
        f'<button type="button" data-act="{act}" data-id="{escape(job.id)}" title="{escape(hint)}"{more}>'
        f"{_icon(act)}<span>{escape(words)}</span></button>"
    )


def recipe_html(job: Job, variant: Variant | None, size: tuple[int, int] | None = None) -> str:
    """Render the settings of a clip; empty if the job has none.

    Args:
        size: height and width in pixels; left out if they are not known.
    """
    if job.clip is None:
        return ""
    spec = job.spec
    rows = {
        common.SEED: str(spec.seed),
        common.SIZE: f"{size[1]} × {size[0]}" if size else "",
        common.LENGTH: f"{variant.seconds:.1f} s" if variant else "",
        common.MODEL: variant.title if variant else spec.variant,
        common.FIRST_FRAME: format_first_frame(spec, common.YES),
        common.STEPS: format_sampling(spec),
        common.GUIDANCE: common.guidance(spec.video_guidance, spec.audio_guidance),
        common.SKIPPED_BLOCK: _skipped(spec.slg_layer, variant),
        common.LORAS: format_adapters(spec),
        texts.MADE_IN: format_seconds(job.seconds),
        texts.MEMORY: for_page(job.note or ""),
        common.FILE: job.clip.name,
    }
    items = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows.items() if value)
    prompt = escape(for_people(spec.prompt))
    return (
        f'<details class="recipe"><summary>{texts.SETTINGS}</summary><p class="prompt">{prompt}</p>'
        f"<dl>{items}</dl></details>"
    )


def _icon(name: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_ICONS[name]}"/></svg>'


def _skipped(layer: int | None, variant: Variant | None) -> str:
    if layer is None and variant is None:
        return ""
    block = variant.slg_layer if layer is None and variant else layer or 0
    return str(block) if block > 0 else common.NONE
