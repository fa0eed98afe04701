"""`EngineSettings`: what people choose for the engine on the page; kept in the store and read when an engine starts.

The command line comes first: what it switches on cannot be switched off here. Imports no torch.
"""

from dataclasses import asdict, dataclass, replace

from ovi_studio.capacity.tiers import AUTO, CHOICES
from ovi_studio.core.errors import JobError
from ovi_studio.core.weight_formats import Weights
from ovi_studio.models.attention_kernels import KERNELS, NATIVE
from ovi_studio.queue.database import Database
from ovi_studio.runtime.runner import MakerOptions

_KEY = "engine"


@dataclass(frozen=True)
class EngineSettings:
    """See the fields of the same names in `MakerOptions`."""

    attention: str = NATIVE
    compilation: bool | None = None
    """As `MakerOptions.compiled`; None: where it works."""
    tf32: bool = False
    offloaded: bool = False
    previews: bool = True
    """Small pictures of a clip while it is made."""
    weights: str = AUTO
    memory: str = AUTO

    def __post_init__(self) -> None:
        """Raises `JobError` for an attention that cannot be used here, and for unknown weights and tiers."""
        if self.attention not in attentions():
            raise JobError(
                f"There is no attention {str(self.attention)[:20]!r} here; choose one of {', '.join(attentions())}."
            )

        if self.weights not in (AUTO, *Weights):
            raise JobError(f"There are no weights {str(self.weights)[:20]!r}; choose auto, {', '.join(Weights)}.")
        if self.memory not in CHOICES:
            raise JobError(f"There is no memory tier {str(self.memory)[:20]!r}; choose one of {', '.join(CHOICES)}.")

    def added_to(self, options: MakerOptions) -> MakerOptions:
        """The options of a command line with what was chosen on the page."""
        return replace(
            options,
            attention=self.attention if options.attention == NATIVE else options.attention,
            compiled=self.compilation if options.compiled is None else options.compiled,
            tf32=options.tf32 or self.tf32,
            offloaded=options.offloaded or self.offloaded,
            weights=self.weights if options.weights == AUTO else options.weights,
            memory=self.memory if options.memory == AUTO else options.memory,
        )


def attentions() -> list[str]:
    """Those whose package is installed; PyTorch's own is the first."""
    return [name for name, kernel in KERNELS.items() if kernel.installed]


def read_settings(database: Database) -> EngineSettings:
    """What was kept; the defaults if nothing was, or if it cannot be used any more."""
    kept = database.setting(_KEY)
    if not isinstance(kept, dict):
        return EngineSettings()
    known = {name: kept[name] for name in asdict(EngineSettings()) if name in kept}
    try:
        return EngineSettings(**known)
    except JobError:
        # A package was removed since.
        return EngineSettings(**known | {"attention": NATIVE})


def keep_settings(database: Database, settings: EngineSettings) -> None:
    """For the next engine that starts."""
    database.put_setting(_KEY, asdict(settings))
