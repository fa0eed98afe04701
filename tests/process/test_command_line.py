"""Clips made by the command, as a user runs it: from prompts, files and other clips, and no leftovers."""

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from clip_reading import read_frames
from commands import PROMPT, Ended, Run, assert_same_clip, files_below
from PIL import Image
from processes import deaf_to_ctrl_c
from warm_start import PIPELINES

from ovi_studio.media import pictures
from ovi_studio.media.clip_files import read_record

PATIENCE = 300
"""Timeout in seconds for a process that takes ten on an idle machine."""


# Prompts and clips


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
        "drawing": None,
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


# In the background


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl+C alone")
def test_a_stopped_background_command_keeps_finished_clips_and_leaves_no_partial_files(
    tmp_path: Path, tiny_bundle: Path, python_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGINT, which such a command was started to ignore; that SIGTERM does the same is shown of the engine.

    That a command which nobody stops ends with success is shown in `test_wheel.py`.
    """
    table = tmp_path / "prompts.csv"
    table.write_text("text_prompt,steps\nfirst,1\nsecond,1000\nthird,1\n")
    monkeypatch.chdir(tmp_path)
    command = ["-m", "ovi_studio", "generate", "--prompts", table.name]
    variables = python_environment | {"OVI_CKPT_DIR": str(tiny_bundle)}
    (out, into_out), (err, into_err) = os.pipe(), os.pipe()
    with os.fdopen(out, "rb") as printed, os.fdopen(err, "rb") as complained:
        with deaf_to_ctrl_c():
            child = PIPELINES.start(*command, environment=variables, stdout=into_out, stderr=into_err)
        os.close(into_out)
        os.close(into_err)
        deadline = threading.Timer(PATIENCE, child.kill)
        deadline.start()
        first = printed.readline()  # a path is printed when its clip is there, not at the end
        seen = b""
        while b" of 1000" not in seen and (more := complained.read1()):
            seen += more
        child.send_signal(signal.SIGINT)
        seen += complained.read()
        ended = Ended(child.wait(), printed.read().decode().splitlines(), seen.decode())
        deadline.cancel()
    assert (ended.status, ended.out) == (130, []), ended.err
    assert ended.complaints == ["Stopped. Finished files are kept; no partial files are left."]
    path = tmp_path / first.decode().strip()
    assert files_below(tmp_path) == [path.with_suffix(".jpg"), path, table]
    assert path.parent == tmp_path / "outputs"
    assert read_frames(path).shape == (17, 64, 64, 3)
    assert read_record(path)["spec"]["prompt"] == "first"
