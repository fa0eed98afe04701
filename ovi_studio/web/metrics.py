"""`/metrics`: figures of the queue and its machines in Prometheus' text format (version 0.0.4), for `--metrics`.

A machine is named by its slot, which stays the same: `engine`, `engine1`, `farm.NAME`. Counters are kept in the
database, so that they survive restarts. `Guard` asks for the login, with HTTP Basic as of every program.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ovi_studio.core.errors import JobError
from ovi_studio.farm.roster import MachineState
from ovi_studio.queue.estimates import made_clips
from ovi_studio.services.gpu_memory import gpu_memory
from ovi_studio.services.machines import MachineFigures, machine_figures
from ovi_studio.services.studio import Studio
from ovi_studio.web.guard import METRICS_PATH
from ovi_studio.web.public_text import without_folders

_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "ovi_studio_"
Sample = tuple[Mapping[str, str], float]
"""Labels and a value."""


@dataclass(frozen=True)
class Metric:
    """All samples of one name."""

    name: str
    kind: str
    """`gauge`, or `counter`, whose name ends with `_total`."""
    help: str
    samples: Iterable[Sample]


def metrics_route(studio: Studio) -> Route:
    """Return the route to add to Gradio's server."""

    def answer(request: Request) -> Response:
        try:
            return Response(format_metrics(collect(studio)), media_type=_MEDIA_TYPE)
        except JobError as error:
            return Response(without_folders(str(error)), 503)

    return Route(METRICS_PATH, answer, methods=["GET"])


def format_metrics(metrics: Iterable[Metric]) -> str:
    """Write metrics in the text format; those without samples are left out."""
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def collect(studio: Studio) -> list[Metric]:
    """Return the present figures. Raises `JobError` if the queue cannot be read."""
    store, made, left = studio.store, made_clips(studio.store.database), studio.time_left()
    found = machine_figures(store, [variant.name for variant in studio.variants()], gpu_memory())
    return [
        Metric("jobs", "gauge", "Jobs that are listed.", [({"state": s}, n) for s, n in store.counts().items()]),
        Metric("queue_paused", "gauge", "Whether no jobs are started.", [({}, store.paused)]),
        Metric("queue_seconds", "gauge", "Estimate until all measured kinds of jobs have ended.", [({}, left.seconds)]),
        Metric(
            "queue_unmeasured_jobs", "gauge", "Waiting jobs that are not in that estimate.", [({}, left.unmeasured)]
        ),
        Metric("clips_total", "counter", "Clips made.", [({"machine": name}, one.clips) for name, one in made.items()]),
        Metric(
            "phase_seconds_total",
            "counter",
            "Seconds that the phases of these clips took.",
            [
                ({"machine": name, "phase": phase}, seconds)
                for name, one in made.items()
                for phase, seconds in (one.seconds or {}).items()
            ],
        ),
        *_of_machines(found),
    ]


def _of_machines(found: Iterable[MachineFigures]) -> Iterator[Metric]:
    # Somebody may have started a second engine in a slot by hand.
    of = [({"machine": slot}, one) for slot, one in {one.slot: one for one in found}.items()]
    states = [
        ({**label, "state": state.value.replace(" ", "_")}, one.state is state)
        for label, one in of
        for state in MachineState
    ]
    yield Metric("machine_state", "gauge", "1 for the state of a machine, 0 for the others.", states)
    memory = [(label, one.memory * 2**30) for label, one in of if one.memory]
    yield Metric("machine_memory_bytes", "gauge", "Memory of a machine's GPU, or of its processor.", memory)
    free = [(label, one.free * 2**30) for label, one in of if one.free is not None]
    yield Metric("machine_free_memory_bytes", "gauge", "What is free of it.", free)
    steps = [(label, one.seconds_per_step) for label, one in of if one.seconds_per_step is not None]
    yield Metric("machine_step_seconds", "gauge", "Seconds a step, of clips of the kind that it made last.", steps)
    hourly = [(label, one.clips_per_hour) for label, one in of if one.clips_per_hour is not None]
    yield Metric("machine_clips_per_hour", "gauge", "While it works, at that speed.", hourly)


def _lines(metric: Metric) -> Iterator[str]:
    name = _PREFIX + metric.name
    samples = list(metric.samples)
    if samples:
        yield f"# HELP {name} {metric.help}"
        yield f"# TYPE {name} {metric.kind}"
    for labels, value in samples:
        written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{written}}} {float(value)!r}" if written else f"{name} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
