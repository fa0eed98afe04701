"""`python -m ovi_studio.farm`: the farm process, which the page's supervisor starts."""

import argparse
import faulthandler
import os
import secrets
import sys
import threading
from contextlib import suppress

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.errors import JobError, Stopped
from ovi_studio.core.log_lines import start_log
from ovi_studio.distributed.ending import end_with
from ovi_studio.engine.command import add_engine_options
from ovi_studio.engine.loop import stop_on_signals
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.farm.command import (
    TOKEN_VARIABLE,
    FarmAddress,
    add_farm_options,
    farm_address,
    ray_environment,
    token_file,
)
from ovi_studio.queue.database import Database
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.recovery import recover_dead_engines
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.settings import read_settings


def main() -> int:
    """Serve the queue of a studio with the machines of a cluster until asked to end."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description="Make clips on several machines.")
    add_engine_options(parser)
    add_farm_options(parser)
    options = parser.parse_args()
    faulthandler.enable()
    try:
        address = farm_address(options)
        if address is None:
            raise JobError("Name the head's address with --farm, or a cluster with --ray-address.")
        return _serve(options, address)
    except JobError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace, address: FarmAddress) -> int:
    paths = StudioPaths.of(options.out, options.state)
    paths.prepare()
    owner = options.owner or EngineSlot.of_farm().owner(secrets.token_hex(4))
    start_log(EngineSlot.of_farm().file(paths.log), to_terminal=not options.supervised)
    environment = ray_environment(token_file(paths) if address.own else None)
    os.environ.update(environment)
    if address.own:
        os.environ.pop(TOKEN_VARIABLE, None)  # of another farm; Ray would prefer it to ours, which machines are told
    stop = threading.Event()
    stop_on_signals(stop)
    # Only now, since Ray reads these variables when it is imported.
    from ovi_studio.farm.cluster import connected

    database = Database(paths)
    recover_dead_engines(database)
    with (
        EngineSession(database, owner, supervised=options.supervised) as work,
        suppress(Stopped),
        connected(address, environment, lambda: stop.is_set() or work.stop_requested()),
    ):
        stop_on_signals(stop)  # Ray has replaced the handler by one that ends the process wherever it is
        _dispatch(options, work, stop)
    return 0


def _dispatch(options: argparse.Namespace, work: EngineSession, stop: threading.Event) -> None:
    from ovi_studio.farm.actor import ActorSetup
    from ovi_studio.farm.cluster import offer_models, publish_facts
    from ovi_studio.farm.dispatcher import Dispatcher
    from ovi_studio.farm.machine import Machine, Versions, fingerprints

    runtime = RuntimeOptions.of(options)
    settings = read_settings(work.database)
    facts = Machine("head", Versions.here(), variants=fingerprints(runtime.checkpoints))
    publish_facts(facts)
    shelf = offer_models(runtime.checkpoints)  # noqa: F841  (it is there as long as somebody refers to it)
    Dispatcher(
        work,
        ActorSetup(_of_any_machine(runtime.over(settings.options)), settings.previews, options.models),
        facts,
        AdapterLibrary(runtime.adapters),
        stop,
        supervised=options.supervised,
    ).serve()


def _of_any_machine(options: RuntimeOptions) -> RuntimeOptions:
    """Return the options without what belongs to this machine: its folders, its device, and how many GPUs it has."""
    names = ("checkpoint_directory", "adapter_directory", "device", "gpus")
    default = RuntimeOptions()
    return RuntimeOptions(**{**vars(options), **{name: getattr(default, name) for name in names}})


if __name__ == "__main__":
    end_with(main)
