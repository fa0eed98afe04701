"""Many clips as one zip, made while it is sent: nothing is stored, and no more than a block of it is in memory.

The clips are not compressed again. `settings.csv` names each of them with its settings; as a table of prompts it makes
the same clips again, but for their first frames, which are in the clips.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ovi_studio.core.prompt_patterns import escape_prompt
from ovi_studio.core.spec import ADAPTER_LISTS, ClipSpec, format_timesteps

MAX_CLIPS = 500
"""Clips in one zip."""
TABLE = "settings.csv"
_BLOCK = 2**20


def zip_clips(clips: Sequence[tuple[Path, ClipSpec]]) -> Iterator[bytes]:
    """Yield the bytes of a zip with these mp4 files and the table of their settings.

    A file that is gone by the time it is its turn is left out; one that cannot be read to its end raises `OSError`, so
    that the download fails and does not look complete.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(TABLE, settings_table((path.name, spec) for path, spec in clips))
        for path, _ in clips:
            try:
                source = path.open("rb")
                entry = zipfile.ZipInfo.from_file(path, path.name, strict_timestamps=False)
            except FileNotFoundError:
                continue
            with source, archive.open(entry, "w", force_zip64=True) as target:
                while block := source.read(_BLOCK):
                    target.write(block)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def settings_table(clips: Iterable[tuple[str, ClipSpec]]) -> bytes:
    """Render the settings of clips as CSV that spreadsheets and `prompt_tables` read."""
    rows = [{"file": name, **_cells(spec)} for name, spec in clips]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["file", "text_prompt"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8-sig")  # with a mark, by which spreadsheets recognise UTF-8


def _cells(spec: ClipSpec) -> dict[str, Any]:
    values = spec.to_dict()
    # Tables hold patterns, and clips the literal text.
    first = {"text_prompt": escape_prompt(values.pop("prompt")), "first_frame": values.pop("image") or ""}
    values["size"] = "x".join(map(str, values["size"] or ()))
    values["timesteps"] = format_timesteps(spec.timesteps)
    values |= {name: json.dumps(values[name], ensure_ascii=False) for name in ADAPTER_LISTS}
    return first | values


class _Sink(io.RawIOBase):
    """Takes what `zipfile` writes; it cannot seek, so that sizes follow the files."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self._blocks.append(bytes(block))
        return len(block)

    def take(self) -> bytes:
        taken, self._blocks = b"".join(self._blocks), []
        return taken
