"""The evaluation: fixed prompts, rows that survive a killed run, tables, scene files, codec reconstruction."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clip_reading import read_frames, read_samples

from ovi_studio.core.errors import JobError
from ovi_studio.demo import codec_check, compare, scores
from ovi_studio.demo.evaluate import (
    Evaluation,
    EvaluationSetting,
    base_spec,
    clip_runner,
    prompts,
    settings,
    tasks,
    verdict_row,
)
from ovi_studio.demo.judges import ClipVerdict, judge, measure
from ovi_studio.demo.scene_files import draw_scenes, parse_only, write_scenes
from ovi_studio.demo.scenes import Colour, Motion, Shape, Sound, is_held_out, render, synthesise
from ovi_studio.media.clip_files import read_record
from ovi_studio.runtime.clip_runner import ClipRunner
from ovi_studio.runtime.options import RuntimeOptions

FAST = EvaluationSetting("fast", {"steps": 1, "video_guidance": 1, "audio_guidance": 1})


@pytest.fixture(scope="module")
def runner(tiny_bundle: Path) -> ClipRunner:
    return clip_runner(tiny_bundle)


def row(**values: Any) -> dict[str, Any]:
    right = dict.fromkeys(("colour", "shape", "background", "motion", "sound"), True)
    return {"setting": "quality", "held_out": False, "impacts": None, "seconds": 2.0, **right, **values}


def test_prompts_are_fixed_half_of_them_held_out_and_all_motions_equally_frequent() -> None:
    fixed = prompts(200)
    assert [prompt.text for prompt in fixed[:20]] == [prompt.text for prompt in prompts(20)]
    assert all(is_held_out(prompt.scene) == prompt.held_out for prompt in fixed)
    assert sum(prompt.held_out for prompt in fixed) == 100
    for motion in Motion:
        assert sum(prompt.scene.motion is motion for prompt in fixed) in (32, 34)
    assert all("<AUDCAP>" in prompt.text for prompt in fixed), "a caption without sound could not be judged"
    assert len({prompt.text for prompt in fixed}) > 190


def test_parts_share_the_clips_without_overlap() -> None:
    whole = tasks(10, 3)
    parts = [tasks(10, 3, (number, 4)) for number in (1, 2, 3, 4)]
    assert sorted(task.key for part in parts for task in part) == sorted(task.key for task in whole)
    assert len({task.key for task in whole}) == 30


def test_settings_are_those_of_the_presets() -> None:
    known = settings()
    assert known["quality"].fields["steps"] == 50
    assert known["fast"].fields == known["quality"].fields | {"step_cache": "fast"}
    assert known["lightning"].fields["steps"] == 4
    assert known["lightning"].fields["video_guidance"] == 1
    assert known["picture"].from_picture


@pytest.mark.slow
def test_an_interrupted_run_resumes(tiny_bundle: Path, runner: ClipRunner, tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    evaluation = Evaluation(tiny_bundle, FAST, results)
    made: list[dict[str, Any]] = []
    wanted = tasks(3, 1)
    first = evaluation.run(wanted[:2], runner, on_row=made.append)
    assert len(made) == len(first) == 2
    with results.open("a") as file:
        file.write('{"setting": "fast", "promp')  # as left by a run killed while writing
    second = Evaluation(tiny_bundle, FAST, results).run(wanted, runner, on_row=made.append)
    assert len(made) == 3
    assert second[:2] == first
    assert [row["prompt"] for row in second] == [0, 1, 2]
    assert json.loads(results.read_text().splitlines()[-1]) == second[2]
    unable = ClipRunner(RuntimeOptions(), models="builtins:NotImplementedError")  # no clip is missing
    assert Evaluation(tiny_bundle, FAST, results).run(wanted, unable) == second


def test_rows_of_other_settings_do_not_count(tiny_bundle: Path, runner: ClipRunner, tmp_path: Path) -> None:
    results = tmp_path / "rows.jsonl"
    Evaluation(tiny_bundle, FAST, results).run(tasks(1, 1), runner)
    other = Evaluation(tiny_bundle, EvaluationSetting("fast", {**FAST.fields, "shift": 3.0}), results)
    assert other.rows(tasks(1, 1)) == []


def test_clips_of_an_untrained_model_are_wrong(tiny_bundle: Path, runner: ClipRunner, tmp_path: Path) -> None:
    [made] = Evaluation(tiny_bundle, FAST, tmp_path / "rows.jsonl").run(tasks(1, 1), runner)
    assert not any(made[question] for question in ("colour", "shape", "motion"))


def test_clips_from_a_picture_are_judged_by_its_position_and_record_the_picture(
    tiny_bundle: Path, runner: ClipRunner, tmp_path: Path
) -> None:
    setting = EvaluationSetting("picture", FAST.fields, from_picture=True)
    evaluation = Evaluation(tiny_bundle, setting, tmp_path / "rows.jsonl")
    [made] = evaluation.run(tasks(1, 1), runner, clips=tmp_path / "clips")
    assert made["kept"] is False
    [clip] = (tmp_path / "clips").glob("*.mp4")
    assert read_record(clip)["picture"]["name"] == "first_frame.png"


@pytest.mark.slow
def test_changed_clips_are_compared_with_the_unchanged_ones(runner: ClipRunner) -> None:
    base = base_spec("tiny", FAST)
    [same] = compare.compare(runner, base, {"shift": base.shift}, tasks(1, 1))
    assert (same.error, same.mel_distance, same.video_passes) == (0, 0, 1)
    [other] = compare.compare(runner, base, {"steps": "2"}, tasks(1, 1))
    assert other.error > 1
    assert other.mel_distance > 1e-3
    assert other.video_passes == 2
    assert "2 clips of 2 video passes: " in compare.summary([same, other])


def test_tables_have_a_line_for_all_trained_and_held_out_clips() -> None:
    rows = [row(), row(held_out=True, colour=False, impacts=1 / 3), row(impacts=1.0), row(setting="lightning")]
    lines = scores.table(rows).splitlines()
    assert lines[2] == "| quality | all | 3 | 66.7% | 100.0% | 100.0% | 100.0% | 100.0% | 66.7% |  |  |  | 2.0 |"
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3].startswith("| quality | trained on | 2 | 100.0% |")
    assert lines[4].startswith("| quality | held out | 1 | 0.0% |")
    assert lines[5].startswith("| lightning | all | 1 |")
    assert scores.score([]).colour is None


def test_of_a_short_prompt_only_what_it_names_counts_and_the_object_must_be_clean() -> None:
    [scene] = [prompt.scene for prompt in prompts(1)]
    frames, samples = render(scene), synthesise(scene)
    right = verdict_row(measure(frames, samples), scene, frozenset({"colour", "motion"}))
    assert (right["all_named"], right["colour"], right["motion"]) == (True, True, True)
    assert right["shape"] is right["sound"] is right["impacts"] is None
    other = next(colour for colour in Colour if colour != scene.colour)
    wrong = verdict_row(measure(frames, samples), replace(scene, colour=other), frozenset({"colour"}))
    assert wrong["all_named"] is wrong["colour"] is False
    assert (
        verdict_row(measure(frames, samples), replace(scene, colour=other), frozenset({"shape"}))["all_named"] is True
    )
    assert verdict_row(measure(frames[:, :, ::-1] // 2, samples), scene, frozenset({"sound"}))["all_named"] is False
    assert scores.score([row(**right), row(**wrong)]).all_named == 0.5


def test_short_prompts_name_one_to_three_properties_in_kinds_that_are_never_trained_on() -> None:
    fixed = prompts(60, short=True)
    assert [len(prompt.named or ()) for prompt in fixed[:6]] == [1, 2, 3, 1, 2, 3]
    assert all(is_held_out(prompt.scene) == prompt.held_out for prompt in fixed)
    assert [prompt.text for prompt in fixed] == [prompt.text for prompt in prompts(60, short=True)]
    assert {name for prompt in fixed for name in prompt.named or ()} == {
        "colour",
        "shape",
        "background",
        "motion",
        "sound",
    }
    assert settings()["quality-short"].short
    assert settings()["lightning-short"].fields == settings()["lightning"].fields


@pytest.mark.slow
def test_reconstruction_by_the_codecs_is_measured(tiny_pipeline: Any) -> None:
    [checked] = codec_check.check_codecs(tiny_pipeline, 1)
    assert 0 < checked["worst_psnr"] <= checked["psnr"] < 20, "an untrained VAE reconstructs nothing"
    assert checked["mel_distance"] > 0.5
    assert "dB" in codec_check.summary([checked])


@pytest.mark.slow
def test_scenes_are_written_as_clips_with_captions_that_judges_confirm(tmp_path: Path) -> None:
    only = parse_only("colour=red, motion=bounce")
    paths = list(write_scenes(tmp_path, 3, only=only))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".mp4"] * 3 + [".txt"] * 3
    for path, (scene, text) in zip(paths, draw_scenes(3, only=only), strict=True):
        assert path.with_suffix(".txt").read_text() == text + "\n"
        verdict = judge(measure(read_frames(path), read_samples(path)), scene)
        assert (scene.colour, scene.motion) == (Colour.RED, Motion.BOUNCE)
        assert verdict == ClipVerdict(True, True, True, True, True, impacts=1.0)


def test_scenes_are_either_held_out_or_not() -> None:
    assert all(is_held_out(scene) for scene, _ in draw_scenes(5, held_out=True))
    assert not any(is_held_out(scene) for scene, _ in draw_scenes(5))


@pytest.mark.parametrize("text", ["colour=mauve", "size=2", "colour", "motion=still,sound=impact"])
def test_scenes_that_do_not_exist_are_refused_with_advice(text: str) -> None:
    with pytest.raises(JobError, match=r"choose|leave"):
        list(draw_scenes(1, only=parse_only(text)))


@pytest.mark.slow
def test_the_command_writes_scenes_and_explains_mistakes(tmp_path: Path, python_environment: dict[str, str]) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "ovi_studio.demo", "scenes", *arguments]
        return subprocess.run(line, capture_output=True, text=True, env=python_environment, check=False, cwd=tmp_path)

    assert command("clips", "--count", "1", "--only", "shape=ring").returncode == 0
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 1
    refused = command("clips", "--only", "shape=star")
    assert refused.returncode == 1
    assert "There is no shape 'star'" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_rendered_scenes_of_the_fixed_prompts_score_100_percent() -> None:
    rows = [
        row(**verdict_row(measure(render(prompt.scene), synthesise(prompt.scene)), prompt.scene))
        for prompt in prompts(12)
    ]
    found = scores.score(rows)
    assert all(getattr(found, question) == 1 for question in scores.QUESTIONS)
    assert {prompt.scene.sound for prompt in prompts(60)} == set(Sound)
    assert {prompt.scene.shape for prompt in prompts(60)} == set(Shape)
