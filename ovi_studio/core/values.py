"""Values from JSON, forms and tables, converted; each function raises `ValueError` or `TypeError` for anything else."""

from typing import Any

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def as_text(value: Any) -> str:
    """A text that can be stored."""
    if not isinstance(value, str):
        raise ValueError
    # JSON can contain lone surrogates, which cannot be stored; for them this raises a ValueError.
    value.encode()
    return value


def as_integer(value: Any) -> int:
    """A whole number, also one such as 4.0."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def as_number(value: Any) -> float:
    """Any number."""
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def as_flag(value: Any) -> bool:
    """A boolean, or a word for one."""
    if isinstance(value, str) and value.strip().lower() in _FLAGS:
        return _FLAGS[value.strip().lower()]
    if not isinstance(value, bool):
        raise ValueError
    return value
