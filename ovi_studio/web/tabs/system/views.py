"""What the System tab shows, as HTML. Paths, logs and errors hold what people typed, so everything is escaped here."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from ovi_studio.checkpoints.background import DownloadPhase, DownloadState
from ovi_studio.checkpoints.download import MissingFile, format_bytes
from ovi_studio.checkpoints.layout import Inventory
from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.queue.model import EngineInfo, EngineState
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport
from ovi_studio.web.views import format_seconds, notice_html

Stock = tuple[Inventory, Sequence[MissingFile]]
"""What of a variant is here, and the files that are not."""

_LONG = 8
"""Findings of a topic; more are folded unless one is a problem."""
_STATES = {CheckState.OK: "Fine", CheckState.NOTE: "Note", CheckState.PROBLEM: "Problem"}
_COMMAND = re.compile(r"`((?:python|pip) [^`]+)`|(pip install .+)$")
_CONDITIONS = {
    Condition.STARTING: ("Starting", "note"),
    Condition.RUNNING: ("Running", "ok"),
    Condition.WAITING: ("Starting again soon", "note"),
    Condition.DOWN: ("Down", "problem"),
    Condition.STOPPED: ("Stopped", "note"),
}


def engine_html(status: Supervision, engines: Sequence[EngineInfo]) -> str:
    """How it is about the engine, why it is not running, and its last words."""
    title, kind = _CONDITIONS[status.condition]
    lines = "".join(f"<p>{escape(_engine_line(engine))}</p>" for engine in engines)
    reason = f"<p>{escape(status.reason)}</p>" if status.reason else ""
    words = _log("What it said last", "\n".join(status.last_words)) if status.last_words else ""
    return (
        f'<div class="panel" role="status"><p class="condition"><span class="badge {kind}">{escape(title)}</span></p>'
        f"{reason}{lines}{words}</div>"
    )


def models_html(stock: Sequence[Stock], download: DownloadState) -> str:
    """The published models: what they need, what is here, and the download that is going on."""
    note = ""
    if download.phase is DownloadPhase.FAILED:
        note = notice_html(download.reason, f"{download.variant} could not be downloaded")
    return note + "".join(_model(inventory, missing, download) for inventory, missing in stock)


def report_html(report: DoctorReport) -> str:
    """The doctor's findings under their topics, with commands that can be copied."""
    count = len(report.problems)
    found = f"{count} problem{'s' if count > 1 else ''} found" if count else "No problem found"
    by_topic = groupby(report.results, key=lambda finding: finding.topic)
    groups = "".join(_topic(topic, list(findings)) for topic, findings in by_topic)
    return f'<p class="found" role="status">{found}.</p>{groups}'


def waiting_html(sentence: str) -> str:
    """Something is being looked at."""
    return (
        f'<div class="panel" role="status"><p>{escape(sentence)}</p><div class="bar waiting" role="progressbar" '
        'aria-label="Progress"><i></i></div></div>'
    )


def usage_html(usage: Mapping[str, tuple[int, int]]) -> str:
    """Name -> bytes that are used and all there are, as bars."""
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
    """Where things lie; each can be copied."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{_copyable(str(path))}</dd></div>" for name, path in places.items()
    )
    return f'<dl class="panel places">{rows}</dl>'


def log_html(lines: Sequence[str]) -> str:
    """The end of the engine's log."""
    return (
        _log("Engine log", "\n".join(lines)) if lines else '<p class="quiet">The engine has not written anything.</p>'
    )


def _log(title: str, text: str) -> str:
    return f'<pre class="log" tabindex="0" role="region" aria-label="{escape(title)}">{escape(text)}</pre>'


def _engine_line(engine: EngineInfo) -> str:
    loaded = f"{engine.variant} is loaded" if engine.variant else "no model is loaded yet"
    doing = {EngineState.STARTING: "starting", EngineState.IDLE: "waiting for a job", EngineState.WORKING: "at work"}
    ending = "; it ends after this step" if engine.stopping else ""
    own = "" if engine.supervised else ", started by hand"
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
        state, kind = f"Lacks {format_bytes(sum(file.source.size for file in missing))}", "note"
    else:
        state, kind = "Not here", "note"
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
        f"<p>{name}, {format_bytes(sum(file.size for file in files))} in all, some of it shared</p>"
        f'<p class="quiet">{escape(licences)}</p>{body}</section>'
    )


def _progress(download: DownloadState) -> str:
    stop = '<button type="button" class="plain" data-act="stop">Cancel</button>'
    if download.cancelling:
        stop = '<button type="button" class="plain" data-act="stop" disabled>Cancelling</button>'
    progress = download.progress
    if progress is None:
        line, bar = (
            "Asking the hub for sizes",
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


def _topic(topic: str, findings: Sequence[CheckResult]) -> str:
    items = f'<ul class="findings">{"".join(map(_finding, findings))}</ul>'
    if len(findings) <= _LONG:
        return f'<section class="panel"><h3>{escape(topic)}</h3>{items}</section>'
    wide = " open" if any(finding.state is CheckState.PROBLEM for finding in findings) else ""
    summary = f"<summary>{escape(topic)}: {len(findings)} findings</summary>"
    return f'<details class="panel"{wide}>{summary}{items}</details>'


def _finding(finding: CheckResult) -> str:
    return (
        f'<li><span class="badge {finding.state}">{_STATES[finding.state]}</span><div><p>{escape(finding.text)}</p>'
        f"{_advice(finding.advice)}</div></li>"
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
