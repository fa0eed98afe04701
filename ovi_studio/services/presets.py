"""Presets: named settings for a clip, as YAML files, both the shipped ones and the user's own.

    title: Draft
    description: A quick look
    badge: fast                      # optional
    variants: [960x960_5s]           # optional: the only variants it is for
    settings: {steps: 20}            # fields of `ClipSpec` except prompt, typed_prompt, image and seed
    adapters:                        # optional
      - name: lightning/fast.safetensors    # path below the adapter folder
        role: accelerator                   # or style
        video: 1                            # strengths; 1 unless given
        audio: 0
        sha256: ...                         # optional: accept only the file with this hash
        source: {repository: someone/models, path: fast.safetensors, licence: Apache-2.0, size: 660874456}

An accelerator is tied to how a clip is sampled, so a preset with sampling settings also sets the accelerator: its own,
or none. Style adapters are left alone unless the preset has some. A source lets the user download a missing adapter.

An invalid file becomes a notice and does not hide the others.
"""

import dataclasses
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ovi_studio.adapters.sources import AdapterSource, parse_source
from ovi_studio.core.adapter_stack import AdapterUse, Stack, parse_stack
from ovi_studio.core.drawing import DRAWS, FLAT_NAMES
from ovi_studio.core.errors import JobError, NameTaken
from ovi_studio.core.shipped import PRESETS
from ovi_studio.core.spec import ADAPTER_LISTS, SOURCE_FIELDS, ClipSpec
from ovi_studio.media.small_files import folder_errors, read_yaml, slug, write_atomically, write_yaml

NOT_SETTINGS = ("prompt", "typed_prompt", "image", "drawing", DRAWS, *FLAT_NAMES, "seed", *SOURCE_FIELDS)
"""Fields of a clip that say what to make, not how."""
MAX_OWN = 500
ROLES = {"accelerator": "accelerators", "style": "adapters"}
"""Role of an adapter -> the field of `ClipSpec` it belongs to."""
_SAMPLING = {"steps", "timesteps", "solver", "shift", "video_guidance", "audio_guidance"}
"""Settings that an accelerator has to match."""
_ORDER = (
    "draft",
    "balanced",
    "fast",
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
    """Named settings for a clip."""

    name: str
    """The file's name without its suffix."""
    title: str
    description: str
    settings: Mapping[str, Any]
    """Parsed fields of `ClipSpec`; the adapter lists are present only if the preset sets them."""
    sources: Mapping[str, AdapterSource] = field(default_factory=dict)
    """Where the preset's adapters can be downloaded, by adapter name."""
    variants: tuple[str, ...] = ()
    """The only variants the preset is for; empty for any variant."""
    badge: str = ""
    own: bool = False

    def fits(self, variant: str) -> bool:
        """Whether the preset is for this variant, or sets the variant itself."""
        return not self.variants or variant in self.variants or "variant" in self.settings

    @property
    def stack(self) -> Stack:
        """Every adapter of the preset."""
        return self.settings.get("accelerators", ()) + self.settings.get("adapters", ())

    def check(self, variant: str) -> None:
        """Raise `JobError` if the preset is not for this variant."""
        if self.variants and variant not in self.variants:
            raise JobError(f"The preset {self.title} is only for {', '.join(self.variants)}; choose that model.")

    def apply(self, spec: ClipSpec) -> ClipSpec:
        """Return the clip with the preset's settings; raises `JobError` if the preset is not for its variant."""
        changed = spec.with_settings(self.settings)
        self.check(changed.variant)
        return changed


@dataclass(frozen=True)
class PresetList:
    """Every valid preset, and notices about invalid files."""

    presets: tuple[Preset, ...]
    notices: tuple[str, ...]


class Presets:
    """The presets of one studio. Thread-safe."""

    def __init__(self, state: Path, shipped: Path = PRESETS) -> None:
        self._own = state / "presets"
        self._shipped = shipped
        self._lock = threading.Lock()
        self.revision = 0
        """Increases when a preset is saved or deleted through this object."""

    def all(self) -> PresetList:
        """List the shipped presets, then the user's own by title; a file that was edited takes effect at once."""
        presets: dict[str, Preset] = {}
        notices = []
        for own, folder in ((False, self._shipped), (True, self._own)):
            found = []
            for path in _files(folder):
                try:
                    found.append(_read(path, own))
                except JobError as error:
                    notices.append(f"A preset cannot be used. {error}")
            for preset in sorted(found, key=_sort_key):
                presets.setdefault(preset.name, preset)
        return PresetList(tuple(presets.values()), tuple(notices))

    def get(self, name: str) -> Preset:
        """Look up a preset by its name; raises `JobError` if there is none."""
        for preset in self.all().presets:
            if preset.name == name:
                return preset
        raise JobError(f"There is no preset {name[:60]!r}; choose one of {', '.join(self.names())}.")

    def names(self) -> list[str]:
        """Names of all presets, as `get` takes them."""
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
        """Save settings under a title, replacing the user's own preset of that title; raises `JobError`.

        `settings` may be the dict of a whole spec: prompt, image and seed are left out.
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
        return self._store(name, entry)

    def add(self, upload: Path, *, replace: bool = False) -> tuple[Preset, bool, bytes | None]:
        """Add a preset's file as one of the user's own.

        Returns it, whether it was not there before, and the content of the file that it replaced, for `restore`. Raises
        `JobError` if the file is invalid, and `NameTaken` if another preset of the user's own has its title, unless it
        may be replaced.
        """
        preset = _read(upload, own=True)
        name = slug(preset.title)
        if not name:
            raise JobError(f"{upload.name}: A preset needs a title with Latin letters or digits.")
        own = next((known for known in self.all().presets if known.own and known.name == name), None)
        if own is not None and own == dataclasses.replace(preset, name=name):
            return own, False, None
        if own is not None and not replace:
            raise NameTaken(f"There is another preset {own.title} of your own.")
        before = None if own is None else self.delete(name)
        try:
            return self._store(name, read_yaml(upload)), True, before
        except BaseException:
            if before is not None:
                self.restore(name, before)
            raise

    def _store(self, name: str, entry: Mapping[str, Any]) -> Preset:
        preset = _parse(dict(entry), name, own=True)
        with self._lock:
            own = _files(self._own)
            if any(path.stem == name for path in _files(self._shipped)):
                raise JobError(f"Ovi Studio already ships a preset {name!r}; choose another title.")
            if len(own) >= MAX_OWN and not any(path.stem == name for path in own):
                raise JobError(f"There are {MAX_OWN} presets of your own; delete some first.")
            write_yaml(self._own / f"{name}.yaml", _plain(entry))
            self.revision += 1
        return preset

    def delete(self, name: str) -> bytes:
        """Delete one of the user's own presets; returns the content of its file, for `restore`.

        Raises `JobError` if there is none of that name.
        """
        with self._lock, folder_errors(self._own):
            for path in _files(self._own):
                if path.stem == name:  # compared, so that no path is built from the name
                    content = path.read_bytes()
                    path.unlink()
                    self.revision += 1
                    return content
        raise JobError("Only presets of your own can be deleted, and this is not one of them.")

    def restore(self, name: str, content: bytes) -> None:
        """Write a deleted preset's file again; raises `JobError` if there is another one of that name by now."""
        with self._lock:
            if any(path.stem == name for path in _files(self._own)):
                raise JobError("Another preset of this title was saved in the meantime; it is kept.")
            write_atomically(self._own / f"{name}.yaml", content)
            self.revision += 1


def parse_settings(given: Any, *, forbidden: tuple[str, ...] = (*NOT_SETTINGS, *ADAPTER_LISTS)) -> Mapping[str, Any]:
    """Parse fields of a clip; raises `JobError` for unknown names and values out of range."""
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
    """Read a string entry, white space collapsed; raises `JobError` if it is not a string, too long, or missing."""
    value = entry.get(key) or ""
    if not isinstance(value, str):
        raise JobError(f"Its {key} must be a string.")
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
    try:
        status = path.stat()
    except OSError:
        stamp = None  # reading it says why
    else:
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _read_once(path, own, stamp)


@lru_cache(maxsize=2 * MAX_OWN)
def _read_once(path: Path, own: bool, stamp: tuple[int, ...] | None) -> Preset:
    """Parse a file unless it is the one of before; the page lists all of them often."""
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
    """Return the non-empty adapter lists, and the download source of each adapter that has one."""
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
    # Both lists together, so that no adapter is listed twice.
    parse_stack([use for uses in lists.values() for use in uses])
    return {name: tuple(uses) for name, uses in lists.items() if uses}, sources


def _adapter_entry(use: AdapterUse, role: str, sources: Mapping[str, AdapterSource]) -> dict[str, Any]:
    """Format an adapter as an entry of a preset's file."""
    values = {name: value for name, value in use.to_dict().items() if value is not None}
    source = {"source": sources[use.name].to_dict()} if use.name in sources else {}
    return {**values, "role": role, **source}


def _sort_key(preset: Preset) -> tuple[int, str]:
    """Sort key: shipped presets from quick to thorough, others by title."""
    known = not preset.own and preset.name in _ORDER
    return (_ORDER.index(preset.name) if known else len(_ORDER), preset.title.casefold())


def _plain(value: Any) -> Any:
    """Convert to what YAML can hold: strings, numbers, lists, dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float) else str(value)
