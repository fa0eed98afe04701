"""The commands as a user runs them: their files, messages and exit statuses, and no leftovers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from adapter_helpers import write_adapter
from clip_reading import read_frames, read_samples
from PIL import Image
from processes import deaf_to_ctrl_c

from ovi_studio.__main__ import main
from ovi_studio.media import pictures
from ovi_studio.media.clip_files import read_record

PROMPT = "a red ball bounces <AUDCAP>a deep thump<ENDAUDCAP>"
PATIENCE = 300
"""Timeout in seconds for a process that takes ten on an idle machine."""


@dataclass(frozen=True)
class Ended:
    """The result of a command: its exit status and the lines it printed."""

    status: int
    out: list[str]
    err: str

    @property
    def paths(self) -> list[Path]:
        return [Path(line) for line in self.out]

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr without progress bars, which overwrite themselves within a line."""
        parts = re.split(r"[\r\n]", self.err)
        return [part for part in parts if part.strip() and not re.search(r"step \d+ of \d+", part)]


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in this process, in an empty folder."""
    monkeypatch.delenv("OVI_CKPT_DIR", raising=False)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Ended:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ended(status, printed.out.splitlines(), printed.err)

    return command


@pytest.fixture
def generate(run: Run, tiny_bundle: Path) -> Run:
    """Return a function that makes clips with the tiny model in two steps, into the folder `out`."""

    def command(*arguments: object) -> Ended:
        return run("generate", "--ckpt-dir", tiny_bundle, "--out", "out", *arguments)

    return command


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "ball.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 160, 3), np.uint8)).save(path)
    return path


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def assert_same_clip(one: Path, other: Path) -> None:
    assert np.array_equal(read_frames(one), read_frames(other))
    assert np.array_equal(read_samples(one), read_samples(other))


# Making clips


def test_a_prompt_becomes_an_mp4_and_a_poster_in_a_separate_process(
    tmp_path: Path, tiny_bundle: Path, python_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "ovi_studio", "generate", "--prompt", PROMPT, "--steps", "2"]
    done = subprocess.run(
        command,
        env=python_environment | {"OVI_CKPT_DIR": str(tiny_bundle)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / line for line in done.stdout.splitlines())
    assert files_below(tmp_path) == [path.with_suffix(".jpg"), path]
    assert path.parent == tmp_path / "outputs"
    assert read_frames(path).shape == (17, 64, 64, 3)
    assert "Traceback" not in done.stderr


def test_settings_reach_the_clip_and_show_prints_them(generate: Run, run: Run, picture: Path) -> None:
    settings = {"steps": 1, "seed": 5, "solver": "euler", "shift": 3.5, "video_guidance": 2.0, "audio_guidance": 1.0}
    settings |= {"slg_layer": 0, "video_negative_prompt": "blur", "audio_negative_prompt": "", "variant": "tiny"}
    settings |= {"step_cache": "fast"}
    options = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", value)]
    made = generate("--prompt", PROMPT, "--image", picture, "--size", "64x96", *options)
    assert made.status == 0
    shown = run("show", *made.paths)
    assert shown.status == 0
    record = json.loads("\n".join(shown.out))
    rest = {
        "raw_colours": False,
        "timesteps": None,
        "accelerators": [],
        "adapters": [],
        "typed_prompt": "",
        "strength": 1,
        "resamples": 0,
    }
    rest |= dict.fromkeys(("source", "source_sha256", "keep_picture", "keep_sound"))
    assert record["spec"] == settings | {"prompt": PROMPT, "image": "ball.png", "size": [64, 96]} | rest
    assert record["app"] == "Ovi Studio"


def test_the_best_complete_variant_is_taken_unless_one_is_named(generate: Run) -> None:
    (path,) = generate("--prompt", PROMPT, "--steps", 1).paths
    assert read_record(path)["spec"]["variant"] == "tiny"


def test_a_count_makes_clips_with_consecutive_seeds(generate: Run) -> None:
    made = generate("--prompt", PROMPT, "--steps", 1, "--seed", 40, "--count", 3)
    assert made.status == 0
    assert [read_record(path)["spec"]["seed"] for path in made.paths] == [40, 41, 42]
    assert len(set(made.paths)) == 3


def test_a_pattern_makes_a_clip_of_each_prompt_and_warns_once_about_each(generate: Run) -> None:
    made = generate("--prompt", r"A {red|blue} \{ball\} says <S>Hi", "--steps", 1, "--seed", 40, "--count", 2)
    assert made.status == 0
    specs = [read_record(path)["spec"] for path in made.paths]
    colours = ("red", "red", "blue", "blue")
    assert [spec["prompt"] for spec in specs] == [f"A {colour} {{ball}} says <S>Hi" for colour in colours]
    assert [spec["seed"] for spec in specs] == [40, 41, 40, 41]
    told = "This speech is not closed; write <E> where it ends."
    assert made.complaints == [
        f"warning: “A {colour} {{ball}} says <S>Hi”: {told} Repaired: A {colour} {{ball}} says <S>Hi<E>"
        for colour in ("red", "blue")
    ]
    # A clip holds the expanded prompt, not the pattern.
    (again,) = generate("--from", made.paths[0]).paths
    assert read_record(again)["spec"] == specs[0]


def test_patterns_work_in_tables_and_in_the_official_configuration(
    generate: Run, run: Run, tmp_path: Path, tiny_bundle: Path
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("text_prompt,seed,steps\na {red|blue} ball,7,1\na {red,8,1\na dog,9,1\n")
    made = generate("--prompts", table)
    (complaint,) = made.complaints
    assert complaint.startswith("line 3: There is an opening brace without a closing one")
    assert complaint.endswith(r"write \{ and \} for literal braces.")
    found = [read_record(path)["spec"] for path in made.paths]
    assert [(spec["prompt"], spec["seed"]) for spec in found] == [("a red ball", 7), ("a blue ball", 7), ("a dog", 9)]
    (tmp_path / "fusion.yaml").write_text(official_config(tiny_bundle, text_prompt="a {red|blue} ball"))
    made = run("generate", "--config-file", tmp_path / "fusion.yaml", "--count", 2)
    found = [read_record(path)["spec"] for path in made.paths]
    seeds = (103, 104, 105, 106)
    assert [(spec["prompt"], spec["seed"]) for spec in found] == [
        (f"a {colour} ball", seed) for colour in ("red", "blue") for seed in seeds
    ]


def test_a_clip_is_reproduced_exactly(generate: Run) -> None:
    options = ("--steps", 2, "--seed", 11, "--solver", "dpm++", "--size", "64x96", "--audio-guidance", 2.5)
    (first,) = generate("--prompt", PROMPT, *options).paths
    (again,) = generate("--from", first).paths
    assert again != first
    assert_same_clip(again, first)
    (other,) = generate("--from", first, "--seed", 12).paths
    assert not np.array_equal(read_frames(other), read_frames(first))


def test_a_clip_from_before_colours_were_converted_is_reproduced_exactly(generate: Run, tmp_path: Path) -> None:
    picture = tmp_path / "hidden.png"
    colours = np.random.default_rng(0).integers(0, 256, (100, 160, 4), np.uint8)
    Image.fromarray(colours).save(picture)
    (raw,) = generate("--prompt", PROMPT, "--steps", 1, "--image", picture, "--raw-colours").paths
    (white,) = generate("--prompt", PROMPT, "--steps", 1, "--image", picture).paths
    assert not np.array_equal(read_frames(raw), read_frames(white))
    # A recipe of that time is the same without the setting; as many characters keep the boxes as they are.
    field = b'"raw_colours": true, '
    data = raw.read_bytes()
    assert data.count(field) == 2
    old = tmp_path / "old.mp4"
    old.write_bytes(data.replace(field, b" " * len(field)))
    assert "raw_colours" not in read_record(old)["spec"]
    (again,) = generate("--from", old).paths
    assert_same_clip(again, raw)
    (other,) = generate("--from", old, "--no-raw-colours").paths
    assert_same_clip(other, white)


def test_a_clip_is_reproduced_from_its_poster(generate: Run, run: Run, picture: Path) -> None:
    (first,) = generate("--prompt", PROMPT, "--steps", 1, "--image", picture).paths
    poster = first.with_suffix(".jpg")
    assert run("show", poster).out == run("show", first).out
    ended = generate("--from", poster)
    assert ended.status == 1
    assert ended.complaints == [f"error: The first frame is not in {poster}; choose the picture again."]
    (again,) = generate("--from", poster, "--image", picture).paths
    assert_same_clip(again, first)


def test_a_picture_is_decoded_once_on_its_way_into_a_clip(
    generate: Run, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    original = pictures.decode_picture
    monkeypatch.setattr(
        pictures, "decode_picture", lambda *given, **more: decoded.append("") or original(*given, **more)
    )
    assert generate("--prompt", PROMPT, "--steps", 1, "--image", picture).status == 0
    assert len(decoded) == 1


def test_out_with_the_name_of_an_mp4_is_that_file(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    def generate(*arguments: object) -> Ended:
        return run("generate", "--ckpt-dir", tiny_bundle, "--prompt", PROMPT, *arguments)

    file = tmp_path / "new" / "My clip (final).v2.mp4"
    made = generate("--steps", 1, "--out", file)
    assert made.paths == [file]
    assert files_below(tmp_path / "new") == [file.with_suffix(".jpg"), file]
    before = file.read_bytes()
    again = generate("--steps", 1, "--out", file)
    assert (again.status, again.out) == (1, [])
    assert again.complaints == [
        f"error: {file} exists and is never replaced; delete it, or choose another name for the clip."
    ]
    assert file.read_bytes() == before
    (tmp_path / "logo.jpg").write_text("somebody's")
    taken = generate("--steps", 1, "--out", tmp_path / "logo.mp4")
    assert taken.complaints[0].startswith(f"error: {tmp_path / 'logo.jpg'} exists")


def test_out_with_the_name_of_one_file_is_refused_for_several_clips(run: Run, tiny_bundle: Path) -> None:
    ended = run("generate", "--ckpt-dir", tiny_bundle, "--prompt", "a {red|blue} ball", "--out", "x.mp4")
    assert ended.status == 1
    assert ended.complaints == ["error: --out x.mp4 is one file, but there are 2 clips; name a folder instead."]


def test_out_with_the_name_of_another_kind_of_film_is_refused(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("x.mov", "X.WEBM"):
        ended = run("generate", "--ckpt-dir", tiny_bundle, "--prompt", PROMPT, "--out", name)
        assert ended.status == 1
        assert ended.complaints == [f"error: Clips are written as mp4; use --out {name[0]}.mp4, or name a folder."]
    assert not files_below(tmp_path)


@pytest.mark.parametrize("name", ["v1.5", "folder.mp4"])
def test_out_with_the_name_of_a_folder_stays_a_folder(run: Run, tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    if name.endswith(".mp4"):
        (tmp_path / name).mkdir()
    (path,) = run("generate", "--ckpt-dir", tiny_bundle, "--prompt", PROMPT, "--steps", 1, "--out", name).paths
    assert path.parent == Path(name)


def test_a_clip_from_a_picture_is_reproduced_without_the_picture(generate: Run, picture: Path) -> None:
    (first,) = generate("--prompt", PROMPT, "--steps", 2, "--image", picture).paths
    assert read_frames(first).shape[1:3] == (64, 96)
    picture.unlink()
    (again,) = generate("--from", first).paths
    assert_same_clip(again, first)
    # The new clip holds everything, too.
    shutil.rmtree("out/pictures")
    (third,) = generate("--from", again).paths
    assert_same_clip(third, first)


# From files


def test_a_bad_row_is_reported_with_its_line_and_the_others_are_made(
    generate: Run, tmp_path: Path, picture: Path
) -> None:
    table = tmp_path / "prompts.csv"
    rows = ["text_prompt,image_path,seed,steps", f"{PROMPT},,1,1", f"{PROMPT},gone.png,2,1", f"{PROMPT},ball.png,3,1"]
    table.write_text("\n".join(rows) + "\n")
    made = generate("--prompts", table)
    assert made.status == 1
    assert made.complaints == [
        "line 3: There is no picture gone.png; correct the path, or leave the cell empty for no picture."
    ]
    assert [read_record(path)["spec"]["seed"] for path in made.paths] == [1, 3]
    assert [read_frames(path).shape[1:3] for path in made.paths] == [(64, 64), (64, 96)]


def test_a_row_that_fails_later_does_not_stop_the_others(generate: Run, tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(f"text_prompt,slg_layer\n{PROMPT},7\n{PROMPT},1\n")
    made = generate("--prompts", table, "--steps", 1)
    assert made.status == 1
    assert made.complaints == ["error: Skip-layer block 7 does not exist: tiny has blocks 0 to 1."]
    assert len(made.paths) == 1


def official_config(bundle: Path, **changes: object) -> str:
    settings = {
        "ckpt_dir": str(bundle),
        "output_dir": "from_config",
        "sample_steps": 1,
        "solver_name": "euler",
        "model_name": "tiny",
        "shift": 5.0,
        "sp_size": 1,
        "audio_guidance_scale": 3.0,
        "video_guidance_scale": 4.0,
        "mode": "t2v",
        "fp8": False,
        "cpu_offload": False,
        "seed": 103,
        "video_negative_prompt": "jitter",
        "audio_negative_prompt": "robotic",
        "video_frame_height_width": [64, 64],
        "text_prompt": PROMPT,
        "slg_layer": 1,
        "each_example_n_times": 2,
    }
    # JSON is YAML.
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in (settings | changes).items())


def test_an_official_configuration_writes_its_clips_to_its_output_directory(
    run: Run, tmp_path: Path, tiny_bundle: Path
) -> None:
    config = tmp_path / "inference_fusion.yaml"
    config.write_text(official_config(tiny_bundle))
    made = run("generate", "--config-file", config)
    assert (made.status, made.complaints) == (0, [])
    assert {path.parent for path in made.paths} == {Path("from_config")}
    specs = [read_record(path)["spec"] for path in made.paths]
    assert [(spec["seed"], spec["solver"], spec["variant"]) for spec in specs] == [
        (103, "euler", "tiny"),
        (104, "euler", "tiny"),
    ]


def test_settings_along_with_a_configuration_are_refused(run: Run, tmp_path: Path, tiny_bundle: Path) -> None:
    config = tmp_path / "inference_fusion.yaml"
    config.write_text(official_config(tiny_bundle))
    ended = run("generate", "--config-file", config, "--steps", 3)
    assert ended.status == 1
    assert ended.complaints[0].startswith("error: --steps cannot be combined with the configuration file")
    assert files_below(tmp_path) == [config]


# Errors: one sentence, status 1, nothing written


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--variant", "1080p"], r"There is no model variant '1080p'; choose one of .*, tiny, demo\."),
        (["--size", "big"], r"Size 'big' is not HEIGHTxWIDTH, for example 704x1280\."),
        (["--size", "10x1000"], r"Size 10x1000 is too long and thin"),
        (["--steps", "0"], r"The steps must be between 1 and 1000, not 0\."),
        (["--seed", "-2"], r"The seed must be between 0 and"),
        (["--count", "0"], r"The count must be 1 or more, not 0\."),
        (["--prompt", ""], r"The prompt is empty; write what the clip should show and sound like\."),
        (["--image", "gone.png"], r".*gone\.png"),
        (["--slg-layer", "9"], r"Skip-layer block 9 does not exist: tiny has blocks 0 to 1\."),
        (["--attention", "magic"], r"'magic' is not a valid value for --attention; choose one of auto, native"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_invalid_command_is_refused_in_one_line(
    generate: Run, tmp_path: Path, options: list[str], sentence: str
) -> None:
    prompt = [] if "--prompt" in options else ["--prompt", PROMPT]
    ended = generate(*prompt, *options)
    assert ended.status == 1
    assert ended.out == []
    (line,) = ended.complaints
    assert re.match(f"error: {sentence}", line)
    assert files_below(tmp_path) == []


def test_missing_checkpoints_are_named_with_the_download_command(run: Run, tmp_path: Path) -> None:
    ended = run("generate", "--prompt", PROMPT, "--variant", "960x960_5s", "--ckpt-dir", tmp_path / "ckpts")
    assert ended.status == 1
    (line,) = ended.complaints
    assert line.startswith("error: Variant 960x960_5s is not complete: ")
    for name in ("model_960x960.safetensors", "Wan2.2_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "v1-16.pth"):
        assert f"{name} is missing" in line
    assert f"`python -m ovi_studio download 960x960_5s --ckpt-dir {tmp_path / 'ckpts'}` fetches it" in line
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_unusable_output_folder_is_refused_before_a_clip_is_made(
    run: Run, tmp_path: Path, tiny_bundle: Path, place: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    ended = run("generate", "--prompt", PROMPT, "--ckpt-dir", tiny_bundle, "--out", place, "--steps", 1000)
    assert ended.status == 1
    assert ended.complaints == [f"error: The output folder {place} is a file or below a file; choose another one."]
    assert files_below(tmp_path) == [tmp_path / "file"]


def test_a_file_that_is_not_a_clip_is_refused(generate: Run, run: Run, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.mp4"
    stranger.write_bytes(b"\0\0\0\x08ftyp")
    for ended in (run("show", stranger), generate("--from", stranger), run("show", tmp_path / "gone.mp4")):
        assert ended.status == 1
        assert ended.complaints[0].startswith("error: ")
        assert len(ended.complaints) == 1
    assert files_below(tmp_path) == [stranger]


@pytest.mark.parametrize("command", ["generate", "download", "bench"])
def test_a_broken_bundle_is_reported_in_one_message(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "ckpts").mkdir()
    (tmp_path / "ckpts" / "bundle.json").write_text("{}")
    arguments = {"generate": ["--prompt", PROMPT], "download": ["960x960_5s"], "bench": ["clip"]}
    ended = run(command, *arguments[command], "--ckpt-dir", tmp_path / "ckpts")
    assert ended.status == 1
    (line,) = ended.complaints
    assert line.startswith(f"error: {tmp_path / 'ckpts' / 'bundle.json'} does not describe a model bundle")


def test_two_sources_of_clips_are_a_usage_error(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("generate", "--prompt", PROMPT, "--prompts", "table.csv")
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl+C alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_background_command_keeps_finished_clips_and_leaves_no_partial_files(
    number: signal.Signals, tmp_path: Path, tiny_bundle: Path, python_environment: dict[str, str]
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("text_prompt,steps\nfirst,1\nsecond,1000\nthird,1\n")
    command = [sys.executable, "-m", "ovi_studio", "generate", "--prompts", table.name, "--ckpt-dir", str(tiny_bundle)]
    with deaf_to_ctrl_c():
        child = subprocess.Popen(
            command, env=python_environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    with child:
        deadline = threading.Timer(PATIENCE, child.kill)
        deadline.start()
        first = child.stdout.readline()  # a path is printed when its clip is there, not at the end
        seen = b""
        while b" of 1000" not in seen and (more := child.stderr.read1()):
            seen += more
        child.send_signal(number)
        out, err = child.communicate()
        deadline.cancel()
    ended = Ended(child.returncode, out.decode().splitlines(), (seen + err).decode())
    assert (ended.status, ended.out) == (130, []), ended.err
    assert ended.complaints == ["Stopped. Finished files are kept; no partial files are left."]
    path = tmp_path / first.decode().strip()
    assert files_below(tmp_path / "outputs") == [path.with_suffix(".jpg"), path]
    assert read_record(path)["spec"]["prompt"] == "first"


# The other commands


def test_doctor_reports_and_exits_with_success(run: Run, tiny_bundle: Path) -> None:
    ended = run("doctor", "--ckpt-dir", tiny_bundle)
    assert ended.status == 0
    assert any(line.endswith(f"tiny is complete in {tiny_bundle}") for line in ended.out)
    assert ended.out[-1].endswith("found.")


@pytest.mark.parametrize(
    ("options", "what", "weights"),
    [
        ([], "forward pass", "bf16 weights, 0 of 6 blocks streamed"),
        (["--guided", "--resident", 2], "step with guidance", "bf16 weights, 4 of 6 blocks streamed"),
        (["--limit-gb", 12], "forward pass", "int8 weights, 0 of 6 blocks streamed"),
        (["--weights", "int8", "--resident", 0], "forward pass", "int8 weights, 6 of 6 blocks streamed"),
    ],
)
def test_bench_measures_a_forward_pass(run: Run, options: list[object], what: str, weights: str) -> None:
    ended = run("bench", "demo", "--repeats", 1, *options)
    assert ended.status == 0
    (line,) = ended.out
    number = r"\d+\.\d+"
    rate = rf"{number} TFLOP/s, \d+% of a matrix product's {number}"
    figures = rf"{number} s \(median of 1, fastest {number} s\), {rate}, peak memory {number} GiB"
    assert re.fullmatch(rf"demo, {what}, torch\.\w+ on \w+: {weights}: {figures}", line)


def test_bench_measures_a_whole_clip(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    ended = run("bench", "clip", "--steps", 1, "--ckpt-dir", tiny_bundle)
    assert ended.status == 0
    (line,) = ended.out
    assert line.startswith("tiny, 1 steps, torch.")
    assert "decode video" in line
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bench", "huge"), "There is no shape 'huge'; choose one of small, demo"),
        (("bench", "demo", "--repeats", 0), "The number of repeats must be 1 or more, not 0."),
        (("bench", "demo", "--limit-gb", 0), "The limit must be more than 0 GB, not 0."),
        (("bench", "clip", "--steps", 0), "The steps must be between 1 and 1000, not 0."),
        (("download", "1080p"), "There is no model variant '1080p'; choose one of 960x960_10s"),
    ],
)
def test_a_command_with_a_wrong_value_ends_with_a_message(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], sentence: str
) -> None:
    ended = run(*arguments)
    assert (ended.status, ended.out) == (1, [])
    (line,) = ended.complaints
    assert line.startswith(f"error: {sentence}")
    assert files_below(tmp_path) == []


# Adapters and presets


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    about = {"title": "Old film", "licence": "CC BY 4.0", "trigger_words": ["0ld film"]}
    write_adapter(tmp_path / "loras" / "styles" / "film.safetensors", sidecar=about)
    write_adapter(tmp_path / "loras" / "fast.safetensors", seed=2)
    (tmp_path / "loras" / "old.pt").write_bytes(b"\x80\x04")
    os.utime(tmp_path / "loras" / "old.pt", (0, 0))  # what has just been written may still be incomplete
    return tmp_path / "loras"


def test_adapters_are_given_by_option_and_by_tag(generate: Run, loras: Path) -> None:
    options = ["--steps", 1, "--seed", 3, "--variant", "tiny"]
    plain = generate("--prompt", PROMPT, *options)
    optional = generate("--prompt", PROMPT, "--lora", "film=0.8:0", "--lora", "fast=1;0", *options)
    tagged = generate("--prompt", f"<lora:film:video=0.8:audio=0> {PROMPT} <lora:fast:1;0>", *options)
    records = [read_record(made.paths[0])["spec"] for made in (optional, tagged)]
    assert records[0] == records[1]
    assert [use["name"] for use in records[0]["adapters"]] == ["film", "fast"]
    assert all(len(use["sha256"]) == 64 for use in records[0]["adapters"])
    assert_same_clip(optional.paths[0], tagged.paths[0])
    assert not np.array_equal(read_frames(plain.paths[0]), read_frames(optional.paths[0]))


def test_a_clip_is_reproduced_with_its_adapters_or_with_others(generate: Run, loras: Path) -> None:
    first = generate("--prompt", PROMPT, "--lora", "film", "--steps", 1, "--variant", "tiny").paths[0]
    assert_same_clip(generate("--from", first).paths[0], first)
    other = generate("--from", first, "--lora", "fast").paths[0]
    assert [use["name"] for use in read_record(other)["spec"]["adapters"]] == ["fast"]
    write_adapter(loras / "styles" / "film.safetensors", seed=5)
    refused = generate("--from", first)
    assert refused.status == 1
    assert "is not the file that the clip was made with" in refused.err


def test_explicit_timesteps_are_given_by_option(generate: Run) -> None:
    made = generate("--prompt", PROMPT, "--timesteps", "1000,500,250", "--solver", "restart", "--variant", "tiny")
    spec = read_record(made.paths[0])["spec"]
    assert (spec["timesteps"], spec["steps"], spec["solver"]) == ([1000, 500, 250], 3, "restart")
    refused = generate("--prompt", PROMPT, "--timesteps", "1000,500", "--steps", 3, "--variant", "tiny")
    assert "2 timesteps but 3 steps" in refused.err


def test_a_preset_gives_settings_and_options_replace_them(generate: Run) -> None:
    made = generate("--prompt", PROMPT, "--preset", "draft", "--steps", 1, "--variant", "tiny", "--shift", 3)
    spec = read_record(made.paths[0])["spec"]
    assert (spec["steps"], spec["shift"], spec["video_guidance"]) == (1, 3, 4)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--preset", "nothing"), "no preset 'nothing'; choose one of draft, balanced"),
        (("--preset", "lightning-5s"), "download lightning-5s` (Apache-2.0)"),
        (("--lora", "gone"), "no adapter 'gone'"),
        (("--lora", "film=loud"), "'loud' is not a valid strength"),
        (("--lora", "film=0,8"), "decimal one; write 0.8"),
        (("--lora", "old.pt"), "is a pickle"),
    ],
)
def test_an_unusable_adapter_or_preset_is_one_sentence(
    generate: Run, loras: Path, options: tuple[str, str], reason: str
) -> None:
    refused = generate("--prompt", PROMPT, "--variant", "tiny", *options)
    assert refused.status == 1
    assert reason in refused.err
    assert "Traceback" not in refused.err


def test_loras_lists_the_folder_with_how_each_file_fits(run: Run, loras: Path, tiny_bundle: Path) -> None:
    listed = run("loras", "--ckpt-dir", tiny_bundle)
    assert listed.status == 0
    assert listed.out[0] == "Matched with tiny, the best complete model; --variant names another one."
    text = "\n".join(listed.out)
    assert "styles/film.safetensors" in text
    assert "4 of 4 layers matched" in text
    assert "video 2 of" in text
    assert "title: Old film; licence: CC BY 4.0; trigger words: 0ld film" in text
    assert "old.pt is a pickle" in text


def test_loras_needs_neither_torch_nor_weights(loras: Path, python_environment: dict[str, str]) -> None:
    script = (
        "import sys; from ovi_studio.__main__ import main; main(['loras', '--variant', '960x960_5s']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=python_environment, cwd=loras.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "does not match this model" in done.stdout
    assert "is a pickle" in done.stdout


def test_an_empty_folder_says_where_to_put_adapters(run: Run) -> None:
    assert "put .safetensors files or PEFT folders there" in run("loras").out[0]
