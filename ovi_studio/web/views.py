"""HTML and text that several tabs use. All text from users is escaped here, except where noted."""

from html import escape

from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.core.prompt_spelling import in_words
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.sizes import OWN_SIZE
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.core.spec import ClipSpec, format_timesteps
from ovi_studio.core.step_caches import OFF, STEP_CACHES
from ovi_studio.core.variants import Variant
from ovi_studio.web import texts
from ovi_studio.web.public_text import for_page


def notice_html(reason: str, title: str) -> str:
    """Render an error: a title, and the reason with advice."""
    return f'<div class="notice" role="alert"><strong>{escape(title)}</strong><p>{escape(for_page(reason))}</p></div>'


def success_html(sentence: str) -> str:
    """Render a confirmation."""
    return f'<div class="notice good" role="status"><p>{escape(sentence)}</p></div>'


def shorten(prompt: str, length: int) -> str:
    """Shorten a prompt to one line of `length` characters, without the model's tags. Not escaped."""
    words = in_words(prompt)
    return words if len(words) <= length else f"{words[: length - 1].rstrip()}…"


def tag_of(variant: Variant | None) -> AudioTag:
    """Return the tag that marks a variant's audio description; without a variant, the default of the published ones."""
    return variant.audio_tag if variant else AudioTag.AUDIO


def ratio_label(name: str, size: tuple[int, int]) -> str:
    """Label an aspect ratio in two lines: its name, and its size as width × height."""
    height, width = size
    return f"{texts.OWN_RATIO if name == OWN_SIZE else name}\n{width} × {height}"


def ratio_hint(picture_size: tuple[int, int] | None) -> str:
    """Return the hint below the aspect ratios."""
    if picture_size is None:
        return texts.SAME_AREA
    height, width = picture_size
    return texts.decides_size(width, height)


def format_adapters(spec: ClipSpec) -> str:
    """Format a clip's adapters, as in `fast 1, audio 0 (accelerator); film 0.8`. Not escaped."""
    return "; ".join(
        [texts.accelerator(format_adapter(use)) for use in spec.accelerators]
        + [format_adapter(use) for use in spec.adapters]
    )


def format_adapter(use: AdapterUse) -> str:
    """Format an adapter with its strengths. Not escaped."""
    name = use.name.rpartition("/")[2].removesuffix(".safetensors")
    return f"{name} {use.video}" if use.video == use.audio else texts.strengths(name, str(use.video), str(use.audio))


def format_sampling(spec: ClipSpec) -> str:
    """Format the sampling settings, as in `30, UniPC, shift 5, step cache Fast` or `4, Restart, at 1000,750,500`."""
    where = texts.at(format_timesteps(spec.timesteps)) if spec.timesteps else texts.shift(spec.shift)
    cache = "" if spec.step_cache == OFF else STEP_CACHES[spec.step_cache].title
    return texts.sampling(spec.steps, SOLVERS[spec.solver].title, where, cache)


def format_first_frame(spec: ClipSpec, name: str) -> str:
    """Format a clip's first frame, as in `harbour.png, raw colours`. Not escaped."""
    if spec.image is None:
        return texts.NONE
    return texts.raw_colours(name) if spec.raw_colours else name


def format_seconds(seconds: float | None) -> str:
    """Format a duration, as in `8 s`, `1 min 20 s` or `2 h 5 min`."""
    whole = max(0, round(seconds or 0))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_pace(seconds_per_step: float | None) -> str:
    """Format the seconds per step, as in `0.25 s/step` or `12.3 s/step`."""
    seconds = seconds_per_step or 0
    return f"{seconds:.2f} s/step" if seconds < 1 else f"{seconds:.1f} s/step"
