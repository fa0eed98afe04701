"""Presets: named settings for a clip, as YAML files; those that come along, people's own in the state.

    title: Draft
    description: A quick look
    badge: fast                      # optional
    variants: [960x960_5s]           # optional: the only ones that it is for
    settings: {steps: 20}            # fields of `ClipSpec`, but prompt, image and seed
    adapters:                        # optional
      - name: lightning/fast.safetensors    # its place below the adapter folder
        role: accelerator                   # or style
        video: 1                            # strengths; 1 unless given
        audio: 0
        sha256: ...                         # optional: no other file of this name will do
        source: {repository: someone/models, path: fast.safetensors, licence: Apache-2.0, size: 660874456}

An accelerator belongs to the way of sampling, so a preset that says how to sample decides about it: its own, or none.
Adapters of style stay as they are unless the preset has some itself. A source offers the download of an adapter that
is missing.

A file that is wrong is a notice and hides no other.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ovi_studio.adapters.sources import AdapterSource, parse_source
from ovi_studio.core.adapter_stack import AdapterUse, Stack, parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.shipped import PRESETS
from ovi_studio.core.spec import ADAPTER_LISTS, ClipSpec
from ovi_studio.media.small_files import folder_errors, read_yaml, slug, write_yaml

NOT_SETTINGS = ("prompt", "image", "seed")
"""Fields of a clip that say what is made, not how."""
MAX_OWN = 500
ROLES = {"accelerator": "accelerators", "style": "adapters"}
"""What an adapter is for -> the field of `ClipSpec` that it goes into."""
_SAMPLING = {"steps", "timesteps", "solver", "shift", "video_guidance", "audio_guidance"}
"""Settings that an accelerator must fit."""
_ORDER = (
    "draft",
    "balanced",
    "quality",
    "lightning-5s",
    "lightning-10s",
    "turbo",
    "demo",
    "demo-lightning",
    "demo-picture",
)
_KEYS = ("title", "description", "badge", "variants", "settings", "adapters")


@dataclass(frozen=True)
class Preset:
    """Settings with a name."""

    name: str
    """Of its file, without suffix."""
    title: str
    description: str
    settings: Mapping[str, Any]
    """Fields of `ClipSpec` with values of their types; lists of adapters only where it decides about them."""
    sources: Mapping[str, AdapterSource] = field(default_factory=dict)
    """Where its adapters can be had, by their names."""
    variants: tuple[str, ...] = ()
    """The only ones that it is for; empty: any."""
    badge: str = ""
    own: bool = False

    def fits(self, variant: str) -> bool:
        """Whether it is for this variant, or brings its own."""
        return not self.variants or variant in self.variants or "variant" in self.settings

    @property
    def stack(self) -> Stack:
        """Every adapter that it brings."""
        return self.settings.get("accelerators", ()) + self.settings.get("adapters", ())

    def check(self, variant: str) -> None:
        """Raise `JobError` if the preset is not for this variant."""
        if self.variants and variant not in self.variants:
            raise JobError(f"The preset {self.title} is only for {', '.join(self.variants)}; choose that model.")

    def apply(self, spec: ClipSpec) -> ClipSpec:
        """The clip with these settings; raises `JobError` if the preset is not for its variant."""
        changed = spec.with_settings(self.settings)
        self.check(changed.variant)
        return changed


@dataclass(frozen=True)
class PresetList:
    """Every preset that can be used, and what was wrong with the others."""

    presets: tuple[Preset, ...]
    notices: tuple[str, ...]


class Presets:
    """The presets of one studio. Thread-safe."""

    def __init__(self, state: Path, shipped: Path = PRESETS) -> None:
        self._own = state / "presets"
        self._shipped = shipped
        self._lock = threading.Lock()
        self.revision = 0
        """Grows when a preset is kept or deleted here."""

    def all(self) -> PresetList:
        """Shipped ones, then people's own by title; read anew each time, so that an edited file counts."""
        presets: dict[str, Preset] = {}
        notices = []
        for own, folder in ((False, self._shipped), (True, self._own)):
            found = []
            for path in _files(folder):
                try:
                    found.append(_read(path, own))
                except JobError as error:
                    notices.append(f"A preset cannot be used. {error}")
            for preset in sorted(found, key=_place):
                presets.setdefault(preset.name, preset)
        return PresetList(tuple(presets.values()), tuple(notices))

    def get(self, name: str) -> Preset:
        """A preset by its name; raises `JobError`."""
        for preset in self.all().presets:
            if preset.name == name:
                return preset
        raise JobError(f"There is no preset {name[:60]!r}; those that there are: {', '.join(self.names())}.")

    def names(self) -> list[str]:
        """Of all presets, as `get` takes them."""
        return [preset.name for preset in self.all().presets]

    def save(
        self,
        title: str,
        settings: Mapping[str, Any],
        *,
        description: str = "",
        variants: tuple[str, ...] = (),
        badge: str = "",
    ) -> Preset:
        """Keep settings under a title, in place of an own preset of that title; raises `JobError`.

        `settings` may be the dict of a whole spec: what says what is made is left out.
        """
        name = slug(title)
        if not name:
            raise JobError("A preset needs a title with Latin letters or digits.")
        lists = {role: parse_stack(settings.get(name)) for role, name in ROLES.items()}
        kept = {
            key: value
            for key, value in settings.items()
            if key not in (*NOT_SETTINGS, *ADAPTER_LISTS) and value is not None
        }
        entry: dict[str, Any] = {"title": title, "description": description, "settings": kept}
        known = {name: source for preset in self.all().presets for name, source in preset.sources.items()}
        if adapters := [_adapter_entry(use, role, known) for role, uses in lists.items() for use in uses]:
            entry["adapters"] = adapters
        entry |= {"badge": badge} if badge else {}
        entry |= {"variants": list(variants)} if variants else {}
        preset = _parse(entry, name, own=True)
        with self._lock:
            own = _files(self._own)
            if any(path.stem == name for path in _files(self._shipped)):
                raise JobError(f"There is a preset {name!r} that came with Ovi Studio; choose another title.")
            if len(own) >= MAX_OWN and not any(path.stem == name for path in own):
                raise JobError(f"There are {MAX_OWN} presets of your own; delete some first.")
            write_yaml(self._own / f"{name}.yaml", _plain(entry))
            self.revision += 1
        return preset

    def delete(self, name: str) -> None:
        """Delete an own preset; raises `JobError` if there is none of that name."""
        with self._lock, folder_errors(self._own):
            for path in _files(self._own):
                if path.stem == name:  # compared, so that no path is built from the name
                    path.unlink(missing_ok=True)
                    self.revision += 1
                    return
        raise JobError("Only presets of your own can be deleted, and this is none.")


def parse_settings(given: Any, *, forbidden: tuple[str, ...] = (*NOT_SETTINGS, *ADAPTER_LISTS)) -> Mapping[str, Any]:
    """Fields of a clip with values of their types; raises `JobError` for what is no setting or out of its limits."""
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise JobError("The settings must be lines `name: value`.")
    if wrong := [name for name in given if name in forbidden]:
        raise JobError(f"{', '.join(wrong)} cannot be set here; remove it.")
    spec = ClipSpec.from_dict({"prompt": "any", "variant": "any", **given})
    # An empty value is "not given", except for a negative prompt.
    names = [name for name, value in given.items() if (value is not None and value != "") or "negative" in name]
    if "timesteps" in names and "steps" not in names:
        names.append("steps")
    return MappingProxyType({name: getattr(spec, name) for name in names})


def parse_text(entry: Mapping[str, Any], key: str, limit: int, *, required: bool = False) -> str:
    """A text of an entry, white space collapsed; raises `JobError` if it is none, too long, or missing."""
    value = entry.get(key) or ""
    if not isinstance(value, str):
        raise JobError(f"Its {key} must be a text.")
    value = " ".join(value.split())
    if len(value) > limit:
        raise JobError(f"Its {key} has {len(value)} characters; shorten it to {limit}.")
    if required and not value:
        raise JobError(f"Its {key} is missing; add it.")
    return value


def _files(folder: Path) -> list[Path]:
    with folder_errors(folder):
        return sorted(path for path in folder.glob("*.yaml") if path.is_file())


def _read(path: Path, own: bool) -> Preset:
    entry = read_yaml(path)
    try:
        if not isinstance(entry, dict):
            raise JobError("It must consist of lines `name: value`.")
        return _parse(entry, path.stem, own)
    except JobError as error:
        raise JobError(f"{path.name}: {error}") from error


def _parse(entry: dict[str, Any], name: str, own: bool) -> Preset:
    if unknown := [str(key) for key in entry if key not in _KEYS]:
        raise JobError(f"It has the unknown entry {', '.join(unknown)}; remove it.")
    variants = entry.get("variants") or []
    if not isinstance(variants, list) or not all(isinstance(variant, str) for variant in variants):
        raise JobError("Its variants must be a list of names.")
    settings = parse_settings(entry.get("settings") or {})
    stacks, sources = _parse_adapters(entry.get("adapters") or [])
    decided: dict[str, Stack] = {"accelerators": ()} if _SAMPLING & settings.keys() else {}
    return Preset(
        name=name,
        title=parse_text(entry, "title", 60, required=True),
        description=parse_text(entry, "description", 300),
        settings=MappingProxyType({**settings, **decided, **stacks}),
        sources=MappingProxyType(sources),
        variants=tuple(variants),
        badge=parse_text(entry, "badge", 20),
        own=own,
    )


def _parse_adapters(given: Any) -> tuple[dict[str, Stack], dict[str, AdapterSource]]:
    """The lists that have adapters, and where these can be had."""
    if not isinstance(given, list) or not all(isinstance(entry, Mapping) for entry in given):
        raise JobError("Its adapters must be a list of entries with name, role, video and audio.")
    lists: dict[str, list[AdapterUse]] = {name: [] for name in ROLES.values()}
    sources = {}
    for entry in given:
        values = dict(entry)
        role, source = values.pop("role", "style"), values.pop("source", None)
        if role not in ROLES:
            raise JobError(f"The role of an adapter must be {' or '.join(ROLES)}.")
        use = AdapterUse.from_dict(values)
        lists[ROLES[role]].append(use)
        if source is not None:
            sources[use.name] = parse_source(source, use.name)
    # Over both, so that none is there twice.
    parse_stack([use for uses in lists.values() for use in uses])
    return {name: tuple(uses) for name, uses in lists.items() if uses}, sources


def _adapter_entry(use: AdapterUse, role: str, sources: Mapping[str, AdapterSource]) -> dict[str, Any]:
    """A use as it stands in a preset's file."""
    values = {name: value for name, value in use.to_dict().items() if value is not None}
    source = {"source": sources[use.name].to_dict()} if use.name in sources else {}
    return {**values, "role": role, **source}


def _place(preset: Preset) -> tuple[int, str]:
    """Shipped ones from quick to thorough, others by title."""
    known = not preset.own and preset.name in _ORDER
    return (_ORDER.index(preset.name) if known else len(_ORDER), preset.title.casefold())


def _plain(value: Any) -> Any:
    """As YAML can hold it: texts, numbers, lists, dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float) else str(value)
