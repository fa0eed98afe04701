"""`Declared`: a frozen dataclass of options that are declared once, each at its field.

From the declaration come the command line's options and their help, the arguments that start another process with the
same options, JSON, and what a page shows. A field that is None or has its default was not given. Imports no torch.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from ovi_studio.core.errors import JobError

Choices = Sequence[tuple[str, Any]]
"""(what people read, value)."""


class Form(StrEnum):
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
    """Asked for whenever they are shown; None: a box to tick."""


@dataclass(frozen=True)
class Option:
    """One declared option."""

    flag: str
    help: str
    group: str
    """The heading in the help; commands take whole groups."""
    parse: Callable[[str], Any] = str
    """From the word on a command line, and from JSON; raises `ValueError`."""
    form: Form = Form.VALUE
    choices: tuple[str, ...] = ()
    """All that are valid; none: whatever `parse` takes."""
    metavar: str | None = None
    setting: Setting | None = None
    """None: not on the page."""

    def add_to(self, parser: Any, name: str) -> None:
        """To a parser or a group of one, whose value is None where the option is not given.

        The parser raises `JobError` for a value that is not valid.
        """
        if self.form is Form.ON:
            parser.add_argument(self.flag, dest=name, action="store_const", const=True, help=self.help)
        elif self.form is Form.ON_OR_OFF:
            parser.add_argument(self.flag, dest=name, action=argparse.BooleanOptionalAction, help=self.help)
        else:
            metavar = "{" + ",".join(self.choices) + "}" if self.choices else self.metavar
            parser.add_argument(self.flag, dest=name, type=self.checked, metavar=metavar, help=self.help)

    def arguments(self, value: Any) -> list[str]:
        """What stands for a value on a command line."""
        if self.form is Form.VALUE:
            # Another process may run in another folder.
            return [self.flag, str(value.absolute() if isinstance(value, Path) else value)]
        return [self.flag if value else f"--no-{self.flag.removeprefix('--')}"]

    def checked(self, value: Any) -> Any:
        """A value from outside; raises `JobError` for one that is not valid."""
        try:
            found = value if isinstance(value, bool) and self.form is not Form.VALUE else self.parse(str(value))
        except ValueError as error:
            raise JobError(f"{str(value)[:40]!r} is not a valid value for {self.flag}: {error}") from error
        if self.choices and found not in self.choices:
            raise JobError(
                f"{str(value)[:40]!r} is not a valid value for {self.flag}; choose one of {', '.join(self.choices)}."
            )
        return found


def option(default: Any, flag: str, help: str, group: str, **more: Any) -> Any:
    """The declaration at a field: its default, and the fields of `Option`."""
    return field(default=default, metadata={"option": Option(flag, help, group, **more)})


@dataclass(frozen=True)
class Declared:
    """Base of such a dataclass; every field is an `option`. Raises `JobError` for values that are not valid."""

    def __post_init__(self) -> None:
        for name, declared in self.options().items():
            if self.given(name):
                declared.checked(getattr(self, name))

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Field -> its declaration."""
        return {one.name: one.metadata["option"] for one in fields(cls)}

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Those that the page shows: field -> how."""
        return {name: one.setting for name, one in cls.options().items() if one.setting is not None}

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser, *groups: str, only: Sequence[str] = ()) -> None:
        """Give a command the options of these groups, and those fields."""
        for name in only:
            cls.options()[name].add_to(parser, name)
        for group in groups:
            section = parser.add_argument_group(group)
            for name, declared in cls.options().items():
                if declared.group == group:
                    declared.add_to(section, name)

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """What a command line gave; options that the command does not have keep their defaults."""
        found = {name: getattr(parsed, name, None) for name in cls.options()}
        return cls(**{name: value for name, value in found.items() if value is not None})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_json`; names that are not declared are left out."""
        return cls(**{name: cls.read(name, value) for name, value in values.items() if name in cls.options()})

    @classmethod
    def read(cls, name: str, value: Any) -> Any:
        """One option's value from JSON, where null stands for its default; raises `JobError`."""
        return cls.options()[name].checked(value) if value is not None else _default(cls, name)

    def given(self, name: str) -> bool:
        """Whether an option has another value than its default."""
        return getattr(self, name) != _default(type(self), name)

    def arguments(self, *names: str) -> list[str]:
        """What gives a command the same options: all, or those of these fields."""
        declared = self.options()
        given = [name for name in names or declared if self.given(name)]
        return [word for name in given for word in declared[name].arguments(getattr(self, name))]

    def as_json(self) -> dict[str, Any]:
        """What is given, in JSON's types."""
        values = {name: getattr(self, name) for name in self.options() if self.given(name)}
        return {name: value if isinstance(value, bool | int) else str(value) for name, value in values.items()}

    def over(self, other: Self) -> Self:
        """These options, and from `other` those that are not given here."""
        return type(self)(**{name: getattr(self if self.given(name) else other, name) for name in self.options()})


def _default(options: type[Declared], name: str) -> Any:
    return next(one.default for one in fields(options) if one.name == name)
