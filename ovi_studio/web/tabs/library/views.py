"""HTML for the Library tab. All text from users and files is escaped here.

The strings are used as values of `gr.HTML`, never in templates (see `job_views`). Clips and posters are requested by
id (`media_routes`).
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ovi_studio.core.prompt_spelling import for_people
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library import LibraryClip, TrashedClip
from ovi_studio.web import texts as common
from ovi_studio.web.tabs.library import texts
from ovi_studio.web.views import format_adapters, format_first_frame, format_sampling, shorten

Serve = Callable[[Path], str | None]
"""Returns the URL of a copy that is served to browsers; None if the file is gone."""
_LABEL = 70
"""Characters of a prompt in a label that is only heard."""

_HEART = '<path d="M12 19.5C6.5 15.2 4 12.3 4 9.2A4.1 4.1 0 0 1 12 7.8a4.1 4.1 0 0 1 8 1.4c0 3.1-2.5 6-8 10.3z"/>'
_PLAY = '<path d="M9 6.5v11l9-5.5z"/>'


def wall_html(clips: Sequence[LibraryClip], selected: Collection[str]) -> str:
    """Render the clips as cards, marking the selected ones."""
    cards = "".join(_card(clip, clip.id in selected) for clip in clips)
    return f'<ul class="wall" aria-label="{texts.WALL_LABEL}">{cards}</ul>'


def trash_html(clips: Sequence[TrashedClip], selected: Collection[str], serve: Serve) -> str:
    """Render the clips in the trash as cards that can be selected."""
    cards = []
    for clip in clips:
        words = clip.prompt or clip.name
        cards.append(
            f'<li class="card"><div class="poster">{_picture(serve(clip.poster) if clip.poster else None)}</div>'
            f"{_caption(words, texts.deleted(format_day(clip.trashed)))}"
            f'<div class="tools">{_tick(clip.id, words, clip.id in selected)}</div></li>'
        )
    return f'<ul class="wall" aria-label="{texts.TRASH_LABEL}">{"".join(cards)}</ul>'


def empty_html(sentence: str) -> str:
    """Render a sentence in place of an empty wall."""
    return f'<div class="nothing" role="status"><p>{escape(sentence)}</p></div>'


def shelf_html(collections: Mapping[str, str], tags: Sequence[str], search: str) -> str:
    """Render collections and tags as buttons that search for them; empty if there are none."""
    search = " ".join(search.split())
    saved = "".join(_collection(name, terms, terms == search) for name, terms in collections.items())
    chips = "".join(_tag(tag, search) for tag in tags)
    groups = ((texts.COLLECTIONS, saved), (texts.TAGS, chips))
    return "".join(
        f'<div class="shelf" role="group" aria-label="{name}"><span class="name">{name}</span>{items}</div>'
        for name, items in groups
        if items
    )


def tag_term(tag: str) -> str:
    """Return the search for a tag."""
    return f'tag:"{tag}"' if " " in tag else f"tag:{tag}"


def describe_clip(clip: LibraryClip, title: str) -> dict[str, Any]:
    """Describe a clip as JSON for the lightbox, which shows all of it as text; `title` is that of its model."""
    return {
        "name": clip.name,
        "prompt": for_people(clip.spec.prompt),
        "favourite": clip.favourite,
        "tags": list(clip.tags),
        "facts": _facts(clip, title),
    }


def format_day(when: float) -> str:
    """Format a time in the local time zone: `today 14:05`, else `3 May 2026`."""
    moment = time.localtime(when)
    if moment[:3] == time.localtime()[:3]:
        return texts.today(f"{moment.tm_hour:02d}:{moment.tm_min:02d}")
    return f"{moment.tm_mday} {time.strftime('%b %Y', moment)}"


def _card(clip: LibraryClip, selected: bool) -> str:
    prompt = clip.spec.prompt
    short = escape(shorten(prompt, _LABEL))
    mark = texts.UNMARK if clip.favourite else texts.MARK
    tags = "".join(f"<span>{escape(tag)}</span>" for tag in clip.tags)
    return (
        f'<li class="card" data-clip="{clip.id}">'
        f'<button type="button" class="poster" data-act="open" data-id="{clip.id}" aria-label="{texts.PLAY}: {short}">'
        f'{_picture(_poster(clip))}<svg viewBox="0 0 24 24" aria-hidden="true">{_PLAY}</svg>'
        f'<span class="length">{clip.seconds:.1f} s</span></button>'
        f'{_caption(prompt, format_day(clip.made))}{f"""<p class="tags">{tags}</p>""" if tags else ""}'
        f'<div class="tools">{_tick(clip.id, prompt, selected)}'
        f'<button type="button" class="star" data-act="mark" data-id="{clip.id}" '
        f'aria-pressed="{"true" if clip.favourite else "false"}" aria-label="{texts.FAVOURITE}: {short}" '
        f'title="{mark}"><svg viewBox="0 0 24 24" aria-hidden="true">{_HEART}</svg></button></div></li>'
    )


def _collection(name: str, search: str, current: bool) -> str:
    shown, terms, forget = escape(name), escape(search), escape(texts.delete_collection(name))
    return (
        f'<span class="chip{" current" if current else ""}"><button type="button" data-search="{terms}" '
        f'aria-pressed="{"true" if current else "false"}" title="{terms}">{shown}</button>'
        f'<button type="button" class="remove" data-forget="{shown}" aria-label="{forget}">×'
        "</button></span>"
    )


def _tag(tag: str, search: str) -> str:
    current = search == tag_term(tag)
    return (
        f'<span class="chip{" current" if current else ""}"><button type="button" data-search="'
        f'{escape("" if current else tag_term(tag))}" aria-pressed="{"true" if current else "false"}">{escape(tag)}'
        "</button></span>"
    )


def _caption(words: str, when: str) -> str:
    return f'<p class="words">{escape(shorten(words, 160))}</p><p class="when">{escape(when)}</p>'


def _tick(clip: str, words: str, selected: bool) -> str:
    return (
        f'<label class="tick"><input type="checkbox" data-act="pick" data-id="{escape(clip)}"'
        f'{" checked" if selected else ""} aria-label="{texts.SELECT}: {escape(shorten(words, _LABEL))}">'
        f'<span aria-hidden="true">{texts.SELECT}</span></label>'
    )


def _poster(clip: LibraryClip) -> str | None:
    return f"studio/clip/{clip.id}/poster.jpg" if clip.poster else None


def _picture(address: str | None) -> str:
    return f'<img src="{escape(address)}" alt="" loading="lazy" decoding="async">' if address else ""


def _facts(clip: LibraryClip, title: str) -> list[tuple[str, str]]:
    spec: ClipSpec = clip.spec
    height, width = clip.size
    skipped = texts.MODELS_OWN if spec.slg_layer is None else str(spec.slg_layer) if spec.slg_layer > 0 else common.NONE
    return [
        (common.SEED, str(spec.seed)),
        (common.SIZE, f"{width} × {height}"),
        (common.LENGTH, f"{clip.seconds:.1f} s"),
        (common.MODEL, title),
        (common.FIRST_FRAME, format_first_frame(spec, spec.image.name if spec.image else "")),
        (common.STEPS, format_sampling(spec)),
        (common.GUIDANCE, common.guidance(spec.video_guidance, spec.audio_guidance)),
        (common.SKIPPED_BLOCK, skipped),
        (common.LORAS, format_adapters(spec) or common.NONE),
        (texts.VIDEO_NEGATIVE, spec.video_negative_prompt or common.NONE),
        (texts.AUDIO_NEGATIVE, spec.audio_negative_prompt or common.NONE),
        (texts.MADE, format_day(clip.made)),
        (common.FILE, clip.name),
    ]
