"""`TABS`: every tab of the page in its order, with all that the page has to know about it.

A tab is a folder beside this file and an entry here. Its folder holds what it builds and handles, a stylesheet of the
tab's name, and the scripts that it gives to its own components.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from ovi_studio.services.studio import Studio
from ovi_studio.web.live import LivePart
from ovi_studio.web.tabs import CREATE_TAB
from ovi_studio.web.tabs.create.handlers import build_create
from ovi_studio.web.tabs.create.tab import CreateForm
from ovi_studio.web.tabs.library.tab import build_library
from ovi_studio.web.tabs.loras.tab import build_loras
from ovi_studio.web.tabs.queue.tab import build_queue
from ovi_studio.web.tabs.system.tab import build_system
from ovi_studio.web.tabs.templates.tab import build_templates


@dataclass
class PageParts:
    """The page while it is built, as its tabs need it."""

    studio: Studio
    page: gr.Blocks
    tabs: gr.Tabs
    pulse: gr.HTML
    form: CreateForm = field(init=False)
    """The Create tab, which is the first, gives it to the others: they fill it."""
    live: list[LivePart] = field(default_factory=list)
    """What is kept up to date whichever tab is shown."""


@dataclass(frozen=True)
class Tab:
    """One tab."""

    id: str
    """Of the tab's button, in the address, and the name of the folder."""
    title: str
    icon: str
    """The `d` of an SVG path, 24 by 24, drawn as a line."""
    build: Callable[[PageParts], None]
    """Makes the content where it is called."""

    @property
    def stylesheet(self) -> Path:
        return Path(__file__).parent / self.id / f"{self.id}.css"


def _create(parts: PageParts) -> None:
    parts.form, live = build_create(parts.studio, parts.page)
    parts.live += live


TABS = (
    Tab(CREATE_TAB, "Create", "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3", _create),
    Tab(
        "queue",
        "Queue",
        "M4 6h16M4 12h16M4 18h9",
        lambda parts: build_queue(parts.studio, parts.form, parts.tabs, parts.page, parts.pulse),
    ),
    Tab(
        "library",
        "Library",
        "M4 5h16v14H4zM10.5 9.2v5.6l4.5-2.8z",
        lambda parts: build_library(parts.studio, parts.form, parts.tabs),
    ),
    Tab(
        "loras",
        "LoRAs",
        "M12 4l9 5-9 5-9-5zM3 14l9 5 9-5",
        lambda parts: build_loras(parts.studio, parts.form),
    ),
    Tab(
        "templates",
        "Templates",
        "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
        lambda parts: build_templates(parts.studio, parts.form, parts.tabs),
    ),
    Tab(
        "system",
        "System",
        "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
        lambda parts: build_system(parts.studio),
    ),
)
