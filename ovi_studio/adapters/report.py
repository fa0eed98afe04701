"""How well the adapters of a folder fit a model, for the page's badges and for a terminal. Imports no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ovi_studio.adapters.library import AdapterEntry, AdapterLibrary
from ovi_studio.adapters.match_report import MatchReport
from ovi_studio.adapters.names import NameMap
from ovi_studio.checkpoints.disk import format_bytes
from ovi_studio.core.errors import JobError


@dataclass(frozen=True)
class Fit:
    """Whether an adapter can be used with a model: its match report, or the reason why not."""

    report: MatchReport | None
    problem: str = ""

    @property
    def usable(self) -> bool:
        return self.report is not None

    @property
    def badge(self) -> str:
        """Short text: `312 of 312 layers matched`, or that the adapter cannot be used."""
        if self.report is None:
            return "cannot be used"
        if self.report.idle:
            return "changes nothing"
        return f"{self.report.matched} of {self.report.layers} layers matched"

    @property
    def details(self) -> str:
        """Details beyond the badge: the towers and unused tensors, or the reason why it cannot be used."""
        if self.report is None:
            return self.problem
        towers = ", ".join(f"{tower} {match.layers} of {match.of}" for tower, match in self.report.towers.items())
        kinds = ", ".join(self.report.kinds)
        ranks = f", rank {_listed(self.report.ranks)}" if self.report.ranks else ""
        scales = f", scale {_listed(self.report.scales)}" if set(self.report.scales) - {1.0} else ""
        return " ".join(filter(None, [f"{kinds}{ranks}{scales}; {towers}.", self.report.warning()]))


def fit(entry: AdapterEntry, library: AdapterLibrary, names: NameMap) -> Fit:
    """Match an adapter with the model that has these names, as far as its file was read."""
    try:
        return Fit(library.match(entry, names))
    except JobError as error:
        return Fit(None, str(error))


def fit_contents(entry: AdapterEntry, library: AdapterLibrary, names: NameMap) -> Fit:
    """Match an adapter with the model that has these names, after reading its file."""
    try:
        return Fit(library.match(library.examined(entry), names))
    except JobError as error:
        return Fit(None, str(error))


def _listed(numbers: Sequence[float]) -> str:
    """Format numbers in ascending order; many as their range."""
    texts = list(dict.fromkeys(f"{number:.4g}" for number in numbers))
    return ", ".join(texts) if len(texts) <= 4 else f"{texts[0]} to {texts[-1]}"


def format_library(library: AdapterLibrary, names: NameMap) -> str:
    """Format the adapters of a folder for a terminal, a few lines per adapter; new files are read as a whole."""
    entries = library.scan()
    if not entries:
        return f"There are no adapters in {library.directory}; put .safetensors files or PEFT folders there."
    return "\n".join(line for entry in entries for line in _lines(entry, fit_contents(entry, library, names)))


def _lines(entry: AdapterEntry, found: Fit) -> Iterator[str]:
    about = entry.description
    yield f"{entry.name}  ({format_bytes(entry.size)}): {found.badge}"
    yield f"    {found.details}"
    facts = {"title": about.title, "base model": about.base_model, "licence": about.licence}
    facts["trigger words"] = ", ".join(about.trigger_words)
    if known := "; ".join(f"{name}: {value}" for name, value in facts.items() if value):
        yield f"    {known}"
