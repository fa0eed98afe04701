"""`TABS`: all tabs of the page in order, with everything the page needs to know about them.

A tab is a folder next to this file and an entry here. The folder holds its components and handlers, a stylesheet with
the tab's name, and the scripts of its components.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.keyboard import Shortcut
from ovi_studio.web.live import LivePart
from ovi_studio.web.player.texts import PLAYER_SHORTCUTS
from ovi_studio.web.tabs import CREATE_TAB, texts
from ovi_studio.web.tabs.create.handlers import build_create
from ovi_studio.web.tabs.create.stage.texts import STAGE_SHORTCUTS
from ovi_studio.web.tabs.create.tab import CreateForm
from ovi_studio.web.tabs.film.tab import build_film
from ovi_studio.web.tabs.library.tab import build_library
from ovi_studio.web.tabs.library.texts import SHORTCUTS as LIBRARY_SHORTCUTS
from ovi_studio.web.tabs.loras.tab import build_loras
from ovi_studio.web.tabs.queue.tab import build_queue
from ovi_studio.web.tabs.system.tab import build_system
from ovi_studio.web.tabs.templates.tab import build_templates
from ovi_studio.web.toasts import Toasts


@dataclass
class PageContext:
    """What the tabs need while the page is being built."""

    studio: Studio
    page: gr.Blocks
    tabs: gr.Tabs
    pulse: gr.HTML
    toasts: Toasts
    """Tells what was done, and offers to take it back."""
    form: CreateForm = field(init=False)
    """Set by the Create tab, which is built first; the other tabs fill the form."""
    live: list[LivePart] = field(default_factory=list)
    """Parts that are kept up to date whichever tab is shown."""


@dataclass(frozen=True)
class Tab:
    """A tab of the page."""

    id: str
    """Id of the tab's button, fragment of its URL, and name of its folder."""
    title: str
    icon: str
    """The `d` attribute of an SVG path on a 24 × 24 grid, drawn as a stroke."""
    build: Callable[[PageContext], None]
    """Builds the tab's content in the current Gradio context."""
    shortcuts: tuple[Shortcut, ...] = ()
    """What the dialog of shortcuts shows for the tab."""

    @property
    def stylesheets(self) -> list[Path]:
        """The tab's own one, and then those of its parts."""
        folder = Path(__file__).parent / self.id
        own = folder / f"{self.id}.css"
        return [own, *(path for path in sorted(folder.rglob("*.css")) if path != own)]


def _create(context: PageContext) -> None:
    context.form, live = build_create(context.studio, context.page, context.toasts)
    context.live += live


TABS = (
    Tab(
        CREATE_TAB,
        texts.CREATE,
        "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
        _create,
        (Shortcut("Ctrl+Enter", texts.CREATE), *STAGE_SHORTCUTS, *PLAYER_SHORTCUTS),
    ),
    Tab(
        "queue",
        texts.QUEUE,
        "M4 6h16M4 12h16M4 18h9",
        lambda context: build_queue(
            context.studio, context.form, context.tabs, context.page, context.pulse, context.toasts
        ),
        (Shortcut("Alt+↑ Alt+↓", texts.MOVE_JOB),),
    ),
    Tab(
        "library",
        texts.LIBRARY,
        "M4 5h16v14H4zM10.5 9.2v5.6l4.5-2.8z",
        lambda context: build_library(context.studio, context.form, context.tabs, context.toasts),
        LIBRARY_SHORTCUTS,
    ),
    Tab(
        "film",
        texts.FILM,
        "M4 5h16v14H4zM8 5v14M16 5v14M4 9.5h4M4 14.5h4M16 9.5h4M16 14.5h4",
        lambda context: build_film(context.studio, context.toasts),
    ),
    Tab(
        "loras",
        texts.LORAS,
        "M12 4l9 5-9 5-9-5zM3 14l9 5 9-5",
        lambda context: build_loras(context.studio, context.form),
    ),
    Tab(
        "templates",
        texts.TEMPLATES,
        "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
        lambda context: build_templates(context.studio, context.form, context.tabs, context.toasts),
    ),
    Tab(
        "system",
        texts.SYSTEM,
        "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
        lambda context: build_system(context.studio, context.toasts),
    ),
)
