"""HTML for a grid of clips. All text from users is escaped here."""

from collections.abc import Mapping
from html import escape

from ovi_studio.core.grids import Grid
from ovi_studio.queue.model import Job, JobState
from ovi_studio.web import texts as common
from ovi_studio.web.job_views import bar, progress_words
from ovi_studio.web.media_routes import job_picture_url
from ovi_studio.web.tabs.create.stage import texts
from ovi_studio.web.views import shorten


def grid_html(grid: Grid, jobs: Mapping[int, Job], name: str) -> str:
    """Render a grid as a table; a finished clip is a button that puts it on the stage.

    Args:
        jobs: by the number of their cell.
        name: of the batch.
    """
    corner = f"{escape(grid.row_title)} ↓ " if grid.row_title else ""
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in grid.columns)
    rows = "".join(_row(grid, jobs, number, label) for number, label in enumerate(grid.rows))
    done = sum(job.state is JobState.DONE for job in jobs.values())
    return (
        f'<div class="grid"><div class="grid-head"><p><strong>{escape(shorten(name, 80))}</strong>'
        f'<span>{texts.grid_progress(done, grid.cells)}</span></p><button type="button" data-act="close-grid">'
        f'{texts.CLOSE_GRID}</button></div><div class="grid-scroll" tabindex="0" role="region" '
        f'aria-label="{texts.GRID}"><table><thead><tr><th>{corner}{escape(grid.title)} →</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def gone_html(reason: str) -> str:
    """Render why there is no grid to show."""
    return (
        f'<div class="grid"><div class="grid-head"><p>{escape(reason)}</p><button type="button" data-act="close-grid">'
        f"{texts.CLOSE_GRID}</button></div></div>"
    )


def _row(grid: Grid, jobs: Mapping[int, Job], row: int, label: str) -> str:
    first = row * len(grid.columns)
    cells = "".join(
        f"<td>{_cell(jobs.get(first + column), _name(grid, label, columns))}</td>"
        for column, columns in enumerate(grid.columns)
    )
    return f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>'


def _name(grid: Grid, row: str, column: str) -> str:
    name = f"{grid.title} {column}"
    return f"{name}, {grid.row_title} {row}" if grid.row_title else name


def _cell(job: Job | None, name: str) -> str:
    if job is None:
        return f'<span class="none">{texts.NO_CELL}</span>'
    if job.state is JobState.DONE and job.clip is not None and job.clip.is_file():
        return (
            f'<button type="button" class="frame" data-show="{escape(job.id)}" data-state="done" '
            f'data-number="{job.number}" data-seed="{job.spec.seed}" '
            f'aria-label="{common.clip(job.number)}: {escape(name)}">'
            f'<img src="{escape(job_picture_url(job) or "")}" alt="" loading="lazy" decoding="async"></button>'
        )
    if job.state is JobState.RUNNING:
        state, _, fraction = progress_words(job)
        return f'<span class="now">{escape(state)}{bar(fraction, common.progress_of(job.number))}</span>'
    words = texts.NO_CELL if job.state is JobState.DONE else common.STATES[job.state]
    return f'<span class="none">{words}</span>'
