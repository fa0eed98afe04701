"""What a file says about who or what made it, in words: its mark, and its checked Content Credentials."""

from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.media.content_credentials import read_credentials
from ovi_studio.media.xmp_mark import MADE_BY_MODEL, read_source_type


def describe_mark(path: Path) -> str:
    """The mark of a clip, poster or film in words; raises `OSError`."""
    kind = read_source_type(path)
    if kind is None:
        return "none; the file does not say that it was made by a model"
    return f"{'made by a model' if kind == MADE_BY_MODEL else 'another source'} ({kind})"


def describe_credentials(path: Path) -> str | None:
    """The verified Content Credentials of a file in words; None if it has none. Raises `OSError`."""
    try:
        found = read_credentials(path)
    except JobError as error:
        return f"not verified. {error}"
    if found is None:
        return None
    state = "unchanged since it was signed" if found.intact else f"INVALID ({', '.join(found.faults)})"
    trust = "" if found.trusted else ", whom no trusted list names"
    return f"{state}; signed by {found.signer}{trust}"
