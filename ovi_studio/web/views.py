"""Pieces of HTML and words that several tabs show. Everything that a person typed is escaped here."""

from html import escape

from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.sizes import OWN_SIZE
from ovi_studio.core.solvers import SOLVERS
from ovi_studio.core.spec import ClipSpec, format_timesteps
from ovi_studio.core.variants import Variant

HEADER = """
<header class="masthead">
  <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="9"/>
    <path d="M9 13v6M13 9.5v13M17 12v8M21 8v16M25 13.5v5" transform="translate(-1 0)"/></svg>
  <h1>Ovi Studio</h1>
</header>
"""


def notice_html(reason: str, title: str) -> str:
    """Something went wrong, and what to do about it."""
    return f'<div class="notice" role="alert"><strong>{escape(title)}</strong><p>{escape(reason)}</p></div>'


def good_html(sentence: str) -> str:
    """Something worked."""
    return f'<div class="notice good" role="status"><p>{escape(sentence)}</p></div>'


def demo_html(download_command: str | None) -> str:
    """A line for who has only the demo model."""
    if download_command is None:
        return ""
    return (
        '<div class="only-demo"><p><strong>Only the demo model is here.</strong> It shows that everything works; for '
        f"real clips, run</p><code>{escape(download_command)}</code></div>"
    )


def prompt_hint(variant: Variant | None) -> str:
    """How a prompt is written for a variant; Markdown."""
    sound = tag_of(variant).wrap("…")
    return (
        f"Speech stands in `<S>…<E>`, the sound at the end in `{sound}`. `{{red|blue}}` makes a clip of each; "
        "`\\{` and `\\}` are plain braces."
    )


def prompt_example(variant: Variant | None) -> str:
    """A prompt in the variant's own format."""
    return (
        "A fisherman in a yellow coat looks out over a misty harbour at dawn. He turns and says, <S>The sea was "
        f"louder last night.<E> {tag_of(variant).wrap('Gulls, slow waves against wood, a low calm voice.')}"
    )


def tag_of(variant: Variant | None) -> AudioTag:
    """How the audio description is marked; without a variant, as the published ones do."""
    return variant.audio_tag if variant else AudioTag.AUDIO


def ratio_label(name: str, size: tuple[int, int]) -> str:
    """Two lines: the ratio, and its (height, width) as people write it."""
    height, width = size
    return f"{'Own' if name == OWN_SIZE else name}\n{width} × {height}"


def ratio_hint(picture_size: tuple[int, int] | None) -> str:
    """Below the aspect ratios."""
    if picture_size is None:
        return "Every choice has about the same number of pixels."
    height, width = picture_size
    return f"The first frame decides the size: {width} × {height}."


def adapters_words(spec: ClipSpec) -> str:
    """`fast 1, audio 0 (accelerator); film 0.8`; empty without adapters. Not escaped."""
    return "; ".join(
        [f"{use_words(use)} (accelerator)" for use in spec.accelerators] + [use_words(use) for use in spec.adapters]
    )


def use_words(use: AdapterUse) -> str:
    """An adapter with its strengths. Not escaped."""
    name = use.name.rpartition("/")[2].removesuffix(".safetensors")
    return f"{name} {use.video}" if use.video == use.audio else f"{name} {use.video}, audio {use.audio}"


def steps_words(spec: ClipSpec) -> str:
    """`30, UniPC, shift 5`; `4, Restart, at 1000,750,500,250`."""
    where = f"at {format_timesteps(spec.timesteps)}" if spec.timesteps else f"shift {spec.shift:g}"
    return f"{spec.steps}, {SOLVERS[spec.solver].title}, {where}"


def format_seconds(seconds: float | None) -> str:
    """`8 s`, `1 min 20 s`, `2 h 5 min`."""
    whole = max(0, round(seconds or 0))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_pace(seconds_per_step: float | None) -> str:
    """`0.25 s a step`, `12.3 s a step`."""
    seconds = seconds_per_step or 0
    return f"{seconds:.2f} s a step" if seconds < 1 else f"{seconds:.1f} s a step"
