"""`Declared`: a frozen dataclass of options that are declared once, each at its field.

The declaration yields the command line's options and their help, the arguments that start another process with the same
options, JSON, and what a page shows. A field that is None or has its default counts as not given. Imports no torch.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from ovi_studio.core.errors import JobError

Choices = Sequence[tuple[str, Any]]
"""Pairs of (text on the page, value)."""


class OptionForm(StrEnum):
    """How an option is written on a command line."""

    VALUE = "value"
    """`--option VALUE`"""
    ON = "on"
    """`--option`"""
    ON_OR_OFF = "on or off"
    """`--option` or `--no-option`"""


@dataclass(frozen=True)
class Setting:
    """How a page shows an option."""

    label: str
    info: str
    choices: Callable[[], Choices] | None = None
    """Called whenever the page shows the choices; None: a checkbox."""


@dataclass(frozen=True)
class Option:
    """One declared option."""

    flag: str
    help: str
    group: str
    """The heading in the help; commands add whole groups."""
    parse: Callable[[str], Any] = str
    """Parses the text from a command line or from JSON; raises `ValueError`."""
    form: OptionForm = OptionForm.VALUE
    choices: tuple[str, ...] = ()
    """All valid values; empty: everything that `parse` accepts."""
    metavar: str | None = None
    setting: Setting | None = None
    """None: not on the page."""

    def add_to(self, parser: Any, name: str) -> None:
        """Add this option to a parser or to an argument group; its value is None if the option is not given.

        Parsing raises `JobError` for a value that is not valid.
        """
        if self.form is OptionForm.ON:
            parser.add_argument(self.flag, dest=name, action="store_const", const=True, help=self.help)
        elif self.form is OptionForm.ON_OR_OFF:
            parser.add_argument(self.flag, dest=name, action=argparse.BooleanOptionalAction, help=self.help)
        else:
            metavar = "{" + ",".join(self.choices) + "}" if self.choices else self.metavar
            parser.add_argument(self.flag, dest=name, type=self.checked, metavar=metavar, help=self.help)

    def arguments(self, value: Any) -> list[str]:
        """Return the command-line arguments that give a value."""
        if self.form is OptionForm.VALUE:
            # Another process may run in another folder.
            return [self.flag, str(value.absolute() if isinstance(value, Path) else value)]
        return [self.flag if value else f"--no-{self.flag.removeprefix('--')}"]

    def checked(self, value: Any) -> Any:
        """Parse and check a value from outside; raises `JobError` for one that is not valid."""
        try:
            found = value if isinstance(value, bool) and self.form is not OptionForm.VALUE else self.parse(str(value))
        except ValueError as error:
            raise JobError(f"{str(value)[:40]!r} is not a valid value for {self.flag}: {error}") from error
        if self.choices and found not in self.choices:
            raise JobError(
                f"{str(value)[:40]!r} is not a valid value for {self.flag}; choose one of {', '.join(self.choices)}."
            )
        return found


def option(default: Any, flag: str, help: str, group: str, **more: Any) -> Any:
    """Declare an option at a dataclass field: its default, and the fields of `Option`."""
    return field(default=default, metadata={"option": Option(flag, help, group, **more)})


@dataclass(frozen=True)
class Declared:
    """Base of a dataclass whose every field is an `option`. Raises `JobError` for values that are not valid."""

    def __post_init__(self) -> None:
        for name, declared in self.options().items():
            if self.given(name):
                declared.checked(getattr(self, name))

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Return every field's declaration."""
        return {one.name: one.metadata["option"] for one in fields(cls)}

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the settings of the options that the page shows, by field."""
        return {name: one.setting for name, one in cls.options().items() if one.setting is not None}

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser, *groups: str, only: Sequence[str] = ()) -> None:
        """Add the options of these groups, and of the fields in `only`, to a parser."""
        for name in only:
            cls.options()[name].add_to(parser, name)
        for group in groups:
            section = parser.add_argument_group(group)
            for name, declared in cls.options().items():
                if declared.group == group:
                    declared.add_to(section, name)

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """Build from a parsed command line; options that the command does not have keep their defaults."""
        found = {name: getattr(parsed, name, None) for name in cls.options()}
        return cls(**{name: value for name, value in found.items() if value is not None})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build from the result of `as_json`; names that are not declared are ignored."""
        return cls(**{name: cls.read(name, value) for name, value in values.items() if name in cls.options()})

    @classmethod
    def read(cls, name: str, value: Any) -> Any:
        """Parse one option's value from JSON, where null stands for its default; raises `JobError`."""
        return cls.options()[name].checked(value) if value is not None else _default(cls, name)

    def given(self, name: str) -> bool:
        """Whether an option differs from its default."""
        return getattr(self, name) != _default(type(self), name)

    def arguments(self, *names: str) -> list[str]:
        """Return the command-line arguments that give the same options: all, or those of the named fields."""
        declared = self.options()
        given = [name for name in names or declared if self.given(name)]
        return [word for name in given for word in declared[name].arguments(getattr(self, name))]

    def as_json(self) -> dict[str, Any]:
        """Return the given options, in JSON's types."""
        values = {name: getattr(self, name) for name in self.options() if self.given(name)}
        return {name: value if isinstance(value, bool | int) else str(value) for name, value in values.items()}

    def over(self, other: Self) -> Self:
        """Return these options, completed by `other` where they are not given here."""
        return type(self)(**{name: getattr(self if self.given(name) else other, name) for name in self.options()})


def _default(options: type[Declared], name: str) -> Any:
    return next(one.default for one in fields(options) if one.name == name)
