"""The page's services and HTML views, without a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import Request, SeedMode
from ovi_studio.core.sizes import snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import published_variants
from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.queue.estimates import QueueEstimate
from ovi_studio.queue.model import Job, JobState, Notice
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.header import views as header_views
from ovi_studio.web.tabs.create import views as form_views
from ovi_studio.web.tabs.create.stage import views as stage_views
from ovi_studio.web.tabs.create.tab import split_prompt
from ovi_studio.web.tabs.queue import views as queue_views


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    yield studio
    studio.close()


@pytest.mark.parametrize("name", published_variants())
def test_the_default_size_is_among_the_sizes_and_scaling_is_idempotent(name: str, studio: Studio) -> None:
    variant = published_variants()[name]
    sizes = studio.sizes(name)
    assert sizes[studio.default_ratio(name)] == variant.default_size
    assert all(snap_size(*size, variant.pixel_area) == size for size in sizes.values())
    assert all(studio.ratio_of(size, name) == ratio for ratio, size in sizes.items())


def test_with_only_the_demo_model_the_download_command_is_offered(studio: Studio) -> None:
    assert [variant.name for variant in studio.variants()] == ["demo"]
    command = f"python -m ovi_studio download 960x960_5s --ckpt-dir {studio.checkpoint_directory}"
    assert studio.download_command() == command


def test_a_request_becomes_clips(studio: Studio) -> None:
    values = {"prompt": "a {b|c}", "variant": "demo", "seed": "7"}
    specs = studio.expand(Request(values, "1:1", SeedMode.NEXT, 2)).specs
    assert [(spec.prompt, spec.seed) for spec in specs] == [("a b", 7), ("a b", 8), ("a c", 7), ("a c", 8)]
    assert len({spec.seed for spec in studio.expand(Request(values, count=5)).specs}) == 5
    with pytest.raises(JobError, match="Unknown aspect ratio '5:4'"):
        studio.expand(Request(values, "5:4"))
    with pytest.raises(JobError, match="seed must be between"):
        studio.expand(Request(values | {"seed": "-2"}, "1:1", SeedMode.FIXED))
    with pytest.raises(JobError, match="is not complete"):
        studio.queue([ClipSpec(prompt="a", variant="960x960_5s")])


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ("a dog <AUDCAP>barks<ENDAUDCAP>", ("a dog", "barks")),
        ("a dog Audio: barks", ("a dog", "barks")),
        ("a  dog\n<AUDCAP> barks <ENDAUDCAP>", ("a  dog\n<AUDCAP> barks <ENDAUDCAP>", "")),
        ("<AUDCAP>barks<ENDAUDCAP> a dog", ("<AUDCAP>barks<ENDAUDCAP> a dog", "")),
        ("a dog", ("a dog", "")),
    ],
)
def test_a_prompt_is_split_only_if_it_can_be_joined_again(prompt: str, fields: tuple[str, str]) -> None:
    assert split_prompt(prompt) == fields


def test_user_text_and_errors_are_escaped(tmp_path: Path) -> None:
    spec = ClipSpec(prompt="<tb>", variant="<tv>")
    values = {"id": "1", "number": 1, "batch": 1, "batch_name": "<ti>", "priority": 0, "position": 1, "spec": spec}
    values |= {"attempt": 1, "cancelling": False, "owner": None, "progress": None, "clip": None, "note": "<to>"}
    values |= {"created": 0, "started": None, "finished": None, "seconds": 1}
    failed = Job(**values, state=JobState.FAILED, error="<ts>")
    done = Job(**values | {"clip": tmp_path / "<tu>.mp4"}, state=JobState.DONE, error=None)
    shown = queue_views.row_html(failed) + queue_views.row_html(done) + stage_views.recipe_html(done, None)
    shown += stage_views.status_html([failed], None, 0, False, False) + stage_views.result_bar_html(done, True, True)
    shown += stage_views.status_html([], failed, 0, False, False)
    shown += stage_views.filmstrip_html([failed], [done], frozenset([1]), 0)
    shown += views.demo_html("<tq>") + header_views.notices_html([Notice(1, "<tp1>", 0)])
    down = Supervision(Condition.DOWN, "<tr>", ("<tw>",))
    shown += header_views.engine_html(down, [], [], 1, QueueEstimate(1, 0), True) + header_views.trouble_html(down)
    shown += form_views.makes_html(["<tm>", "<tn>"], 1, None) + form_views.queued_html(1, "<tx>", ["<ty>"])
    shown += form_views.picture_notes_html(["<tz>"])
    for tag in (
        "<tb>",
        "<ti>",
        "<tu>",
        "<ts>",
        "<tp1>",
        "<tq>",
        "<tv>",
        "<tr>",
        "<tw>",
        "<tm>",
        "<tn>",
        "<tx>",
        "<ty>",
        "<tz>",
        "<to>",
    ):
        assert tag not in shown
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in shown


@pytest.mark.parametrize(
    ("cache", "text"), [("off", "50, UniPC, shift 5"), ("fast", "50, UniPC, shift 5, step cache Fast")]
)
def test_a_clip_that_left_out_passes_says_so(cache: str, text: str) -> None:
    assert views.format_sampling(ClipSpec(prompt="a", variant="demo", step_cache=cache)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min"), (80, "1 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert views.format_seconds(seconds) == text
