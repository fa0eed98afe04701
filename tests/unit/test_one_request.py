"""The same request makes the same clips, whichever way it comes: page, API, tables, official YAML, command line."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from adapter_helpers import write_adapter
from PIL import Image

from ovi_studio.__main__ import build_parser
from ovi_studio.cli import sources
from ovi_studio.core.drawing import DRAWS, FLAT_NAMES
from ovi_studio.core.requests import Expansion, Request
from ovi_studio.core.spec import ClipSpec
from ovi_studio.queue.estimates import PhaseTimes, record_phase_times
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.prompt_files import read_official_config
from ovi_studio.services.studio import Studio
from ovi_studio.web.api import ApiCalls
from ovi_studio.web.tabs.create.handlers import CreateHandlers
from ovi_studio.web.tabs.create.tab import CreateForm, build_form

PROMPT = r'A {red <lora:film:0.5>|blue} \{ball\} in __weather__, "C:\new". <AUDCAP>a {thump|}<ENDAUDCAP>'
COUNT = 2
SIZE = (64, 96)
VALUES: dict[str, Any] = {
    "steps": 3,
    "seed": 7,
    "solver": "euler",
    "shift": 3.5,
    "video_guidance": 2.0,
    "audio_guidance": 1.5,
    "slg_layer": 1,
    "step_cache": "fast",
    "video_negative_prompt": "blur",
    "audio_negative_prompt": "noise",
}


@pytest.fixture
def studio(tmp_path: Path, tiny_bundle: Path) -> Iterator[Studio]:
    write_adapter(tmp_path / "loras" / "film.safetensors")
    options = RuntimeOptions(checkpoint_directory=tiny_bundle, adapter_directory=tmp_path / "loras")
    studio = Studio.open(tmp_path / "outputs", options)
    yield studio
    studio.close()


@pytest.fixture
def form(studio: Studio) -> CreateForm:
    with gr.Blocks():
        return build_form(studio)[0]


def queued(studio: Studio) -> Sequence[ClipSpec]:
    return [job.spec for job in sorted(studio.store.jobs(), key=lambda job: job.number)]


def fields_of(form: CreateForm, **values: Any) -> list[Any]:
    """What the fields of the form hold."""
    given = {
        **VALUES,
        "cues": None,
        "typed_prompt": None,
        "sound": "",
        "image": None,
        **{DRAWS: False, **dict.fromkeys(FLAT_NAMES, "")},
        "timesteps": "",
        "accelerators": "[]",
        "adapters": "[]",
    }
    given |= {"kept": None, "raw_colours": False, "variant": "tiny", "prompt": PROMPT, **values}
    return [given[name] for name in form.fields]


def queue_from_form(studio: Studio, form: CreateForm, table: Path | None = None, **values: Any) -> None:
    """What the page does when its button is pressed."""
    (ratio,) = (name for name, size in studio.sizes("tiny").items() if size == SIZE)
    path, seed = str(table) if table else None, str(VALUES["seed"])
    CreateHandlers(studio, form).queue(None, ratio, "fixed", seed, COUNT, path, "", 0, *fields_of(form, **values))


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns.keys(), columns.values()])
    return path


def collect(bundle: Path, *arguments: object, count: int = COUNT) -> Expansion:
    """What the command line makes of its arguments."""
    given = ["generate", *arguments, "--count", count, "--ckpt-dir", bundle]
    options = build_parser().parse_args([str(argument) for argument in given])
    runtime = RuntimeOptions.of(options)
    run = None
    if options.config_file:
        run = read_official_config(
            options.config_file, options.count, runtime.checkpoint_directory, raw_colours=bool(options.raw_colours)
        )
    return sources.collect(options, runtime, run)


def from_page(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    queue_from_form(studio, form)
    return queued(studio)


def from_uploaded_table(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    queue_from_form(studio, form, write_table(folder / "prompts.csv", {"text_prompt": PROMPT}), prompt="not this one")
    return queued(studio)


def from_api(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    ApiCalls(studio).queue(PROMPT, "tiny", None, {**VALUES, "size": list(SIZE)}, COUNT)
    return queued(studio)


def from_table(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    columns = {"text_prompt": PROMPT, "image_path": "", "size": "64x96", "variant": "tiny", **VALUES}
    return collect(bundle, "--prompts", write_table(folder / "prompts.csv", columns)).specs


def from_prompt(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    options = [part for name, value in VALUES.items() for part in (f"--{name.replace('_', '-')}", value)]
    return collect(bundle, "--prompt", PROMPT, "--variant", "tiny", "--size", "64x96", *options).specs


def official(folder: Path, bundle: Path, text_prompt: str) -> Path:
    settings = {"ckpt_dir": str(bundle), "mode": "t2v", "model_name": "tiny", "video_frame_height_width": list(SIZE)}
    settings |= {"sample_steps": 3, "seed": 7, "solver_name": "euler", "shift": 3.5, "slg_layer": 1}
    settings |= {"video_guidance_scale": 2.0, "audio_guidance_scale": 1.5, "each_example_n_times": COUNT}
    settings |= {"video_negative_prompt": "blur", "audio_negative_prompt": "noise", "text_prompt": text_prompt}
    path = folder / "inference_fusion.yaml"
    path.write_text("\n".join(f"{name}: {json.dumps(value)}" for name, value in settings.items()))
    return path


def from_official_prompt(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    return collect(bundle, "--config-file", official(folder, bundle, PROMPT), count=1).specs


def from_official_table(studio: Studio, form: CreateForm, folder: Path, bundle: Path) -> Sequence[ClipSpec]:
    table = write_table(folder / "prompts.csv", {"text_prompt": PROMPT, "image_path": ""})
    return collect(bundle, "--config-file", official(folder, bundle, str(table)), count=1).specs


WAYS = [
    from_page,
    from_uploaded_table,
    from_api,
    from_table,
    from_prompt,
    from_official_prompt,
    from_official_table,
]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_request_makes_the_same_clips(
    way: Callable[..., Sequence[ClipSpec]], studio: Studio, form: CreateForm, tmp_path: Path, tiny_bundle: Path
) -> None:
    weathers = studio.prompts(Request({"prompt": "__weather__"}))
    made = way(studio, form, tmp_path, tiny_bundle)
    expected = [
        (f'A {colour} {{ball}} in {weather}, "C:\\new". <AUDCAP>a {sound}<ENDAUDCAP>', adapters, seed)
        for colour, adapters in (("red", ["film"]), ("blue", []))
        for weather in weathers
        for sound in ("thump", "")
        for seed in (7, 8)
    ]
    assert [(spec.prompt, [use.name for use in spec.adapters], spec.seed) for spec in made] == expected
    rest = {name: value for name, value in VALUES.items() if name != "seed"} | {"variant": "tiny", "size": list(SIZE)}
    rest |= {"image": None, "raw_colours": False, "timesteps": None, "accelerators": []}
    if way in (from_official_prompt, from_official_table):
        rest["step_cache"] = "off"  # the official configuration has no such setting
    for spec in made:
        assert {name: value for name, value in spec.to_dict().items() if name in rest} == rest


# What each place says


UNCLOSED = "A man says, <S>Hello <AUDCAP>wind<ENDAUDCAP>"


def test_the_api_answers_with_what_should_be_known_about_the_prompts(studio: Studio) -> None:
    answer = ApiCalls(studio).queue(UNCLOSED, "tiny", None, {"steps": 1, "seed": 7}, 3)
    assert len(answer["jobs"]) == 3
    (sentence,) = answer["warnings"]
    assert "This speech is not closed" in sentence
    assert ApiCalls(studio).queue("A ball", "tiny", None, {"steps": 1})["warnings"] == []


def test_the_command_line_says_on_stderr_what_should_be_known(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(f'text_prompt,steps\n"{UNCLOSED}",1\nA ball,many\n"{UNCLOSED}",2\n')
    clips = collect(tiny_bundle, "--prompts", table, "--variant", "tiny")
    sources.report(clips)
    printed = capsys.readouterr()
    assert printed.out == ""
    warning, bad_row = printed.err.splitlines()
    assert warning.startswith(f"warning: line 2, “{UNCLOSED}”: This speech is not closed")
    assert bad_row.startswith("line 3: ")
    assert [spec.seed for spec in clips.specs] == [100, 101, 100, 101]


def test_the_page_says_what_should_be_known_about_a_table(studio: Studio, form: CreateForm, tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(f'text_prompt,steps\n"{UNCLOSED.replace("man", "{man|woman}")}",1\nA ball,many\n')
    shown = CreateHandlers(studio, form).preview_table(str(table), "1:1", 3, *fields_of(form))
    assert "The table makes 6 clips" in shown
    assert "1 row is skipped" in shown
    assert "Warning: line 2, “A man says, &lt;S&gt;Hello" in shown
    assert "Warning: line 2, “A woman says, &lt;S&gt;Hello" in shown


WHITE = "its transparent parts were put on white"


@pytest.fixture
def transparent(tmp_path: Path) -> Path:
    path = tmp_path / "logo.png"
    Image.new("RGBA", (60, 40), (255, 0, 255, 0)).save(path)
    return path


def test_the_api_says_how_a_picture_was_read(studio: Studio, transparent: Path) -> None:
    calls = ApiCalls(studio)
    (note,) = calls.queue("A ball", "tiny", str(transparent), {"steps": 1})["notes"]
    assert note.startswith(f"logo.png: {WHITE}")
    assert calls.queue("A ball", "tiny", str(transparent), {"steps": 1, "raw_colours": True})["notes"] == []
    assert calls.queue("A ball", "tiny", None, {"steps": 1})["notes"] == []
    assert [spec.raw_colours for spec in queued(studio)] == [False, True, False]


def test_the_page_says_how_a_picture_was_read(studio: Studio, form: CreateForm, transparent: Path) -> None:
    handlers = CreateHandlers(studio, form)

    def queue(*, raw: bool) -> str:
        fields = fields_of(form, prompt="a ball", image=str(transparent), raw_colours=raw)
        return handlers.queue(None, "1:1", "fixed", "7", 1, None, "", 0, *fields)[0]

    assert WHITE in queue(raw=False)
    assert WHITE not in queue(raw=True)
    assert [spec.raw_colours for spec in queued(studio)] == [False, True]
    assert WHITE in handlers.choose_size("tiny", "1:1", str(transparent), False)[2]
    assert handlers.choose_size("tiny", "1:1", str(transparent), True)[2] == ""


@pytest.mark.parametrize("raw", [False, True])
def test_the_command_line_says_how_pictures_were_read(
    tmp_path: Path, tiny_bundle: Path, transparent: Path, capsys: pytest.CaptureFixture[str], raw: bool
) -> None:
    columns = {"text_prompt": "a ball", "image_path": "logo.png"}
    in_column = write_table(tmp_path / "raw.csv", columns | {"Raw-Colours": str(raw).upper()})
    by_option = write_table(tmp_path / "plain.csv", columns)
    option = ["--raw-colours"] if raw else []
    official_table = official(tmp_path, tiny_bundle, str(by_option))
    official_table.write_text(official_table.read_text().replace('"t2v"', '"i2v"'))
    for arguments in (
        ["--prompts", in_column, "--variant", "tiny"],
        ["--prompts", by_option, "--variant", "tiny", *option],
        ["--prompt", "a ball", "--variant", "tiny", "--image", transparent, *option],
        ["--config-file", official_table, *option],
    ):
        clips = collect(tiny_bundle, *arguments, count=1)
        assert {spec.raw_colours for spec in clips.specs} == {raw}
        sources.report(clips)
        notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert len(notes) == (0 if raw else 1)
        assert raw or WHITE in notes[0]


def test_the_page_checks_the_prompts_that_a_pattern_makes(studio: Studio, form: CreateForm) -> None:
    def findings(prompt: str) -> str:
        return CreateHandlers(studio, form).inspect(None, None, 1, prompt, None, "", "tiny", 1, 4, 3, "off")[0]

    spoken = "He says, <S>{one|one two|one two three}<E>"
    assert "3 words in 1 s" in findings(spoken)
    assert "too much" in findings(spoken.replace("three", "three four five six"))
    assert "not closed" in findings("{A ball|He says, <S>Hello}")
    assert "so its braces are removed" in findings("A {ball}")
    assert "so its braces are removed" not in findings(r"A \{ball\} {a|b}")


def test_the_page_estimates_a_step_cache_by_clips_that_had_it(studio: Studio, form: CreateForm) -> None:
    spec = ClipSpec(prompt="a ball", variant="tiny", step_cache="fast")
    record_phase_times(studio.store.database, spec, PhaseTimes(text=0, step=60, decode=0, write=0))

    def makes(cache: str) -> str:
        return CreateHandlers(studio, form).inspect(None, None, 1, "a ball", None, "", "tiny", 2, 4, 3, cache)[1]

    assert "2 min" in makes("fast")
    assert "min" not in makes("off")


# Back into the form


def test_the_settings_of_a_clip_come_back_into_the_form_as_a_pattern_for_the_same_clip(
    studio: Studio, form: CreateForm
) -> None:
    prompt = r'{"scene": "a|b"} __weather__ \{ <AUDCAP>wind {soft}<ENDAUDCAP>'
    spec = ClipSpec(prompt=prompt, variant="tiny", seed=7)
    shown = dict(zip((id(part) for part in form.outputs), form.fill(spec), strict=True))
    scene, sound = shown[id(form.prompt)], shown[id(form.sound)]
    queue_from_form(studio, form, prompt=scene, sound=sound)
    assert {made.prompt for made in queued(studio)} == {prompt}


@pytest.mark.parametrize("image", [True, False])
def test_raw_colours_come_back_into_the_form_with_the_picture_they_belong_to(
    studio: Studio, form: CreateForm, transparent: Path, image: bool
) -> None:
    spec = ClipSpec(prompt="a ball", variant="tiny", image=transparent if image else None, raw_colours=True)
    shown = dict(zip((id(part) for part in form.outputs), form.fill(spec), strict=True))
    assert shown[id(form.sampling["raw_colours"])] is image


def test_a_job_that_is_edited_keeps_a_seed(studio: Studio, form: CreateForm) -> None:
    queue_from_form(studio, form, prompt="a ball")
    job = studio.store.jobs()[-1].id
    fields = fields_of(form, prompt="a dog")
    handlers, editing = CreateHandlers(studio, form), {"id": job, "number": 1}
    assert "The seed is empty" in handlers.queue(editing, "1:1", "fixed", " ", 1, None, "", 0, *fields)[0]
    assert handlers.queue(editing, "1:1", "fixed", "12", 5, None, "", 0, *fields)[0] == ""
    assert (studio.store.get(job).spec.prompt, studio.store.get(job).spec.seed) == ("a dog", 12)
