"""Reading a film from any of the files that can hold one."""

from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.film.film_yaml import read_film
from ovi_studio.film.fountain import MAX_CHARACTERS
from ovi_studio.film.screenplay import read_screenplay
from ovi_studio.film.script import MAX_NAME, Film
from ovi_studio.film.shot_list import read_list

YAML, FOUNTAIN, LIST = (".yaml", ".yml"), (".fountain", ".spmd"), (".txt",)
SUFFIXES = (*YAML, *FOUNTAIN, *LIST)
CLIP_SECONDS = 5.0
"""The length for which a screenplay's dialogue is cut where no other is known."""


def load_film(path: Path, seconds: float = CLIP_SECONDS) -> Film:
    """The film in a file, by its suffix; raises `JobError` that names the file.

    Args:
        seconds: the length of a clip that the dialogue of a screenplay has to fit in.
    """
    suffix = path.suffix.lower()
    if suffix in YAML:
        return read_film(path)
    if suffix not in (*FOUNTAIN, *LIST):
        raise JobError(f"{path.name} is no film; give a file that ends in {', '.join(SUFFIXES)}.")
    text, title = _read_text(path), " ".join(path.stem.replace("_", " ").split())[:MAX_NAME]
    try:
        return read_screenplay(text, title, seconds) if suffix in FOUNTAIN else read_list(text, title)
    except JobError as error:
        raise JobError(f"{path.name}: {error}") from error


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # to open a pipe could block forever
            raise JobError(f"{path.name} is not a regular file; replace it.")
        with path.open("rb") as file:
            data = file.read(4 * MAX_CHARACTERS + 1)
        if len(data) > 4 * MAX_CHARACTERS:
            raise JobError(f"{path.name} is larger than {4 * MAX_CHARACTERS // 2**20} MB; split it.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise JobError(f"{path.name} cannot be read ({error.strerror}); check the file and its permissions.") from error
    except UnicodeDecodeError as error:
        raise JobError(f"{path.name} is not text in UTF-8; save it as that.") from error
