"""The settings panel in the System tab: the engine's options, saved for all pages and across restarts."""

from typing import Any, Protocol

import gradio as gr

from ovi_studio.core.errors import JobError
from ovi_studio.engine.fleet import Fleet
from ovi_studio.queue.store import Store
from ovi_studio.runtime.declared import Setting
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.settings import EngineSettings, read_settings, save_settings
from ovi_studio.web.events import LATEST, PRIVATE
from ovi_studio.web.tabs.system import texts
from ovi_studio.web.views import notice_html, success_html

_NOT_CHOSEN = "auto"
"""Stands for None in a dropdown, which a browser cannot send back as a choice."""


class SettingsServices(Protocol):
    """The part of `Studio` that the settings panel uses."""

    store: Store
    supervisor: Fleet
    options: RuntimeOptions


def build_settings(studio: SettingsServices, shown: Any) -> None:
    """Build the panel; `shown` is the event listener for the tab becoming visible."""
    given = studio.options
    settings = given.settings()
    dropdowns = [name for name, setting in settings.items() if setting.choices is not None]
    checkboxes = [name for name, setting in settings.items() if setting.choices is None]
    fields: dict[str, Any] = {}
    with gr.Column(elem_id="settings"):
        for start in range(0, len(dropdowns), 2):
            with gr.Row():
                for name in dropdowns[start : start + 2]:
                    fields[name] = _component(name, settings[name], given)
        for name in checkboxes:
            fields[name] = _component(name, settings[name], given)
        previews = gr.Checkbox(label=texts.PREVIEW, info=texts.PREVIEW_HINT)
        save = gr.Button(texts.SAVE, elem_id="save-settings", size="md")
        notice = gr.HTML(elem_classes="fleeting")

    def load_settings() -> Any:
        kept = read_settings(studio.store.database)
        options = given.over(kept.options)
        return (*(_to_field(name, settings[name], getattr(options, name)) for name in fields), kept.previews)

    def save_and_restart(*values: Any) -> str:
        chosen = {name: _from_field(value) for name, value in zip(fields, values, strict=False)}
        try:
            options = type(given).from_json({name: value for name, value in chosen.items() if not given.given(name)})
            save_settings(studio.store.database, EngineSettings(options, bool(values[-1])))
        except JobError as error:
            return notice_html(str(error), texts.NOT_SAVED)
        studio.supervisor.restart()
        return success_html(texts.SAVED)

    boxes = [*fields.values(), previews]
    shown(load_settings, None, boxes, **LATEST)
    save.click(save_and_restart, boxes, notice, **PRIVATE)


def _component(name: str, setting: Setting, given: RuntimeOptions) -> gr.components.Component:
    """Build a dropdown for a setting with choices, else a checkbox."""
    if setting.choices is None:
        return gr.Checkbox(elem_id=f"setting-{name}", **_labels(name, setting, given))
    choices = [(title, _to_field(name, setting, value)) for title, value in setting.choices()]
    return gr.Dropdown(choices, filterable=False, elem_id=f"setting-{name}", **_labels(name, setting, given))


def _labels(name: str, setting: Setting, given: RuntimeOptions) -> dict[str, Any]:
    fixed = given.given(name)
    info = texts.ON_COMMAND_LINE if fixed else setting.info
    return {"label": setting.label, "info": info, "interactive": not fixed}


def _to_field(name: str, setting: Setting, value: Any) -> Any:
    if setting.choices is None:
        return bool(value)
    return {None: _NOT_CHOSEN, True: "on", False: "off"}.get(value, value)


def _from_field(value: Any) -> Any:
    """Convert a component's value to the option's; None is the default."""
    return {_NOT_CHOSEN: None, "on": True, "off": False, False: None}.get(value, value)
