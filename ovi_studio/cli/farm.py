"""`python -m ovi_studio farm`: the machines that make clips of a queue, and what they are asked."""

import argparse
from pathlib import Path

from ovi_studio.cli.command import Command
from ovi_studio.engine.command import DEFAULT_OUTPUT_DIRECTORY
from ovi_studio.runtime.options import RuntimeOptions

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
    RuntimeOptions.add_to(parser, only=["checkpoint_directory"])


def _run(options: argparse.Namespace) -> int:
    from ovi_studio.checkpoints.layout import complete_variants
    from ovi_studio.core.errors import JobError
    from ovi_studio.farm.roster import Order, give_order
    from ovi_studio.queue.store import Store
    from ovi_studio.services.gpu_memory import gpu_memory
    from ovi_studio.services.machines import format_figures, machine_figures

    store = Store.open(options.out, options.state)
    try:
        if options.act != _STATUS:
            if not options.machine:
                raise JobError(f"Name the machine: farm {options.act} NAME.")
            give_order(store.database, options.machine, None if options.act == _RESUME else Order(options.act))
        complete = [variant.name for variant in complete_variants(RuntimeOptions.of(options).checkpoints)]
        found = machine_figures(store, complete, gpu_memory())
        print(format_figures(found) if found else "No engine runs; start the page.")
        if not any(one.elsewhere for one in found):
            print("No other machine has joined; start the page with --farm ADDRESS.")
    finally:
        store.close()
    return 0


COMMAND = Command("farm", "list the machines of a queue, pause or remove one", _add_options, _run)
