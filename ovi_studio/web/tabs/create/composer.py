"""What the clip shows and says: the prompt, its rows of speech, the sound and the first frame, and the bar above them.

The prompt's tags are neither typed nor seen: `core/prompt_composition` takes a prompt apart and puts it together. A
prompt that cannot be taken apart is edited as text, and so is any other on request.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_patterns import read_wildcard, wildcard_names
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.uploads import uploads_only

_HERE = Path(__file__).parent
_DESK_SCRIPTS = ("draft.js", "kept_files.js", "chips.js", "prompt_history.js", "patterns.js")
_MOST_TYPED = 5 * MAX_PROMPT_LENGTH
"""Characters that a field takes: what is too long for a prompt is kept, and reported."""
_SHOWN_LINES = 3
_DESK = f"""
<div class="edit-bar" role="group" aria-label="{texts.EDITING}" hidden><strong></strong>
<button type="button" data-act="discard">{texts.DISCARD}</button>
<button type="button" data-act="save" class="save">{texts.SAVE}</button></div>
<div class="desk-bar" role="toolbar" aria-label="{texts.DESK}">
<button type="button" data-act="undo" title="{texts.UNDO_HINT}" disabled>{texts.UNDO}</button>
<button type="button" data-act="redo" title="{texts.REDO_HINT}" disabled>{texts.REDO}</button>
<button type="button" data-act="history" aria-haspopup="dialog" aria-expanded="false">{texts.HISTORY}</button>
<button type="button" data-act="raw" aria-pressed="false" title="{texts.RAW_HINT}">{texts.RAW}</button>
</div>
<div class="history pop" role="dialog" aria-label="{texts.EARLIER_PROMPTS}">
<input type="search" aria-label="{texts.SEARCH_PROMPTS}" placeholder="{texts.SEARCH_PROMPTS}">
<ul></ul><p class="none" hidden></p></div>
"""
_CUES = f"""
<ol class="cues" aria-label="{texts.CUES}"></ol>
<div class="add"><button type="button" data-add="speech">{texts.ADD_SPEECH}</button>
<button type="button" data-add="text">{texts.ADD_TEXT}</button></div>
"""
_FINDINGS_SCRIPT = """
element.addEventListener("click", (event) => {
  if (event.target.closest("[data-repair]")) trigger("repair");
  if (event.target.closest("[data-split]")) trigger("split");
});
watch("value", () => document.dispatchEvent(new CustomEvent("ovi:checked")));
"""


def build_desk(names: list[str], asked: dict[str, list[str]]) -> gr.HTML:
    """Build the bar above the prompt; its scripts keep the values called `names`, and ask about some (`draft.js`)."""
    script = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _DESK_SCRIPTS)
    words = {
        "replaced": texts.FORM_REPLACED,
        "kept_dropped": texts.KEPT_DROPPED,
        "kept_or_frame": texts.KEPT_OR_FRAME,
        "saved": texts.JOB_SAVED,
        "lost_picture": texts.LOST_PICTURE,
        "lost_table": texts.LOST_TABLE,
        "no_match": texts.NO_MATCH,
        "no_prompts": texts.NO_PROMPTS,
        "wildcards": texts.WILDCARDS,
        "group": texts.GROUP,
        "group_goes_on": texts.GROUP_GOES_ON,
        "clips_of_wildcard": texts.CLIPS_OF_WILDCARD,
        "editing": texts.EDITED_JOB,
        "chips": texts.CHIP_WORDS,
    }
    return gr.HTML(
        {},
        html_template=_DESK,
        js_on_load=script,
        elem_id="desk",
        apply_default_css=False,
        names=names,
        asked=asked,
        words=words,
        wildcards=_wildcards(),
    )


def build_prompt(extra: dict[str, Any]) -> tuple[gr.Textbox, gr.HTML, gr.Textbox]:
    """Build the fields of the prompt: the scene, the rows, and the sound."""
    prompt = gr.Textbox(
        "",
        label=texts.PROMPT,
        placeholder=texts.PROMPT_PLACEHOLDER,
        lines=3,
        max_lines=14,
        max_length=_MOST_TYPED,
        elem_id="prompt",
    )
    cues = gr.HTML(
        {"raw": False, "cues": []},
        html_template=_CUES,
        js_on_load=(_HERE / "cues.js").read_text(encoding="utf-8"),
        elem_id="cues",
        apply_default_css=False,
        words=texts.CUE_WORDS,
    )
    sound = gr.Textbox(
        "",
        label=texts.SOUND,
        placeholder=texts.SOUND_PLACEHOLDER,
        max_length=_MOST_TYPED,
        max_lines=4,
        elem_id="sound",
    )
    extra["findings"] = gr.HTML(elem_id="findings", js_on_load=_FINDINGS_SCRIPT)
    return prompt, cues, sound


def build_first_frame(extra: dict[str, Any]) -> gr.Image:
    """Build the field of the first frame, and the notes about it."""
    picture = gr.Image(
        label=texts.FIRST_FRAME,
        type="filepath",
        sources=["upload", "clipboard"],
        buttons=[],
        height=112,
        elem_id="first-frame",
        placeholder=texts.FIRST_FRAME_PLACEHOLDER,
    )
    # Otherwise Gradio opens the file itself and reports a broken one with a pop-up instead of our message.
    uploads_only(picture, texts.THE_FIRST_FRAME)
    extra["picture_notes"] = gr.HTML(elem_id="picture-notes")
    return picture


def _wildcards() -> list[dict[str, Any]]:
    found = []
    for name in wildcard_names():
        with suppress(JobError):  # a file that cannot be read; a prompt that names it says so
            lines = read_wildcard(name)
            found.append({"name": name, "lines": lines[:_SHOWN_LINES], "count": len(lines)})
    return found
