"""`EngineSettings`: what people choose for the engine on the page; kept in the store and read when an engine starts.

The command line comes first: what it gives cannot be changed here. Imports no torch.
"""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.queue.database import Database
from ovi_studio.runtime.options import RuntimeOptions, installed_attentions

_KEY = "engine"


@dataclass(frozen=True)
class EngineSettings:
    """Raises `JobError` for an attention that cannot be used here."""

    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    """Those that the page shows; the others have their defaults."""
    previews: bool = True
    """Small pictures of a clip while it is made."""

    def __post_init__(self) -> None:
        if self.options.attention not in installed_attentions():
            raise JobError(
                f"The attention {self.options.attention!r} is not installed here; choose one of "
                f"{', '.join(installed_attentions())}."
            )

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return {**self.options.as_json(), "previews": self.previews}


def read_settings(database: Database) -> EngineSettings:
    """What was kept; the defaults if nothing was, or if it cannot be used any more."""
    kept = database.setting(_KEY)
    if not isinstance(kept, dict):
        return EngineSettings()
    shown = {name: kept[name] for name in RuntimeOptions.settings() if name in kept}
    options = RuntimeOptions()
    for name, value in shown.items():
        # One that this version does not know, or whose package was removed, is as good as not chosen.
        with suppress(JobError):
            options = EngineSettings(replace(options, **{name: RuntimeOptions.read(name, value)})).options
    return EngineSettings(options, previews=kept.get("previews") is not False)


def keep_settings(database: Database, settings: EngineSettings) -> None:
    """For the next engine that starts."""
    database.put_setting(_KEY, settings.as_json())
