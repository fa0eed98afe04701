"""`python -m ovi_studio.farm.rank`: one of the processes that share the clips of an actor (`rank_executor`).

The leader makes the clips that the actor sends, and asks after each event whether to continue. It ends when the actor
closes the connection or is gone, and with it the others.
"""

import argparse
import faulthandler
import os
import signal
import threading
import time
from multiprocessing.connection import Connection, Listener

import psutil

from ovi_studio.core.signals import ending_signals
from ovi_studio.distributed.ending import end_with
from ovi_studio.distributed.ranks import join_ranks
from ovi_studio.engine.executor import LocalExecutor
from ovi_studio.farm.relay import EventSink, clip_events, failed_event
from ovi_studio.farm.wire import Event
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions
from ovi_studio.runtime.step_down import steps_below_sharding

_WATCH_SECONDS = 1.0


def main() -> int:
    """Make clips together with the other ranks until the actor says that there are no more."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--actor", type=int, required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--steps-down", type=int, required=True)
    RuntimeOptions.add_to(parser, *OptionGroup)
    parsed = parser.parse_args()
    faulthandler.enable()
    ranks = join_ranks()
    options, exhausted = steps_below_sharding(RuntimeOptions.of(parsed), parsed.steps_down)
    runner = ClipRunner(options, models=parsed.models, ranks=ranks, exhausted=exhausted)
    if not ranks.is_leader:
        runner.follow()
        return 0
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # the launcher's, while this one may be saying why another has ended
    threading.Thread(target=_end_with_actor, args=(parsed.actor,), name="actor", daemon=True).start()
    with Listener(parsed.socket, "AF_UNIX") as listener, listener.accept() as connection:
        return _serve(LocalExecutor(runner), connection)


def _serve(executor: LocalExecutor, connection: Connection) -> int:
    def ask(event: Event) -> bool:
        connection.send(event)
        return bool(connection.recv())

    executor.on_peer_loss(lambda memory: connection.send(failed_event(MemoryError())) if memory else None)
    while executor.usable:
        try:
            spec, facts = connection.recv()
        except EOFError:
            executor.close()
            return 0
        try:
            *pieces, done = clip_events(executor.make(spec, EventSink(ask, previews=True), facts))
        except Exception as error:
            connection.send(failed_event(error))
            continue
        for event in pieces:
            ask(event)
        connection.send(done)
    return 1


def _end_with_actor(pid: int) -> None:
    """End this process within a step if the actor was killed; the other ranks follow."""
    while psutil.pid_exists(pid):
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    end_with(main)
