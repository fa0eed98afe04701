"""The page's services and HTML views, without a browser."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest

from ovi_studio.checkpoints.background import DownloadState
from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.requests import Request, SeedMode
from ovi_studio.core.sizes import snap_size
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import published_variants
from ovi_studio.engine.supervisor import Condition, Supervision
from ovi_studio.queue.model import Job, JobState, Notice
from ovi_studio.queue.schedule import QueueEstimate
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services import model_offer
from ovi_studio.services.studio import Studio
from ovi_studio.web import views
from ovi_studio.web.header import views as header_views
from ovi_studio.web.tabs.create import texts
from ovi_studio.web.tabs.create import views as form_views
from ovi_studio.web.tabs.create.first_clip import first_clip_html
from ovi_studio.web.tabs.create.frame_examples import frame_examples_html
from ovi_studio.web.tabs.create.handlers import CreateHandlers
from ovi_studio.web.tabs.create.options import ratio_options
from ovi_studio.web.tabs.create.stage import views as stage_views
from ovi_studio.web.tabs.create.tab import build_form
from ovi_studio.web.tabs.create.written import write_prompt, written_text
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


def test_the_form_offers_each_size_once_by_the_ratio_that_is_nearest_to_it(studio: Studio) -> None:
    demo = studio.variant("demo")
    assert studio.sizes("demo")["4:3"] == studio.sizes("demo")["1:1"]  # API and tables take every ratio
    options = ratio_options(studio, demo, "4:3")
    offered = [name for _, name in options["choices"]]
    assert {"1:1", "16:9", "21:9"} <= set(offered)
    assert not {"4:3", "3:4"} & set(offered)
    assert options["value"] == "1:1"


def test_with_only_the_demo_model_the_download_command_is_offered(studio: Studio) -> None:
    assert [variant.name for variant in studio.variants()] == ["demo"]
    offer = studio.model_offer()
    assert offer is not None
    shown = first_clip_html(offer, DownloadState(), new=True)
    assert f'data-fetch="{offer.variant.name}"' in shown
    assert "Download 38.7 GB" in shown
    assert "Licences: Apache-2.0, CC-BY-NC-4.0" in shown
    assert "data-example" not in first_clip_html(offer, DownloadState(), new=False)


@pytest.mark.parametrize(
    ("memory", "suggested", "possible"), [(24, "960x960_5s", True), (0, "960x960_5s", False), (4, "960x960_5s", False)]
)
def test_the_download_says_whether_this_machine_can_run_the_model(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, memory: int, suggested: str, possible: bool
) -> None:
    gpus = {"GPU 0: X": (0, memory * 2**30)} if memory else {}
    monkeypatch.setattr(model_offer, "gpu_memory", lambda: gpus)
    monkeypatch.setattr(model_offer, "host_memory", lambda: SimpleNamespace(total=64 * 2**30))
    model_offer.known_gpus.cache_clear()
    offer = studio.model_offer()
    model_offer.known_gpus.cache_clear()
    assert offer is not None
    assert (offer.variant.name, offer.possible) == (suggested, possible)
    assert ("needs a GPU" in offer.how) is not possible


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
def test_a_prompt_is_written_into_fields_only_if_they_give_it_back(prompt: str, fields: tuple[str, str]) -> None:
    scene, cues, sound = write_prompt(prompt)
    assert (scene, sound) == fields
    assert prompt in [written_text(scene, cues, sound, tag) for tag in AudioTag]


def test_a_text_that_is_edited_raw_is_not_changed_by_what_the_hidden_fields_hold() -> None:
    raw = {"raw": True, "cues": [{"said": "x"}]}
    assert written_text("He says, <S>Hi", raw, "wind", AudioTag.AUDIO) == "He says, <S>Hi"


@pytest.mark.slow
def test_raw_text_and_fields_turn_into_each_other_and_back(studio: Studio) -> None:
    with gr.Blocks():
        form, _ = build_form(studio)
    handlers = CreateHandlers(studio, form)
    # Parts that a text alone would not give back: half a sentence before a speech.
    parts = ("A pier", {"raw": False, "cues": [{"who": "He says", "said": "Hi. ", "mark": ":"}]}, "wind")
    *raw, notice = handlers.toggle_raw(*parts, "demo")
    assert (raw[0], raw[2], notice) == ("A pier He says: <S>Hi.<E> <AUDCAP>wind<ENDAUDCAP>", "", "")
    assert tuple(handlers.toggle_raw(*raw, "demo")) == (*parts, "")
    # Changed as text, it is taken apart; if that would change it, it stays as it is.
    scene, cues, sound, notice = handlers.toggle_raw(raw[0].replace("pier", "pier."), raw[1], "", "demo")
    assert (scene, sound, cues["cues"][0]["who"], notice) == ("A pier.", "wind", "He says", "")
    broken = raw[0].replace("<E>", "")
    scene, cues, sound, notice = handlers.toggle_raw(broken, raw[1], "", "demo")
    assert (scene, cues["raw"], sound) == (broken, True, "")
    assert texts.NOT_SPLIT in notice


def test_each_speech_has_the_pace_of_all_that_is_said_until_its_end() -> None:
    said = "One two three four five six."
    rows = form_views.row_paces(f"<S>{said}<E> A pause. <S>{said}<E> <S>{said}<E>", 4)
    assert [(row["level"], row["short"]) for row in rows] == [
        ("calm", "1.5/s fits"),
        ("fast", "3.0/s tight"),
        ("too much", "4.5/s too long"),
    ]


@pytest.mark.parametrize(("length", "shown"), [(2999, None), (3000, "hint"), (4000, "hint"), (4001, "error")])
def test_the_length_of_a_prompt_is_shown_before_it_is_too_long(length: int, shown: str | None) -> None:
    findings = form_views.findings_html("a" * length, ["a" * length], published_variants()["960x960_5s"])
    counted = f'<li class="finding {shown}"><b>Length</b>{length:,} of 4,000 characters</li>'
    assert (counted in findings) == (shown is not None)


def test_the_form_starts_with_the_settings_of_the_model_that_is_installed(studio: Studio) -> None:
    with gr.Blocks():
        form, _ = build_form(studio)
    own = studio.presets.get("demo").settings
    assert form.steps.value == own["steps"]
    assert {name: form.sampling[name].value for name in own if name in form.sampling} == {
        name: value for name, value in own.items() if name in form.sampling
    }


def test_the_values_that_mark_a_preset_as_used_are_those_it_puts_into_the_form(studio: Studio) -> None:
    with gr.Blocks():
        form, _ = build_form(studio)
    shown = {name: part.value for name, part in form.fields.items()}
    fitting = [
        preset.name
        for preset in studio.presets.all().presets
        if all(str(shown[name]) == str(value) for name, value in form_views.form_values(preset).items())
    ]
    assert fitting == ["demo"]


def test_a_clip_fills_the_form_as_a_replacement_with_a_new_origin(studio: Studio) -> None:
    with gr.Blocks():
        form, _ = build_form(studio)
    spec = ClipSpec(prompt="A man says, <S>Hi.<E> Audio: wind", variant="demo")
    filled = [dict(zip(map(id, form.outputs), form.fill(spec), strict=True)) for _ in range(2)]
    assert filled[0][id(form.origin)] != filled[1][id(form.origin)]
    assert filled[0][id(form.cues)]["cues"] == [{"who": "A man says", "said": "Hi.", "mark": ","}]
    (job,) = studio.queue([spec])
    edited = dict(zip(map(id, form.outputs), form.fill(spec, editing=job), strict=True))
    assert edited[id(form.editing)] == {"id": job, "number": studio.store.get(job).number}


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
    shown += header_views.notices_html([Notice(1, "<tp1>", 0)])
    down = Supervision(Condition.DOWN, "<tr>", ("<tw>",))
    shown += header_views.engine_html(
        down, [], [], dict.fromkeys(JobState, 1), QueueEstimate(1, 0), True
    ) + header_views.trouble_html(down)
    shown += form_views.makes_html(["<tm>", "<tn>"], 1, None, None) + form_views.queued_html(1, "<tx>", ["<ty>"])
    shown += form_views.picture_notes_html(["<tz>"])
    for tag in (
        "<tb>",
        "<ti>",
        "<tu>",
        "<ts>",
        "<tp1>",
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


def test_the_advice_on_pictures_is_that_of_the_embedded_model_alone() -> None:
    shown = frame_examples_html("demo")
    assert [f'data-frame="{number}"' in shown for number in range(3)] == [True, True, False]
    assert frame_examples_html("960x960_5s") == frame_examples_html(None) == ""
