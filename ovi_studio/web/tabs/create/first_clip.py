"""What a newcomer with the embedded model alone sees first: examples of one click, and one real model to download."""

from html import escape
from typing import Any

import gradio as gr

from ovi_studio.checkpoints.background import DownloadState
from ovi_studio.checkpoints.disk import format_bytes
from ovi_studio.services.model_offer import ModelOffer
from ovi_studio.services.studio import Studio
from ovi_studio.web.tabs.create import texts

_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.example) trigger("example", { number: Number(button.dataset.example) });
  if (button?.dataset.fetch) trigger("fetch", { model: button.dataset.fetch });
});
"""


def build_first_clip(studio: Studio, extra: dict[str, Any]) -> None:
    """Build the panel; it is empty once a published model is complete."""
    extra["first_clip"] = gr.HTML(
        first_clip_of(studio), elem_id="first-clip", js_on_load=_SCRIPT, apply_default_css=False
    )


def first_clip_of(studio: Studio) -> str:
    """Render the panel for the state that the studio is in."""
    return first_clip_html(studio.model_offer(), studio.model_downloads.state(), new=not studio.has_clips())


def first_clip_html(offer: ModelOffer | None, download: DownloadState, *, new: bool) -> str:
    """Render the download, and for somebody new the examples; empty without an offer."""
    if offer is None:
        return ""
    if not new:
        opened = " open" if download.busy else ""
        return (
            f'<details class="first-clip"{opened}><summary>{texts.ONLY_DEMO}</summary>'
            f"{_download_html(offer, download)}</details>"
        )
    examples = "".join(
        f'<button type="button" class="example" data-example="{number}" title="{escape(f"{scene} {sound}")}">'
        f"<b>{escape(title)}</b><span>{escape(scene)}</span></button>"
        for number, (title, scene, sound) in enumerate(texts.EXAMPLES)
    )
    return (
        f'<section class="first-clip" aria-label="{texts.WELCOME_TITLE}"><h2>{texts.WELCOME_TITLE}</h2>'
        f'<p>{texts.WELCOME}</p><div class="examples">{examples}</div>{_download_html(offer, download)}</section>'
    )


def _download_html(offer: ModelOffer, download: DownloadState) -> str:
    name, title = offer.variant.name, escape(offer.variant.title)
    if download.busy and download.progress:
        done, total = download.progress.done, download.progress.total
        act = texts.DOWNLOADING.format(done=format_bytes(done), total=format_bytes(total))
    elif download.busy:
        act = texts.DOWNLOAD_STARTS
    else:
        label = texts.DOWNLOAD.format(size=format_bytes(offer.size))
        act = f'<button type="button" class="fetch-model" data-fetch="{name}">{label}</button>'
    here = (texts.RUNS_HERE if offer.possible else texts.DOES_NOT_RUN_HERE).format(how=escape(offer.how))
    return (
        f'<div class="download"><p><b>{texts.REAL_MODEL.format(title=title)}</b> {here} '
        f"{texts.LICENCES.format(licences=escape(', '.join(offer.licences)))}</p><p>{act}</p></div>"
    )
