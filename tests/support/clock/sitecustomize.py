"""For processes of tests: a clock that the test sets, by the seconds that stand in the file `OVI_TEST_CLOCK`."""

import os
import time
from pathlib import Path

if file := os.environ.get("OVI_TEST_CLOCK"):
    _true_time, _true_time_ns = time.time, time.time_ns

    def _shift() -> float:
        try:
            return float(Path(file).read_text())
        except (OSError, ValueError):
            # It is being written.
            return 0.0

    time.time = lambda: _true_time() + _shift()
    time.time_ns = lambda: _true_time_ns() + int(_shift() * 1e9)
