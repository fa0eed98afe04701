"""What the stage of the Create tab shows, without a browser."""

import re
from pathlib import Path
from typing import Any

import pytest

from ovi_studio.core.grids import Grid
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.model import ClipPhase, Job, JobProgress, JobState
from ovi_studio.web.player import player_head
from ovi_studio.web.tabs.create.stage import views
from ovi_studio.web.tabs.create.stage.grid_views import grid_html

SPEC = ClipSpec(prompt="A man says, <S>Hello.<E> <AUDCAP>wind<ENDAUDCAP>", variant="demo", seed=5)


def job(number: int, state: JobState, **more: Any) -> Job:
    values: dict[str, Any] = {"id": f"job{number}", "number": number, "batch": 1, "batch_name": "b", "priority": 0}
    values |= {"position": number, "spec": SPEC, "attempt": 1, "cancelling": False, "owner": None, "progress": None}
    values |= {"error": None, "note": None, "clip": None, "created": 0, "started": None, "finished": None}
    return Job(**values | {"seconds": None, "state": state} | more)


def running(number: int, step: int, **more: Any) -> Job:
    progress = JobProgress(ClipPhase.DENOISING, step, 50, 2.0, 70.0)
    return job(number, JobState.RUNNING, progress=progress, **more)


def test_every_running_job_has_its_own_progress_and_its_own_cancel() -> None:
    shown = views.status_html([running(3, 14), running(4, 2)], None, 5, False, True)
    assert re.findall(r'data-act="cancel" data-id="(\w+)"', shown) == ["job3", "job4"]
    assert "Step 14 of 50" in shown
    assert "Step 2 of 50" in shown
    assert "about 1 min 10 s left" in shown
    strip = views.filmstrip_html([running(3, 14), running(4, 2)], [], frozenset(), 5)
    assert re.findall(r'data-act="cancel" data-id="(\w+)"', strip) == ["job3", "job4"]
    assert "5 clips waiting" in strip


def test_a_job_that_is_being_cancelled_cannot_be_cancelled_again() -> None:
    assert re.search(
        r'data-act="cancel"[^>]*disabled', views.status_html([running(3, 1, cancelling=True)], None, 0, False, True)
    )
    assert "disabled" not in views.status_html([running(3, 1)], None, 0, False, True)


def test_progress_is_spoken_by_quarters_and_not_by_steps() -> None:
    def spoken(step: int) -> str:
        found = re.search(r'role="status">([^<]*)', views.status_html([running(3, step)], None, 0, False, True))
        assert found is not None
        return found[1]

    said = list(dict.fromkeys(spoken(step) for step in range(1, 50)))
    assert said == [f"Clip 3: {percent} percent" for percent in (0, 25, 50, 75)]


def test_the_model_s_tags_are_not_shown_where_a_prompt_is_only_a_title() -> None:
    shown = views.status_html([running(3, 1)], None, 0, False, True)
    shown += views.filmstrip_html([running(3, 1)], [job(2, JobState.DONE, clip=Path("a.mp4"))], frozenset(), 0)
    assert "A man says, “Hello.” ♪ wind" in shown
    assert "AUDCAP" not in shown
    assert "&lt;S&gt;" not in shown


def test_a_failure_is_shown_also_if_there_is_a_clip_and_its_path_is_not() -> None:
    failed = job(4, JobState.FAILED, error="It did not fit; choose a smaller one.")
    shown = views.status_html([], failed, 0, False, True)
    assert "Clip 4 could not be made" in shown
    assert "It did not fit; choose a smaller one." in shown
    assert views.status_html([], job(4, JobState.DONE), 0, False, True) == ""
    assert "Your clip appears here" in views.status_html([], None, 0, False, False)
    assert "resume it in the Queue tab" in views.status_html([], None, 2, True, False)


def test_clips_of_a_grid_lead_to_it() -> None:
    clip = job(2, JobState.DONE, clip=Path("a.mp4"))
    assert 'data-act="grid"' in views.result_bar_html(clip, False, True)
    assert 'data-act="grid"' not in views.result_bar_html(clip, False, False)
    assert 'data-grid="1"' in views.filmstrip_html([], [clip], frozenset([1]), 0)


@pytest.mark.parametrize(("favourite", "pressed"), [(True, "true"), (False, "false")])
def test_the_buttons_say_whether_the_clip_is_a_favourite(favourite: bool, pressed: str) -> None:
    shown = views.result_bar_html(job(2, JobState.DONE), favourite, False)
    assert re.search(rf'data-act="favourite"[^>]*aria-pressed="{pressed}"', shown)
    assert 'data-act="favourite"' not in views.result_bar_html(job(2, JobState.DONE), None, False)


def test_a_grid_is_a_table_of_its_cells_in_their_states(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clip.touch()
    jobs = {
        0: job(1, JobState.DONE, clip=clip),
        1: running(2, 7),
        2: job(3, JobState.QUEUED),
        3: job(4, JobState.DONE, clip=tmp_path / "deleted.mp4"),
        4: job(5, JobState.FAILED, error="no"),
    }
    shown = grid_html(Grid("Seed", ("1", "2", "3"), "Steps", ("10", "20")), jobs, "A grid")
    rows = shown.split("<tr>")[2:]
    assert [row.count("<td>") for row in rows] == [3, 3]
    assert re.findall(r'<th scope="row">(\d+)', shown) == ["10", "20"]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", shown)]
    assert cells == ["", "Step 7 of 50", "Waiting", "No clip", "Failed", "No clip"]
    assert 'aria-label="Clip 1: Seed 1, Steps 10"' in shown
    assert "2 of 6 made" in shown


def test_what_people_typed_is_shown_in_a_grid_as_text() -> None:
    hostile = '"><img src=x onerror=alert(1)>'
    shown = grid_html(Grid(hostile, (hostile,), hostile, (hostile,)), {0: running(1, 2)}, hostile)
    assert "<img" not in shown
    assert shown.count("&quot;&gt;&lt;img") >= 5


def test_the_player_is_one_script_that_no_text_can_leave() -> None:
    head = player_head()
    assert head.count("<script>") == head.count("</script>") == 1
    assert head.endswith("</script>")
    for name in ("ovi-player", "ovi-compare"):
        assert f'customElements.define("{name}"' in head
