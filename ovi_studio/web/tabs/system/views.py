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
from ovi_studio.engine.slot import EngineSlot
from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.queue.model import EngineInfo
from ovi_studio.services.doctor import CheckResult, CheckState, DoctorReport
from ovi_studio.web import texts as common
from ovi_studio.web.tabs.system import texts
from ovi_studio.web.views import notice_html

ModelFiles = tuple[Inventory, Sequence[MissingFile]]
"""The inventory of a variant, and its missing files."""

_MAX_EXPANDED = 8
"""Number of results up to which a topic is expanded; a longer one is collapsed unless it has a problem."""
_COMMAND = re.compile(r"`((?:python|pip) [^`]+)`|(pip install .+)$")
_KINDS = {Condition.RUNNING: "ok", Condition.DOWN: "problem"}


def engine_html(status: Supervision, engines: Sequence[EngineInfo]) -> str:
    """Render the engine's state, why it is not running, and the last lines of its log."""
    title, kind = texts.CONDITIONS[status.condition], _KINDS.get(status.condition, "note")
    slots = [(engine, EngineSlot.of(engine.owner)) for engine in engines]
    lines = "".join(
        f"<p>{escape(texts.engine_line(engine, leads=not slot.makes_clips))}</p>"
        for engine, slot in slots
        if not slot.elsewhere
    )
    reason = f"<p>{escape(status.reason)}</p>" if status.reason else ""
    words = _log(texts.LAST_LINES, "\n".join(status.last_words)) if status.last_words else ""
    return (
        f'<div class="panel" role="status"><p class="condition"><span class="badge {kind}">{escape(title)}</span></p>'
        f"{reason}{lines}{words}</div>"
    )


def models_html(stock: Sequence[ModelFiles], download: DownloadState) -> str:
    """Render the published models with their state, and the running download."""
    note = ""
    if download.phase is DownloadPhase.FAILED:
        note = notice_html(download.reason, texts.not_downloaded(download.variant))
    return note + "".join(_model(inventory, missing, download) for inventory, missing in stock)


def report_html(report: DoctorReport) -> str:
    """Render the doctor's results by topic, with commands that can be copied."""
    by_topic = groupby(report.results, key=lambda result: result.topic)
    groups = "".join(_topic(topic, list(results)) for topic, results in by_topic)
    return f'<p class="found" role="status">{texts.found(len(report.problems))}</p>{groups}'


def waiting_html(sentence: str) -> str:
    """Render a sentence with a progress bar while something is being checked."""
    return (
        f'<div class="panel" role="status"><p>{escape(sentence)}</p><div class="bar waiting" role="progressbar" '
        f'aria-label="{common.PROGRESS}"><i></i></div></div>'
    )


def usage_html(usage: Mapping[str, tuple[int, int]]) -> str:
    """Render usage as bars; maps each name to (used, total) bytes."""
    rows = []
    for name, (used, total) in usage.items():
        percent = round(100 * used / total) if total else 0
        text = texts.free(format_bytes(total - used), format_bytes(total))
        rows.append(
            f'<div class="usage"><p><span>{escape(name)}</span><span class="left">{text}</span></p>'
            f'<div class="bar" role="meter" aria-label="{escape(texts.in_use(name))}" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div></div>'
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
    return _log(texts.LOG, "\n".join(lines)) if lines else f'<p class="quiet">{texts.NO_LOG}</p>'


def _log(title: str, text: str) -> str:
    return f'<pre class="log" tabindex="0" role="region" aria-label="{escape(title)}">{escape(text)}</pre>'


def _model(inventory: Inventory, missing: Sequence[MissingFile], download: DownloadState) -> str:
    variant = inventory.variant
    name = escape(variant.name)
    here = download.variant == variant.name
    files = [file for part in variant.files.values() for file in part]
    licences = ", ".join(dict.fromkeys(f"{file.repository} ({file.licence})" for file in files))
    if inventory.complete:
        state, kind = texts.COMPLETE, "ok"
    elif len(missing) < len(files):
        state, kind = texts.missing(format_bytes(sum(file.source.size for file in missing))), "note"
    else:
        state, kind = texts.NOT_DOWNLOADED, "note"
    body = ""
    if here and download.busy:
        state, kind, body = texts.DOWNLOADING, "note", _progress(download)
    elif not inventory.complete:
        word = texts.download_word(download.phase, here)
        disabled = " disabled" if download.busy else ""
        body = (
            f'<div class="act"><button type="button" class="plain" data-act="download" data-name="{name}" '
            f'aria-label="{word}: {name}"{disabled}>{word}</button></div>'
        )
    return (
        f'<section class="panel model" data-model="{name}"><div class="top">'
        f'<h3>{escape(variant.title)}</h3><span class="badge {kind}">{escape(state)}</span></div>'
        f"<p>{texts.model_size(name, format_bytes(sum(file.size for file in files)))}</p>"
        f'<p class="quiet">{escape(licences)}</p>{body}</section>'
    )


def _progress(download: DownloadState) -> str:
    word, disabled = (texts.CANCELLING, " disabled") if download.cancelling else (texts.CANCEL, "")
    stop = f'<button type="button" class="plain" data-act="stop"{disabled}>{word}</button>'
    progress = download.progress
    if progress is None:
        line, bar = (
            texts.GETTING_SIZES,
            f'<div class="bar waiting" role="progressbar" aria-label="{common.PROGRESS}"><i></i></div>',
        )
    else:
        percent = int(100 * progress.done / progress.total) if progress.total else 100
        left = (progress.total - progress.done) / progress.speed if progress.speed else None
        done, total, speed = map(format_bytes, (progress.done, progress.total, int(progress.speed)))
        line = texts.downloaded(done, total, speed, left)
        bar = (
            f'<div class="bar" role="progressbar" aria-label="{texts.DOWNLOADING}" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{percent}"><i style="width:{percent}%"></i></div>'
        )
        line += f"<br>{escape(progress.file)}" if progress.file else ""
    return f'<div class="progress"><p>{line}</p>{bar}<div class="act">{stop}</div></div>'


def _topic(topic: str, results: Sequence[CheckResult]) -> str:
    items = f'<ul class="findings">{"".join(map(_result, results))}</ul>'
    if len(results) <= _MAX_EXPANDED:
        return f'<section class="panel"><h3>{escape(topic)}</h3>{items}</section>'
    wide = " open" if any(result.state is CheckState.PROBLEM for result in results) else ""
    summary = f"<summary>{escape(texts.results(topic, len(results)))}</summary>"
    return f'<details class="panel"{wide}>{summary}{items}</details>'


def _result(result: CheckResult) -> str:
    return (
        f'<li><span class="badge {result.state}">{texts.CHECK_STATES[result.state]}</span>'
        f"<div><p>{escape(result.text)}</p>{_advice(result.advice)}</div></li>"
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
        f'<button type="button" class="plain" data-act="copy" data-copied="{texts.COPIED}" '
        f'data-by-hand="{texts.COPY_BY_HAND}" aria-label="{texts.COPY}: {escape(text)}">{texts.COPY}</button></span>'
    )
