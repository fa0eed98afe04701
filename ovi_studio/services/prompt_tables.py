"""Tables of prompts: CSV or TSV from any spreadsheet, or a text file with one prompt per line.

The encoding, the delimiter and the case of the header are detected, since spreadsheets choose them by the language of
the computer. Columns that are not settings of a clip are ignored, and a note says so. A row that cannot be used is
reported with its line number; a file that cannot be used at all raises `JobError`, which gives the file's name but not
its folder, since the message may be shown in a browser.
"""

import csv
import dataclasses
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ovi_studio.core.drawing import DRAWS, FLAT_NAMES
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec

MAX_TABLE_SIZE = 20 * 2**20
PROMPT_LIST = ".txt"
SUFFIXES = (".csv", ".tsv", PROMPT_LIST)
PROMPT, PICTURE, SOURCE, TYPED = "prompt", "image", "source", "typed_prompt"
_OFFICIAL_COLUMNS = {"text_prompt": PROMPT, "image_path": PICTURE}
_SETTINGS = [field.name for field in dataclasses.fields(ClipSpec) if field.name != "drawing"]
COLUMNS: Mapping[str, str] = _OFFICIAL_COLUMNS | {name: name for name in (*_SETTINGS, DRAWS, *FLAT_NAMES)}
"""Name of a column, in lower case -> setting of `ClipSpec.from_dict`."""
_DELIMITERS = ",;\t|"
_MARKS = {b"\xff\xfe\x00\x00": "utf-32", b"\x00\x00\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_SAMPLE = 4096
"""Bytes in which zeros are counted, to recognise UTF-16 without a byte-order mark."""


@dataclass(frozen=True)
class TableRow:
    """A row below the header."""

    line: int
    """Line number in the file, from 1; the first line if the row spans several."""
    cells: Mapping[str, str]
    """Field of `ClipSpec` -> text, for every known column of the table; empty for a missing cell."""
    problem: str = ""
    """The reason why the row cannot be used."""


@dataclass(frozen=True)
class PromptTable:
    """The content of a table's file."""

    path: Path
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()
    """Sentences about how the file was interpreted."""


def read_table(path: str | Path, max_rows: int) -> PromptTable:
    """Read a table; raises `JobError` if the file as a whole cannot be used or has more than `max_rows` rows."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise JobError(f"{path.name} is not a table of prompts; its name must end in {', '.join(SUFFIXES)}.")
    text, notes = read_text(path, MAX_TABLE_SIZE)
    if suffix == PROMPT_LIST:
        lines = enumerate(io.StringIO(text, newline=None), 1)
        found = (TableRow(number, {PROMPT: line.strip()}) for number, line in lines if line.strip())
        rows = _at_most(max_rows, found, path)
        if not rows:
            raise JobError(f"{path.name} is empty; write one prompt per line.")
    else:
        rows, unknown = _parse(text, path, max_rows)
        if unknown:
            notes = (*notes, f"{path.name}: ignored the unknown column {', '.join(unknown)}.")
    return PromptTable(path, tuple(rows), notes)


def with_prompts(table: PromptTable, prompts: Mapping[int, str]) -> bytes:
    """Return a table as CSV with other prompts, by line; their clips hold what was there before, too.

    Columns that are not settings of a clip are not in it.
    """
    rows = []
    for row in table.rows:
        cells = dict(row.cells)
        if row.line in prompts:
            cells[TYPED] = cells.get(TYPED) or cells.get(PROMPT, "")
            cells[PROMPT] = prompts[row.line]
        rows.append(cells)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys([PROMPT, TYPED, *(name for row in rows for name in row)])))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read_text(path: Path, limit: int) -> tuple[str, tuple[str, ...]]:
    """Read a text file of at most `limit` bytes; returns its text and notes about its encoding. Raises `JobError`."""
    try:
        if not path.is_file():
            raise JobError(f"There is no file {path.name}; check the path.")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise JobError(f"{path.name} cannot be read ({error.strerror}); check its path and permissions.") from error
    if len(data) > limit:
        line = data.count(b"\n") + 1
        raise JobError(f"{path.name} is larger than {limit / 2**20:g} MB (at line {line}); split it.")
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JobError(f"{path.name} is not UTF-8 in line {line}; save it as UTF-8.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise JobError(f"{path.name} has a NUL character in line {line}; save it as UTF-8 text.")
    if encoding != "cp1252":
        return text, ()
    return text, (f"{path.name} is not UTF-8 and was read as Windows-1252; check accented letters.",)


def find_file(text: str, folder: Path) -> Path | None:
    """Resolve `text` to an existing file, from `folder` or else from the working directory; None if there is none.

    Quotation marks around it, as file managers copy them, are removed, and `~` is the home folder.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    for base in (folder.absolute(), Path.cwd()):
        try:
            if (found := base / Path(text).expanduser()).is_file():
                return found
        except (OSError, RuntimeError, ValueError):
            # `text` may be a prompt: too long for a file name, or with characters that are not valid in one.
            continue
    return None


def _encoding(data: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding
    sample = data[:_SAMPLE]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = sample[start::2].count(0)
        if zeros > len(sample) // 4 and not sample[1 - start :: 2].count(0):
            return encoding
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            data.decode("cp1252")
        except UnicodeDecodeError:
            return "utf-8-sig"
        return "cp1252"
    return "utf-8-sig"


def _parse(text: str, path: Path, max_rows: int) -> tuple[list[TableRow], list[str]]:
    """Return the rows and the unknown columns."""
    delimiter, skipped = _dialect(text, path)
    rows = ((line, cells) for line, cells in _cells(text, path, delimiter) if line > skipped)
    first = next(rows, None)
    if first is None:
        raise JobError(f"{path.name} is empty; its first line must name the column text_prompt.")
    header, unknown = _header(first[1], path, first[0])
    return _at_most(max_rows, (_row(line, header, cells) for line, cells in rows), path), unknown


def _at_most(max_rows: int, rows: Iterator[TableRow], path: Path) -> list[TableRow]:
    """Collect the rows; the first one too many is an error, so that a table of millions of them takes no memory."""
    found = list(itertools.islice(rows, max_rows))
    if (surplus := next(rows, None)) is not None:
        raise JobError(f"{path.name} has more than {max_rows} rows (line {surplus.line}); split it.")
    return found


def _cells(text: str, path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every row that is not blank."""
    # Strict: a stray quote would otherwise swallow the rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise JobError(
            f"{path.name} is malformed in the row at line {line} ({error}); fix its quotation marks."
        ) from error


def _dialect(text: str, path: Path) -> tuple[str, int]:
    """Return the delimiter, and the number of the line that only names it (`sep=;`), or 0."""
    lines = text.split("\n")
    number = next((number for number, line in enumerate(lines) if line.strip()), 0)
    first = lines[number].strip("\r")
    if first.lower().startswith("sep=") and len(first) == len("sep=") + 1:
        return first[-1], number + 1

    def known(delimiter: str) -> int:
        return sum(_column(cell) in COLUMNS for cell in first.split(delimiter))

    preferred = "\t" if path.suffix.lower() == ".tsv" else ","
    return max(preferred + _DELIMITERS, key=known), 0


def _column(cell: str) -> str:
    return cell.strip().strip('"').strip().lower().replace(" ", "_").replace("-", "_")


def _header(cells: list[str], path: Path, line: int) -> tuple[list[str], list[str]]:
    """Return the field of each column, empty for one that is ignored, and the names of the unknown columns."""
    named = [_column(cell) for cell in cells]
    fields = [COLUMNS.get(column, "") for column in named]
    if PROMPT not in fields:
        raise JobError(f"{path.name} has no column text_prompt in line {line}; its first line must name the columns.")
    if repeated := [name for name, count in Counter(filter(None, fields)).items() if count > 1]:
        columns = [column for column, field in zip(named, fields, strict=True) if field in repeated]
        raise JobError(
            f"{path.name} has the column {', '.join(dict.fromkeys(columns))} more than once in line {line}; remove one."
        )
    return fields, [cell.strip() for cell, field in zip(cells, fields, strict=True) if cell.strip() and not field]


def _row(line: int, header: list[str], cells: list[str]) -> TableRow:
    surplus = [cell for cell in cells[len(header) :] if cell.strip()]
    problem = f"There are {len(cells)} cells for {len(header)} columns; put text with commas in quotation marks."
    padded: Iterable[str] = cells + [""] * (len(header) - len(cells))
    named = {field: cell for field, cell in zip(header, padded, strict=False) if field}
    return TableRow(line, named, problem if surplus else "")
