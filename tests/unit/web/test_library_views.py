"""The Library tab's HTML."""

from pathlib import Path

from browser import HOSTILE

from ovi_studio.core.spec import ClipSpec
from ovi_studio.library import LibraryClip, TrashedClip
from ovi_studio.web.tabs.library import views


def test_names_and_prompts_are_shown_as_text() -> None:
    name = f"{HOSTILE}.mp4"
    spec = ClipSpec(prompt=HOSTILE, variant=HOSTILE, image=Path("<b>first.png"))
    clip = LibraryClip("0" * 32, name, spec, (64, 96), 1.0, 0.0, Path(name), True, (HOSTILE,))
    trashed = TrashedClip("0" * 24, name, "", None, 0.0)
    shown = views.wall_html([clip], []) + views.shelf_html({HOSTILE: HOSTILE}, [HOSTILE], "")
    shown += views.trash_html([trashed], [], lambda path: None)
    assert "<script" not in shown
    assert "<img src=x" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown
