"""HTML for the System tab. Paths, logs and errors may contain user text, so everything is escaped here."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from ovi_studio.checkpoints.background import DownloadPhase, DownloadState
from ovi_studio.checkpoints.disk import format_bytes
from ovi_studio.checkpoints.download import MissingFile
from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.queue.model import EngineInfo, EngineState
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport
from ovi_studio.web.views import format_seconds, notice_html

ModelFiles = tuple[Inventory, Sequence[MissingFile]]
"""The inventory of a variant, and its missing files."""

_MAX_EXPANDED = 8
"""Number of results up to which a topic is expanded; a longer one is collapsed unless it has a problem."""
_STATES = {CheckState.OK: "OK", CheckState.NOTE: "Note", CheckState.PROBLEM: "Problem"}
_COMMAND = re.compile(r"`((?:python|pip) [^`]+)`|(pip install .+)$")
_CONDITIONS = {
    Condition.STARTING: ("Starting", "note"),
    Condition.RUNNING: ("Running", "ok"),
    Condition.WAITING: ("Restarting soon", "note"),
    Condition.DOWN: ("Down", "problem"),
    Condition.STOPPED: ("Stopped", "note"),
}


def engine_html(status: Supervision, engines: Sequence[EngineInfo]) -> str:
    """Render the engine's state, why it is not running, and the last lines of its log."""
    title, kind = _CONDITIONS[status.condition]
    lines = "".join(f"<p>{escape(_engine_line(engine))}</p>" for engine in engines)
    reason = f"<p>{escape(status.reason)}</p>" if status.reason else ""
    words = _log("Last lines of the engine log", "\n".join(status.last_words)) if status.last_words else ""
    return (
        f'<div class="panel" role="status"><p class="condition"><span class="badge {kind}">{escape(title)}</span></p>'
        f"{reason}{lines}{words}</div>"
    )


def models_html(stock: Sequence[ModelFiles], download: DownloadState) -> str:
    """Render the published models with their state, and the running download."""
    note = ""
    if download.phase is DownloadPhase.FAILED:
        note = notice_html(download.reason, f"{download.variant} could not be downloaded")
    return note + "".join(_model(inventory, missing, download) for inventory, missing in stock)


def report_html(report: DoctorReport) -> str:
    """Render the doctor's results by topic, with commands that can be copied."""
    count = len(report.problems)
    found = f"{count} problem{'s' if count > 1 else ''} found" if count else "No problems found"
    by_topic = groupby(report.results, key=lambda result: result.topic)
    groups = "".join(_topic(topic, list(results)) for topic, results in by_topic)
    return f'<p class="found" role="status">{found}.</p>{groups}'


def waiting_html(sentence: str) -> str:
    """Render a sentence with a progress bar while something is being checked."""
    return (
        f'<div class="panel" role="status"><p>{escape(sentence)}</p><div class="bar waiting" role="progressbar" '
        'aria-label="Progress"><i></i></div></div>'
    )


def usage_html(usage: Mapping[str, tuple[int, int]]) -> str:
    """Render usage as bars; maps each name to (used, total) bytes."""
    rows = []
    for name, (used, total) in usage.items():
        percent = round(100 * used / total) if total else 0
        text = f"{format_bytes(total - used)} free of {format_bytes(total)}"
        rows.append(
            f'<div class="usage"><p><span>{escape(name)}</span><span class="left">{text}</span></p>'
            f'<div class="bar" role="meter" aria-label="{escape(name)} in use" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div></div>'
        )
    return f'<div class="panel">{"".join(rows)}</div>'


def places_html(places: Mapping[str, Path]) -> str:
    """Render folders, each with a button that copies its path."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_copyable(str(path))}</dd></div>" for name, path in places.items()
    )
    return f'<dl class="panel places">{rows}</dl>'


def log_html(lines: Sequence[str]) -> str:
    """Render the end of the engine's log."""
    return (
        _log("Engine log", "\n".join(lines))
        if lines
        else '<p class="quiet">The engine has not logged anything yet.</p>'
    )


def _log(title: str, text: str) -> str:
    return f'<pre class="log" tabindex="0" role="region" aria-label="{escape(title)}">{escape(text)}</pre>'


def _engine_line(engine: EngineInfo) -> str:
    loaded = f"{engine.variant} is loaded" if engine.variant else "no model is loaded yet"
    doing = {EngineState.STARTING: "starting", EngineState.IDLE: "waiting for a job", EngineState.WORKING: "working"}
    ending = "; it stops after this step" if engine.stopping else ""
    own = "" if engine.supervised else ", started manually"
    return f"Process {engine.pid}{own}: {doing[engine.state]}, {loaded}{ending}."


def _model(inventory: Inventory, missing: Sequence[MissingFile], download: DownloadState) -> str:
    variant = inventory.variant
    name = escape(variant.name)
    here = download.variant == variant.name
    files = [file for part in variant.files.values() for file in part]
    licences = ", ".join(dict.fromkeys(f"{file.repository} ({file.licence})" for file in files))
    if inventory.complete:
        state, kind = "Complete", "ok"
    elif len(missing) < len(files):
        state, kind = f"Missing {format_bytes(sum(file.source.size for file in missing))}", "note"
    else:
        state, kind = "Not downloaded", "note"
    body = ""
    if here and download.busy:
        state, kind, body = "Downloading", "note", _progress(download)
    elif not inventory.complete:
        word = "Resume the download" if here and download.phase is DownloadPhase.CANCELLED else "Download"
        disabled = " disabled" if download.busy else ""
        body = (
            f'<div class="act"><button type="button" class="plain" data-act="download" data-name="{name}" '
            f'aria-label="{word}: {name}"{disabled}>{word}</button></div>'
        )
    return (
        f'<section class="panel model" data-model="{name}"><div class="top">'
        f'<h3>{escape(variant.title)}</h3><span class="badge {kind}">{escape(state)}</span></div>'
        f"<p>{name}, {format_bytes(sum(file.size for file in files))} in total, partly shared with other models</p>"
        f'<p class="quiet">{escape(licences)}</p>{body}</section>'
    )


def _progress(download: DownloadState) -> str:
    stop = '<button type="button" class="plain" data-act="stop">Cancel</button>'
    if download.cancelling:
        stop = '<button type="button" class="plain" data-act="stop" disabled>Cancelling</button>'
    progress = download.progress
    if progress is None:
        line, bar = (
            "Getting file sizes from the hub",
            '<div class="bar waiting" role="progressbar" aria-label="Progress"><i></i></div>',
        )
    else:
        percent = int(100 * progress.done / progress.total) if progress.total else 100
        left = (progress.total - progress.done) / progress.speed if progress.speed else None
        time = f", {format_seconds(left)} left" if left is not None else ""
        amount = f"{format_bytes(progress.done)} of {format_bytes(progress.total)}"
        line = f"{amount}, {format_bytes(int(progress.speed))}/s{time}"
        bar = (
            '<div class="bar" role="progressbar" aria-label="Download" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        )
        line += f"<br>{escape(progress.file)}" if progress.file else ""
    return f'<div class="progress"><p>{line}</p>{bar}<div class="act">{stop}</div></div>'


def _topic(topic: str, results: Sequence[CheckResult]) -> str:
    items = f'<ul class="findings">{"".join(map(_result, results))}</ul>'
    if len(results) <= _MAX_EXPANDED:
        return f'<section class="panel"><h3>{escape(topic)}</h3>{items}</section>'
    wide = " open" if any(result.state is CheckState.PROBLEM for result in results) else ""
    summary = f"<summary>{escape(topic)}: {len(results)} results</summary>"
    return f'<details class="panel"{wide}>{summary}{items}</details>'


def _result(result: CheckResult) -> str:
    return (
        f'<li><span class="badge {result.state}">{_STATES[result.state]}</span><div><p>{escape(result.text)}</p>'
        f"{_advice(result.advice)}</div></li>"
    )


def _advice(advice: str) -> str:
    if not advice:
        return ""
    command = _COMMAND.search(advice)
    if command is None:
        return f'<p class="quiet">{escape(advice)}</p>'
    around = f"{advice[: command.start()]}{advice[command.end() :]}".strip(" :")
    text = f'<p class="quiet">{escape(around)}</p>' if around else ""
    return f"{text}{_copyable(command[1] or command[2])}"


def _copyable(text: str) -> str:
    return (
        f'<span class="copyable"><code>{escape(text)}</code>'
        f'<button type="button" class="plain" data-act="copy" aria-label="Copy: {escape(text)}">Copy</button></span>'
    )
