"""Run on two ranks: the second is delayed while it leaves the group. Argument: a JSON file to write."""

import os
import sys
import time
from pathlib import Path

from ovi_studio.distributed.ranks import join_ranks

HELD_UP = 3
"""Seconds; longer than the watchdog's poll interval."""


def main() -> None:
    ranks = join_ranks()
    end = ranks.watchdog.end

    def late() -> None:
        time.sleep(HELD_UP)
        end()

    if ranks.is_leader:
        Path(sys.argv[1]).write_text("{}")
    else:
        ranks.watchdog.end = late
    ranks.close()
    if ranks.is_leader:
        os._exit(0)  # as quickly as it can be


if __name__ == "__main__":
    main()
