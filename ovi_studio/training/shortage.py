"""A training that lacks memory ends with a sentence and not with a traceback. Imports no torch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ovi_studio.core.errors import JobError, is_out_of_memory


@contextmanager
def shortage_said(doing: str, advice: Callable[[], str]) -> Iterator[None]:
    """Let a lack of memory within become a `JobError`.

    Args:
        doing: what was done with the memory.
        advice: asked for when it is needed.

    One of several ranks ends at once by it (`distributed.ending`), and its launcher ends the others.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise JobError(f"Memory ran out while {doing}; {advice()}.") from error


def lighter_training(options: Sequence[str], go_on: str) -> str:
    """What to do about a lack of memory.

    Args:
        options: that take less memory and that this run does not have.
        go_on: how what was done is not lost.
    """
    change = f"take less with {' or '.join(options)}" if options else "take a variant with fewer pixels or seconds"
    return f"close other programs that use it, or {change}, and {go_on}"
