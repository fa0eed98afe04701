"""What the rows of the queue say."""

import re
from dataclasses import replace

import pytest

from ovi_studio.core.improvement import Improvement
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library import LibraryClip
from ovi_studio.queue.model import ClipToImprove, Dependency, EngineInfo, EngineState, Job, JobBatch, JobState
from ovi_studio.web.header.views import batch_news
from ovi_studio.web.tabs.library.views import wall_html
from ovi_studio.web.tabs.queue.views import row_html, table_value

JOB = Job(
    id="1", number=1, batch=3, batch_name="", state=JobState.QUEUED, priority=0, position=1.0,
    spec=ClipSpec(prompt="x", variant="demo"), attempt=0, cancelling=False, owner=None, progress=None, error=None,
    note=None, clip=None, created=0.0, started=None, finished=None, seconds=None,
)  # fmt: skip
FIRST = "A fisherman in a yellow coat looks out over a misty harbour at dawn, and a red boat comes in."


def row(prompt: str, name: str = FIRST, **values: object) -> str:
    return row_html(replace(JOB, spec=replace(JOB.spec, prompt=prompt), batch_name=name, **values))


def test_the_row_of_a_pattern_shows_the_words_that_are_its_own() -> None:
    shown = row(FIRST.replace("red", "dark <blue>"))
    assert "<mark>dark &lt;blue&gt;</mark> boat comes in." in shown
    assert "… " in shown
    assert "A fisherman in" not in shown.split('class="facts"')[0]


def test_words_that_are_in_sight_anyway_leave_the_prompt_whole() -> None:
    shown = row(FIRST.replace("yellow", "green"))
    assert "A fisherman in a <mark>green</mark> coat" in shown


@pytest.mark.parametrize("batch", [FIRST, "evening", "A", "x" * 200])
def test_a_row_that_is_no_variation_shows_its_prompt_from_the_start(batch: str) -> None:
    shown = row(FIRST, batch)
    assert f"<b>1</b>{FIRST}</p>" in shown
    assert "<mark>" not in shown


def test_a_prompt_that_goes_on_after_the_name_of_its_batch_is_shown_whole() -> None:
    prompt = "word " * 100
    assert "<mark>" not in row(prompt, prompt[:200])


def test_the_rows_of_a_batch_have_its_colour() -> None:
    assert "of batch-3" in row("another", "evening")
    assert "of batch-4" in row("another", "evening", batch=12)


def test_a_row_says_what_its_job_waits_for_and_what_blocks_it() -> None:
    waiting = row_html(replace(JOB, dependency=Dependency(7, False, "Waits for the last frame of job 7.")))
    assert ">Waiting</span>" in waiting
    assert "Waits for the last frame of job 7." in waiting
    blocked = row_html(replace(JOB, dependency=Dependency(7, True, "Blocked: retry job 7.")))
    assert ">Blocked</span>" in blocked
    assert "retry job 7" in blocked


def test_a_row_says_what_its_job_does_to_a_clip() -> None:
    shown = row(FIRST, improves=ClipToImprove(Improvement("film <x>", 48), 100, None))
    assert "improves a clip · film &lt;x&gt;, 48 frames a second" in shown
    assert "steps" not in shown
    assert 'data-action="edit"' in row(FIRST)
    assert 'data-action="edit"' not in shown


def engines(*owners: str) -> list[EngineInfo]:
    return [EngineInfo(owner, 1, True, EngineState.IDLE, True, None, False) for owner in owners]


@pytest.mark.parametrize(
    ("made_by", "running", "name"),
    [
        ("engine1-abcd", ["engine-a", "engine1-abcd"], "Engine 2"),
        ("engine1-abcd", ["engine-a", "engine1-abcd", "farm-b", "farm.rig-c"], "Engine 2"),
        ("engine-old", ["engine-a", "farm-b", "farm.rig-c"], "This machine"),
        ("farm.rig.2-old", ["engine-a", "farm-b", "farm.rig-c"], "rig.2"),
        ("farm.rig-old", ["engine-a"], "rig"),
        ("engine-a", ["engine-a"], ""),
        ("engine-a", ["engine-a", "farm-b"], ""),
        (None, ["engine-a", "engine1-b", "farm.rig-c"], ""),
    ],
)
def test_a_row_names_the_engine_or_machine_of_its_job_where_there_are_several(made_by, running, name) -> None:
    for state in (JobState.RUNNING, JobState.DONE, JobState.FAILED):
        shown = row_html(replace(JOB, state=state, made_by=made_by), engines(*running))
        facts = re.findall(r"<span>(demo · .*?)</span>", shown)[0].split(" · ")
        assert facts[3:] == ([name] if name else [])


def test_an_empty_list_says_what_to_do() -> None:
    assert "Create tab" in table_value([], 0, 0)["empty"]
    assert "No job matches" in table_value([], 0, 0, filtered=True)["empty"]
    assert table_value([JOB], 1, 0)["empty"] == ""


def test_lists_show_prompts_without_the_models_tags() -> None:
    tagged, plain = "A man says, <S>Hello.<E> <AUDCAP>wind<ENDAUDCAP>", "A man says, “Hello.” ♪ wind"
    clip = LibraryClip("0" * 32, "x.mp4", replace(JOB.spec, prompt=tagged), (96, 96), 3.0, 0.0, None, False)
    batch = JobBatch(1, tagged, 1.0, dict.fromkeys(JobState, 0) | {JobState.DONE: 1})
    for shown in (row(tagged), row(tagged, tagged), wall_html([clip], ()), batch_news([batch])):
        assert plain in shown
        assert "AUDCAP" not in shown
