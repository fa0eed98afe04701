"""How long the Library tab takes with many clips: `python tests/support/library_times.py [5000]`.

Prints milliseconds of the handlers that the page waits for, without the browser: the first reading of the folder, the
first page of cards, searches, and a refresh of an unchanged folder. The clips are links to one real file.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(count: int) -> None:
    from tab_server import make_clip

    from ovi_studio.runtime.options import RuntimeOptions
    from ovi_studio.services.studio import Studio
    from ovi_studio.web.tabs.library.handlers import ALL, LibraryHandlers

    with tempfile.TemporaryDirectory() as folder:
        studio = Studio.open(f"{folder}/outputs", RuntimeOptions(checkpoint_directory=Path(folder)))
        clip = make_clip(studio.paths.outputs, "A quiet harbour at dawn, gulls and slow waves", seed=42)
        for number in range(1, count):
            for suffix in (".mp4", ".jpg"):
                os.link(clip.with_suffix(suffix), clip.with_name(f"{number:05d}{suffix}"))
        handlers = LibraryHandlers(studio, None)

        def show(words: str) -> Callable[[], Any]:
            return lambda: handlers.show(words, ALL, ALL, "newest", False, "clips", 0, [])

        print(f"{count} clips, {os.cpu_count()} cores, milliseconds")
        print(f"{'first reading of the folder':<32}{milliseconds(studio.library.refresh):8.0f}")
        for name, act in (
            ("unchanged folder", studio.library.refresh),
            ("first page", show("")),
            ("search that finds all", show("harbour dawn")),
            ("search that finds nothing", show("fox")),
        ):
            print(f"{name:<32}{statistics.median(milliseconds(act) for _ in range(9)):8.1f}")
        studio.close()


def milliseconds(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
