"""The values of API calls: what clients send, and how mistakes reach them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ovi_studio.core.errors import JobError


@contextmanager
def sentences() -> Iterator[None]:
    """What people can put right reaches the client as a sentence; anything else is an error of this program."""
    try:
        yield
    except JobError as error:
        raise gr.Error(str(error), print_exception=False) from error


def as_sent(value: Any) -> Any:
    """The value of a component as the client sent it."""
    return value


def mapping(settings: Any) -> dict[str, Any]:
    """An object; empty if none was sent."""
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise JobError('The settings must be an object, such as {"steps": 20}.')
    return dict(settings)


def whole(name: str, value: Any, default: int) -> int:
    """A whole number; `default` if none was sent."""
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value % 1:
        raise JobError(f"{str(value)[:20]!r} is not a valid value for {name}; pass a whole number.")
    return int(value)
