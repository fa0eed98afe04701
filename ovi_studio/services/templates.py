"""Templates: prompts with slots to fill, as YAML files, both the shipped ones and the user's own.

    category: Nature
    templates:
      - id: fox-snow
        title: A fox in the snow
        description: Shown on the card
        prompt: A {animal} looks up and says, <S>{line}<E>
        audio: Wind, soft steps in the snow.
        aspect_ratio: "16:9"                                   # optional
        settings: {steps: 30}                                  # optional, fields of `ClipSpec`
        slots:
          animal: {label: Animal, default: red fox, suggestions: [grey wolf, lynx]}
          line: {label: What it says, default: So quiet.}

The audio description is stored separately, so that one template works with every variant's tag. Braces that are not a
slot are kept: `{red|blue}` is expanded later, as in any prompt. A slot's value is data: it is inserted once and not
searched for slots again, its white space is collapsed, and Ovi's tags are removed from it, because they would end a
speech or start an audio description. Its braces are kept, as if they had been typed into the prompt. An invalid entry
or file becomes a notice and does not hide the others.
"""

import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import Severity, check_prompt, join_prompt
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag
from ovi_studio.core.shipped import PRESETS
from ovi_studio.core.sizes import ASPECT_RATIOS
from ovi_studio.media.small_files import read_yaml, slug, write_yaml
from ovi_studio.services.presets import NOT_SETTINGS, parse_settings, parse_text

SHIPPED = PRESETS / "templates"
OWN = "Own"
"""The category of the user's own templates."""
CATEGORIES = ("Nature", "Urban", "Abstract", "Character")
MAX_VALUE_LENGTH = 500
"""Maximum number of characters in a slot's value."""
PICTURES = {".webp": "image/webp", ".svg": "image/svg+xml"}
"""Suffixes and types of the templates' pictures; the first one that exists is shown."""
MAX_OWN = 200
_MAX_SLOTS = 12
_MAX_SUGGESTIONS = 20
_SLOT = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_TAGS = re.compile(r"</?(?:S|E|AUDCAP|ENDAUDCAP)>")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_KEYS = ("id", "title", "description", "prompt", "audio", "aspect_ratio", "settings", "slots")


@dataclass(frozen=True)
class Slot:
    """A placeholder in a template."""

    name: str
    label: str
    default: str
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """A prompt with slots. Made by `parse_template`."""

    id: str
    """Unique among all templates; the user's own start with `own-`."""
    category: str
    title: str
    description: str
    prompt: str
    """With slots and tagged speech, but without the audio description."""
    audio: str
    """The audio description, with slots and without a tag."""
    slots: tuple[Slot, ...] = ()
    aspect_ratio: str | None = None
    """A key of `ASPECT_RATIOS`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Parsed fields of `ClipSpec`."""

    @property
    def own(self) -> bool:
        return self.category == OWN

    def fill(self, values: Mapping[str, str], tag: AudioTag) -> str:
        """Fill the slots and return the prompt for a variant with this tag; empty or missing values get the default.

        Raises `JobError` for an unknown slot, and for a value or prompt that is too long.
        """
        scene, audio = self.fill_parts(values)
        prompt = join_prompt(scene, audio, tag)
        if len(prompt) > MAX_PROMPT_LENGTH:
            raise JobError(f"The prompt would have {len(prompt)} characters; the maximum is {MAX_PROMPT_LENGTH}.")
        return prompt

    def fill_parts(self, values: Mapping[str, str]) -> tuple[str, str]:
        """Fill the slots and return (scene with speech, audio description without a tag)."""
        known = {slot.name: slot.default for slot in self.slots}
        if unknown := [str(name) for name in values if name not in known]:
            raise JobError(f"This template has no slot {', '.join(unknown)[:100]}.")
        filled = {name: clean_value(values.get(name) or "") or default for name, default in known.items()}
        # One pass: a value that looks like a slot is not filled again.
        scene, audio = (_SLOT.sub(lambda m: filled.get(m[1], m[0]), text) for text in (self.prompt, self.audio))
        return scene, audio


@dataclass(frozen=True)
class TemplateList:
    """Every valid template, and notices about invalid ones."""

    templates: tuple[Template, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class DeletedTemplate:
    """What `Templates.restore` needs to put a template back."""

    position: int
    entry: Mapping[str, Any]


class Templates:
    """The templates of one studio. Thread-safe."""

    def __init__(self, state: Path, shipped: Path = SHIPPED) -> None:
        self._own = state / "templates" / "own.yaml"
        self._shipped = shipped
        self._lock = threading.Lock()
        self._cache: dict[Path, tuple[tuple[int, int], TemplateList]] = {}

    def all(self) -> TemplateList:
        """List the shipped templates by category, then the user's own; an edited file is read again."""
        found: dict[str, Template] = {}
        notices: list[str] = []
        paths = sorted(self._shipped.glob("*.yaml"), key=lambda path: _category_key(path.stem.capitalize()))
        for path in [*paths, self._own]:
            listed = self._read(path)
            notices += listed.notices
            for template in listed.templates:
                if found.setdefault(template.id, template) is not template:
                    notices.append(f"{path.name}: the id {template.id} is used twice; change one of them.")
        return TemplateList(tuple(found.values()), tuple(notices))

    def get(self, template: str) -> Template:
        """Look up a template by its id; raises `JobError` if there is none."""
        for found in self.all().templates:
            if found.id == template:
                return found
        raise JobError("This template no longer exists; reload the page.")

    def picture(self, template: str) -> Path | None:
        """The picture of a shipped template: one that a model made, else the drawn one; None if there is none."""
        if not _ID.fullmatch(template):
            return None
        folder = self._shipped / "pictures"
        return next((path for suffix in PICTURES if (path := folder / f"{template}{suffix}").is_file()), None)

    def add(self, entry: Mapping[str, Any]) -> Template:
        """Save a new template of the user's own; `entry` is as in the file, without an id. Raises `JobError`."""
        with self._lock:
            entries = self._own_entries()
            if len(entries) >= MAX_OWN:
                raise JobError(f"There are {MAX_OWN} templates of your own; delete some first.")
            title = entry.get("title")
            name = f"own-{slug(title) if isinstance(title, str) else ''}-{secrets.token_hex(3)}".replace("--", "-")
            return self._store(entries, len(entries), {**entry, "id": name})

    def add_file(self, upload: Path) -> tuple[int, int]:
        """Add the templates of a file to the user's own; returns how many were added, and how many were there already.

        Raises `JobError`, and adds none, if one of them is invalid.
        """
        listed = read_templates(upload, OWN)
        if listed.notices:
            raise JobError(" ".join(listed.notices))
        known = [_content(template) for template in self.all().templates]
        new = [template for template in listed.templates if _content(template) not in known]
        for template in new:
            self.add({key: value for key, value in template_entry(template).items() if key != "id"})
        return len(new), len(listed.templates) - len(new)

    def replace(self, template: str, entry: Mapping[str, Any]) -> Template:
        """Replace one of the user's own templates; raises `JobError`."""
        with self._lock:
            entries = self._own_entries()
            return self._store(entries, _position(entries, template), {**entry, "id": template})

    def delete(self, template: str) -> DeletedTemplate:
        """Delete one of the user's own templates; raises `JobError` if there is none with that id."""
        with self._lock:
            entries = self._own_entries()
            position = _position(entries, template)
            deleted = DeletedTemplate(position, entries.pop(position))
            write_yaml(self._own, {"category": OWN, "templates": entries})
            return deleted

    def restore(self, deleted: DeletedTemplate) -> None:
        """Put a deleted template back at its place; raises `JobError` if there is no room for it any more."""
        with self._lock:
            entries = self._own_entries()
            if len(entries) >= MAX_OWN:
                raise JobError(f"There are {MAX_OWN} templates of your own again; delete some first.")
            entries.insert(deleted.position, deleted.entry)
            write_yaml(self._own, {"category": OWN, "templates": entries})

    def _own_entries(self) -> list[Any]:
        """Read the raw entries of the user's file, also invalid ones, so that saving loses none; raises `JobError`."""
        if not self._own.exists():
            return []
        content = read_yaml(self._own)
        entries = content.get("templates") if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise JobError(f"{self._own.name} has no list of templates; correct or delete it first.")
        return entries

    def _store(self, entries: list[Any], position: int, entry: dict[str, Any]) -> Template:
        template = parse_template(entry, OWN)
        entries[position : position + 1] = [template_entry(template)]
        write_yaml(self._own, {"category": OWN, "templates": entries})
        return template

    def _read(self, path: Path) -> TemplateList:
        try:
            status = path.stat()
        except OSError:
            return TemplateList((), ())
        stamp = status.st_mtime_ns, status.st_size
        cached = self._cache.get(path)
        if cached is None or cached[0] != stamp:
            cached = stamp, read_templates(path, OWN if path == self._own else None)
            self._cache[path] = cached
        return cached[1]


def read_templates(path: Path, category: str | None = None) -> TemplateList:
    """Read the templates of a file; their category is the file's unless one is given."""
    try:
        content = read_yaml(path)
        if not isinstance(content, dict) or not isinstance(content.get("templates"), list):
            raise JobError(f"{path.name} has no list of templates; correct it.")
        category = category or parse_text(content, "category", 30, required=True)
    except JobError as error:
        return TemplateList((), (f"Templates cannot be used. {error}",))
    found, notices = [], []
    for number, entry in enumerate(content["templates"], start=1):
        try:
            found.append(parse_template(entry, category))
        except JobError as error:
            notices.append(f"A template cannot be used. {path.name}, entry {number}: {error}")
    return TemplateList(tuple(found), tuple(notices))


def parse_template(entry: Any, category: str) -> Template:
    """Parse a template's entry as in a file; raises `JobError` that says what is wrong."""
    if not isinstance(entry, Mapping):
        raise JobError("It must consist of lines `name: value`.")
    if unknown := [str(key) for key in entry if key not in _KEYS]:
        raise JobError(f"It has the unknown entry {', '.join(unknown)[:100]}; remove it.")
    name = parse_text(entry, "id", 80, required=True)
    if not _ID.fullmatch(name):
        raise JobError("Its id must consist of lower-case letters, digits and hyphens.")
    ratio = parse_text(entry, "aspect_ratio", 20) or None
    if ratio is not None and ratio not in ASPECT_RATIOS:
        raise JobError(f"Its aspect ratio must be one of {', '.join(ASPECT_RATIOS)}.")
    template = Template(
        id=name,
        category=category,
        title=parse_text(entry, "title", 80, required=True),
        description=parse_text(entry, "description", 300),
        prompt=parse_text(entry, "prompt", MAX_PROMPT_LENGTH, required=True),
        audio=parse_text(entry, "audio", MAX_PROMPT_LENGTH),
        slots=_parse_slots(entry.get("slots") or {}),
        aspect_ratio=ratio,
        settings=MappingProxyType(
            dict(parse_settings(entry.get("settings") or {}, forbidden=(*NOT_SETTINGS, "variant", "size")))
        ),
    )
    _check(template)
    return template


def template_entry(template: Template) -> dict[str, Any]:
    """Format a template as an entry of a file, to edit or store it; the inverse of `parse_template`."""
    entry: dict[str, Any] = {"id": template.id, "title": template.title, "description": template.description}
    entry |= {"prompt": template.prompt, "audio": template.audio}
    if template.aspect_ratio:
        entry["aspect_ratio"] = template.aspect_ratio
    if template.settings:
        entry["settings"] = dict(template.settings)
    if template.slots:
        entry["slots"] = {
            slot.name: {"label": slot.label, "default": slot.default, "suggestions": list(slot.suggestions)}
            for slot in template.slots
        }
    return entry


def _content(template: Template) -> dict[str, Any]:
    """What makes two templates the same, whatever their ids."""
    return template_entry(template) | {"id": ""}


def clean_value(value: str) -> str:
    """Clean the value of a slot for insertion into the prompt; raises `JobError` if it is too long."""
    if not isinstance(value, str):
        raise JobError("The value of a slot must be text.")
    if len(value) > MAX_VALUE_LENGTH:
        raise JobError(f"A slot holds at most {MAX_VALUE_LENGTH} characters, not {len(value)}.")
    while (without := _TAGS.sub("", value)) != value:  # removing the inner tag of `<<S>S>` leaves a tag
        value = without
    return " ".join(value.replace("Audio:", "Audio").split())


def _parse_slots(given: Any) -> tuple[Slot, ...]:
    if not isinstance(given, Mapping) or len(given) > _MAX_SLOTS:
        raise JobError(f"Its slots must be at most {_MAX_SLOTS} lines `name: (label, default, suggestions)`.")
    slots = []
    for name, entry in given.items():
        if not isinstance(name, str) or not _SLOT.fullmatch(f"{{{name}}}"):
            raise JobError(
                f"The slot {str(name)[:40]!r} must be named with lower-case letters, digits and underscores."
            )
        suggestions = entry.get("suggestions") or [] if isinstance(entry, Mapping) else None
        if not isinstance(suggestions, list) or not all(isinstance(text, str) for text in suggestions):
            raise JobError(f"The slot {name} needs a label, a default and, optionally, a list of suggestions.")
        if len(suggestions) > _MAX_SUGGESTIONS:
            raise JobError(f"The slot {name} has more than {_MAX_SUGGESTIONS} suggestions; remove some.")
        default = clean_value(parse_text(entry, "default", MAX_VALUE_LENGTH, required=True))
        label = parse_text(entry, "label", 60, required=True)
        slots.append(Slot(name, label, default, tuple(map(clean_value, suggestions))))
    return tuple(slots)


def _check(template: Template) -> None:
    declared = {slot.name for slot in template.slots}
    used = set(_SLOT.findall(f"{template.prompt} {template.audio}"))
    if missing := sorted(used - declared):
        raise JobError(f"Its text uses the slot {', '.join(missing)}, which is not listed under slots; add it.")
    if unused := sorted(declared - used):
        raise JobError(f"The slot {', '.join(unused)} is not used in its text; remove it.")
    if re.search("AUDCAP>|Audio:", template.prompt) or re.search("AUDCAP>|Audio:|<S>|<E>", template.audio):
        raise JobError("The audio description belongs under audio, without a tag, and the speech under prompt.")
    for finding in check_prompt(template.fill({}, AudioTag.AUDCAP), AudioTag.AUDCAP):
        if finding.severity is Severity.ERROR:
            raise JobError(finding.text)


def _position(entries: list[Any], template: str) -> int:
    for position, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("id") == template:
            return position
    raise JobError("Only templates of your own can be changed, and this is not one of them.")


def _category_key(name: str) -> tuple[int, str]:
    return (CATEGORIES.index(name) if name in CATEGORIES else len(CATEGORIES), name.casefold())
