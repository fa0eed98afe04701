"""Explain running out of memory during training in a sentence instead of a traceback. Imports no torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ovi_studio.core.errors import JobError, is_out_of_memory


@contextmanager
def explain_out_of_memory(activity: str, advice: Callable[[], str]) -> Iterator[None]:
    """Turn an out-of-memory error inside the context into a `JobError`.

    Args:
        activity: what the memory was needed for.
        advice: returns what to do about it; called only when memory runs out.

    If one of several ranks raises it, it ends at once (`distributed.ending`), and its launcher ends the others.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise JobError(f"Memory ran out while {activity}; {advice()}.") from error


def memory_advice(options: Sequence[str], how_to_continue: str) -> str:
    """Return what to do when memory ran out.

    Args:
        options: options that need less memory and that this run does not use yet.
        how_to_continue: how to keep what was done so far.
    """
    change = f"use less with {' or '.join(options)}" if options else "choose a variant with fewer pixels or seconds"
    return f"close other programs that use it, or {change}, and {how_to_continue}"
