"""The official configuration yields the clips that the official code would make, or a clear error."""

from pathlib import Path

import pytest
from prompt_rows import write_table

from ovi_studio.capacity.layouts import ShardingOptions, Strategy
from ovi_studio.core.drawing import Drawing
from ovi_studio.core.errors import JobError
from ovi_studio.services.prompt_files import read_official_config

OFFICIAL = """\
ckpt_dir: ./ckpts
output_dir: ./outputs
sample_steps: 50
solver_name: unipc
model_name: "960x960_10s" # ["720x720_5s", "960x960_5s", "960x960_10s"]
shift: 5.0
sp_size: 1
audio_guidance_scale: 3.0
video_guidance_scale: 4.0
mode: "i2v" # ["t2v", "i2v", "t2i2v"] all comes with audio
fp8: False
cpu_offload: False
seed: 103
video_negative_prompt: "jitter, bad hands, blur, distortion"  # Artifacts to avoid in video
audio_negative_prompt: "robotic, muffled, echo, distorted"    # Artifacts to avoid in audio
video_frame_height_width: [704, 1280] # only useful if mode = t2v or t2i2v
text_prompt: example_prompts/prompts.csv
slg_layer: 11
each_example_n_times: 2
"""


def read_config(work: Path, text: str = OFFICIAL, **changes: str):
    lines = [line for line in text.splitlines() if line.split(":")[0] not in changes]
    lines += [f"{name}: {value}" for name, value in changes.items() if value != "absent"]
    (work / "fusion.yaml").write_text("\n".join(lines), encoding="utf-8")
    return read_official_config(work / "fusion.yaml")


@pytest.fixture
def table(work) -> Path:
    return write_table(work, "text_prompt,image_path\na,here.png\nb,\nc,example_prompts/there.png\nd,gone.png\n")


def test_official_file_is_read_unchanged(work, table):
    run = read_config(work)
    assert (run.runtime.checkpoints, run.output_directory) == (Path("ckpts"), Path("outputs"))
    assert run.runtime.offloaded is False
    assert [(spec.prompt, spec.seed) for spec in run.clips.specs] == [("a", 103), ("a", 104), ("c", 103), ("c", 104)]
    assert [spec.image for spec in run.clips.specs[1:3]] == [work / "here.png", work / "example_prompts" / "there.png"]
    assert [row.line for row in run.clips.bad_rows] == [3, 5]
    assert "i2v needs" in run.clips.bad_rows[0].reason
    no_source = dict.fromkeys(("source", "source_sha256", "keep_picture", "keep_sound"))
    assert run.clips.specs[0].to_dict() | {"image": None} == {
        **no_source,
        "strength": 1.0,
        "resamples": 0,
        "prompt": "a",
        "variant": "960x960_10s",
        "image": None,
        "raw_colours": False,
        "drawing": None,
        "size": [704, 1280],
        "steps": 50,
        "solver": "unipc",
        "shift": 5.0,
        "seed": 103,
        "video_guidance": 4.0,
        "audio_guidance": 3.0,
        "slg_layer": 11,
        "step_cache": "off",
        "video_negative_prompt": "jitter, bad hands, blur, distortion",
        "audio_negative_prompt": "robotic, muffled, echo, distorted",
        "timesteps": None,
        "accelerators": [],
        "adapters": [],
        "typed_prompt": "",
    }


def test_t2v_takes_every_row_and_no_picture(work, table):
    run = read_config(work, mode="t2v", each_example_n_times="1")
    assert [(spec.prompt, spec.image) for spec in run.clips.specs] == [(prompt, None) for prompt in "abcd"]
    assert run.clips.bad_rows == ()


def test_t2i2v_draws_the_first_frame_of_every_row_and_reads_no_picture(work, table):
    run = read_config(work, mode="t2i2v", each_example_n_times="1")
    assert [(spec.prompt, spec.image, spec.to_draw) for spec in run.clips.specs] == [
        (prompt, None, Drawing()) for prompt in "abcd"
    ]
    (first, *_) = read_official_config(work / "fusion.yaml", image_model="a/b", image_steps=8).clips.specs
    assert first.to_draw == Drawing(model="a/b", steps=8)
    read_config(work, mode="t2v", text_prompt="A dog")
    with pytest.raises(JobError, match="set draw_first_frame as well"):
        read_official_config(work / "fusion.yaml", image_steps=8)


def test_the_prompt_may_be_in_the_file_itself(work):
    run = read_config(work, mode="t2v", text_prompt="'  A dog barks, <S>Wow<E>. '", seed="7")
    assert [(spec.prompt, spec.seed) for spec in run.clips.specs] == [
        ("A dog barks, <S>Wow<E>.", 7),
        ("A dog barks, <S>Wow<E>.", 8),
    ]


def test_a_prompt_in_the_file_takes_its_picture_from_the_file_too(work):
    assert read_config(work, text_prompt="A dog", image_path="here.png").clips.specs[0].image == work / "here.png"
    assert read_config(work, text_prompt="A dog", image_path="here.png", mode="t2v").clips.specs[0].image is None
    with pytest.raises(JobError, match="no image_path"):
        read_config(work, text_prompt="A dog")


def test_a_long_prompt_is_not_taken_for_a_path(work):
    assert len(read_config(work, mode="t2v", text_prompt="word " * 700).clips.specs[0].prompt) == 3499


def test_missing_settings_have_the_official_default(work):
    run = read_config(work, "ckpt_dir: weights\nmode: t2v\ntext_prompt: A dog\n")
    (spec,) = run.clips.specs
    assert run.output_directory == Path("outputs")
    assert (spec.variant, spec.steps, spec.solver, spec.seed, spec.size) == ("960x960_5s", 50, "unipc", 100, None)
    assert (spec.shift, spec.video_guidance, spec.audio_guidance, spec.slg_layer) == (5.0, 4.0, 3.0, 11)
    assert (spec.video_negative_prompt, spec.audio_negative_prompt) == ("", "")


def test_fp8_chooses_the_fp8_variant(work, table):
    assert read_config(work, fp8="true", model_name="720x720_5s").clips.specs[0].variant == "720x720_5s_fp8"
    with pytest.raises(JobError, match="720x720_5s only"):
        read_config(work, fp8="true")


def test_cpu_offload_is_passed_on(work, table):
    assert read_config(work, cpu_offload="true").runtime.offloaded is True


def test_multi_gpu_options_are_passed_on(work, table):
    run = read_config(work).runtime
    assert (run.gpus, run.sharding) == (1, ShardingOptions())
    run = read_config(work, sp_size="4").runtime
    assert (run.gpus, run.sharding) == (4, ShardingOptions(Strategy.NO_SHARD))
    for strategy in Strategy:
        settings = {"use_fsdp": "true", "fsdp_sharding_strategy": strategy, "fsdp_cpu_offload": "true"}
        run = read_config(work, **settings, shard_text_model="true", use_tensor_cores="true", sp_size="2").runtime
        assert (run.gpus, run.sharding) == (2, ShardingOptions(strategy, offloaded=True))
        assert run.tf32
        # FSDP without a number of GPUs: all of them.
        assert read_config(work, **settings).runtime.gpus is None


def test_int8_weights_are_passed_on(work, table):
    assert read_config(work).runtime.weights == "auto"
    assert read_config(work, qint8="true").runtime.weights == "int8"


def test_options_without_effect_are_accepted(work, table):
    for strategy in ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD"):
        run = read_config(
            work,
            use_fsdp="false",
            qint8="false",
            shard_text_model="false",
            fsdp_sharding_strategy=strategy,
            fsdp_cpu_offload="true",
            use_optimized_comms="true",
            use_tensor_cores="true",
        )
        assert len(run.clips.specs) == 4


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("sp_size", "0", "sp_size to the number of GPUs that share a clip, from 1"),
        ("shard_text_model", "true", "set both, or neither"),
        ("mode", "v2v", "must be t2v, i2v or t2i2v"),
        ("mode", "absent", "does not set mode"),
        ("ckpt_dir", "absent", "does not set ckpt_dir"),
        ("text_prompt", "null", "does not set text_prompt"),
        ("text_prompt", "nowhere/prompts.csv", "no table nowhere/prompts.csv"),
        ("text_prompt", "here.png", "end in .csv, .tsv, .txt"),
        ("text_prompt", "''", "prompt is empty"),
        ("model_name", "1080x1080_5s", "choose one of 960x960_10s"),
        ("solver_name", "heun", "choose one of unipc"),
        ("fsdp_sharding_strategy", "SOME", "one of FULL_SHARD"),
        ("each_example_n_times", "0", "from 1 to"),
        ("each_example_n_times", "10000000000", "from 1 to"),
        ("guidance", "3", "unknown setting guidance"),
        ("17", "3", "unknown setting 17"),
        ("seed", "'103'", "seed to '103'; it must be a whole number"),
        ("seed", "1.5", "seed to 1.5"),
        ("seed", "true", "seed to True"),
        ("seed", "-2", "seed must be between"),
        ("sample_steps", "[1]", "sample_steps to"),
        ("shift", "big", "shift to 'big'; it must be a number"),
        ("shift", ".nan", "shift must be between"),
        ("fp8", "1", "fp8 to 1; it must be true or false"),
        ("cpu_offload", "'yes'", "cpu_offload"),
        ("video_frame_height_width", "704x1280", "list of height and width"),
        ("video_frame_height_width", "[704]", "list of height and width"),
        ("video_frame_height_width", "[704, '1280']", "list of height and width"),
        ("video_frame_height_width", "[70400, 1280]", "out of range"),
        ("video_negative_prompt", "3", "video_negative_prompt to 3; it must be text"),
        ("text_prompt", "{a: b}", "text_prompt to"),
    ],
)
def test_an_unsupported_setting_is_refused(work, name, value, match):
    settings = {"mode": "t2v", "text_prompt": "A dog"} | {name: value}
    with pytest.raises(JobError, match=match):
        read_config(work, **settings)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "has no settings"),
        ("- a\n- b\n", "has no settings"),
        ("ckpt_dir: [\n", "is not valid YAML"),
        ("ckpt_dir: !!python/object/apply:os.system [ls]\n", "is not valid YAML"),
        ("seed: 1\nseed: 2\n", "sets seed more than once"),
        ("seed: 2024-99-99\n", "is not valid YAML"),
        ("? [a, b]\n: 1\n", "is not valid YAML"),
        ("a: " + "[" * 1000, "is not valid YAML"),
        ("# " + "x" * 2**18, "larger than 0.25 MB"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_refused(work, text, match):
    with pytest.raises(JobError, match=match) as caught:
        read_config(work, text)
    assert "\n" not in str(caught.value)
