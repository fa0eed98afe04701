"""`EngineSettings`: the engine's settings on the page; kept in the store and read when an engine starts.

The command line takes precedence: options given there cannot be changed on the page. Imports no torch.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ovi_studio.capacity.tiers import AUTO
from ovi_studio.core.errors import JobError
from ovi_studio.queue.database import Database
from ovi_studio.runtime.options import RuntimeOptions, installed_attentions

_KEY = "engine"


@dataclass(frozen=True)
class EngineSettings:
    """Settings of the engine. Raises `JobError` for an attention kernel that is not installed."""

    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    """The options that the page shows; all others have their defaults."""
    previews: bool = True
    """Whether to draw small pictures of a clip while it is made."""

    def __post_init__(self) -> None:
        if self.options.attention not in (AUTO, *installed_attentions()):
            raise JobError(
                f"Attention {self.options.attention!r} is not installed here; choose one of "
                f"{', '.join(installed_attentions())}."
            )

    def as_json(self) -> dict[str, Any]:
        """Return the settings in JSON's types, for the store."""
        return {**self.options.as_json(), "previews": self.previews}


def read_settings(database: Database) -> EngineSettings:
    """Read the settings from the store; defaults replace those that are missing or cannot be used any more."""
    stored = database.setting(_KEY)
    if not isinstance(stored, dict):
        return EngineSettings()
    shown = {name: stored[name] for name in RuntimeOptions.settings() if name in stored}
    options = RuntimeOptions()
    for name, value in shown.items():
        # A value that this version does not know, or whose package was removed, counts as not chosen.
        with suppress(JobError):
            options = EngineSettings(replace(options, **{name: RuntimeOptions.read(name, value)})).options
    return EngineSettings(options, previews=stored.get("previews") is not False)


def save_settings(database: Database, settings: EngineSettings) -> None:
    """Write the settings to the store, for the next engine that starts."""
    database.put_setting(_KEY, settings.as_json())
