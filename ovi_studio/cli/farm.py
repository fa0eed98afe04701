"""`python -m ovi_studio farm`: the machines that make clips of a queue, and what they are asked."""

import argparse
from pathlib import Path

from ovi_studio.cli.command import Command
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY

_STATUS = "status"
_RESUME = "resume"


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "act",
        choices=(_STATUS, "pause", "drain", "remove", _RESUME),
        help="status: list them; pause: after its clip a machine takes no other; drain: and gives its memory back; "
        "remove: it gives its clip back at once; resume: undo these, and try again a machine that was set aside",
    )
    parser.add_argument("machine", nargs="?", help="name of the machine, for all but status")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUTPUT_DIRECTORY, help="folder for the clips (default: %(default)s)"
    )
    parser.add_argument("--state", type=Path, help="folder of the queue")


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.core.errors import JobError
    from ovi_studio.farm.roster import Order, format_machines, give_order, machines
    from ovi_studio.queue.store import Store

    store = Store.open(options.out, options.state)
    try:
        if options.act != _STATUS:
            if not options.machine:
                raise JobError(f"Name the machine: farm {options.act} NAME.")
            give_order(store.database, options.machine, None if options.act == _RESUME else Order(options.act))
        found = machines(store.database)
        print(format_machines(found) if found else "No machine has joined; start the page with --farm ADDRESS.")
    finally:
        store.close()
    return 0


COMMAND = Command("farm", "list the machines of a queue, pause or remove one", _add_options, _run)
