"""Prompt tables and the official configuration yield the clips that the official code would make, or a clear error."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovi_studio.capacity.layouts import ShardingOptions, Strategy
from ovi_studio.core.drawing import Drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import MAX_RUN, BadRow, Context, Expansion, Request, SeedMode
from ovi_studio.core.variants import published_variants
from ovi_studio.services.prompt_files import expand_table, read_official_config
from ovi_studio.services.prompt_tables import read_table

DEFAULTS = {"variant": "960x960_5s", "steps": 30, "video_negative_prompt": "blur"}

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


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The working directory, with one picture in it and one in the tables' folder."""
    (tmp_path / "example_prompts").mkdir()
    pixels = np.zeros((32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "here.png")
    Image.fromarray(pixels).save(tmp_path / "example_prompts" / "there.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_table(work: Path, content: str | bytes, name: str = "prompts.csv") -> Path:
    path = work / "example_prompts" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clips_of(table: Path, defaults: dict = DEFAULTS, max_clips: int = MAX_RUN) -> Expansion:
    context = Context(published_variants().__getitem__, max_clips=max_clips)
    request = Request(defaults, seed_mode=SeedMode.FIXED)
    return expand_table(read_table(table, context.max_clips), request, context)


def read(work: Path, content: str | bytes, name: str = "prompts.csv", max_clips: int = MAX_RUN):
    found = clips_of(write_table(work, content, name), max_clips=max_clips)
    return list(found.specs), list(found.bad_rows)


# Tables


def test_official_table_is_read(work):
    specs, bad_rows = read(work, 'text_prompt,image_path\n"A man, <S>Hi<E>",here.png\nA dog,\n')
    assert [spec.prompt for spec in specs] == ["A man, <S>Hi<E>", "A dog"]
    assert [spec.image for spec in specs] == [work / "here.png", None]
    assert {(spec.variant, spec.steps, spec.video_negative_prompt) for spec in specs} == {("960x960_5s", 30, "blur")}
    assert bad_rows == []


def test_table_with_prompts_only_is_read(work):
    assert [spec.prompt for spec in read(work, "text_prompt\na\nb")[0]] == ["a", "b"]


def test_tsv_is_read(work):
    specs, _ = read(work, "text_prompt\timage_path\nA man, smiling\there.png\n", "prompts.TSV")
    assert (specs[0].prompt, specs[0].image) == ("A man, smiling", work / "here.png")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_and_all_line_endings_are_accepted(work, line_end, mark):
    rows = ["text_prompt,seed", "Füße,1", '"two', 'lines",2', "", "b,x"]
    specs, bad_rows = read(work, mark + line_end.join(rows).encode())
    assert [(spec.prompt, spec.seed) for spec in specs] == [("Füße", 1), (f"two{line_end}lines", 2)]
    assert [row.line for row in bad_rows] == [6]


def test_other_columns_are_settings_and_empty_cells_keep_the_default(work):
    specs, bad_rows = read(
        work,
        "text_prompt,steps,size,solver,shift,slg_layer,video_negative_prompt,audio_guidance\n"
        "a,10,704x1280,dpm++,3.5,-1,noise,1\n"
        "b,,,,,,,\n"
        "c\n",
    )
    assert bad_rows == []
    first = specs[0]
    assert (first.steps, first.size, first.solver, first.shift) == (10, (704, 1280), "dpm++", 3.5)
    assert (first.slg_layer, first.video_negative_prompt, first.audio_guidance) == (-1, "noise", 1.0)
    for spec in specs[1:]:
        assert (spec.steps, spec.size, spec.solver, spec.video_negative_prompt) == (30, None, "unipc", "blur")


def test_a_row_can_replace_the_default_timesteps_and_adapters(work):
    specs, _ = read(
        work, 'text_prompt,timesteps,adapters\na,"1000,500","[{""name"": ""film"", ""audio"": ""0""}]"\nb,,\n'
    )
    assert (specs[0].timesteps, specs[0].steps) == ((1000, 500), 2)
    assert [str(use.audio) for use in specs[0].adapters] == ["0"]
    assert (specs[1].timesteps, specs[1].steps, specs[1].adapters) == (None, 30, ())


def test_a_picture_is_looked_for_next_to_the_table_and_then_in_the_working_directory(work):
    specs, bad_rows = read(work, "text_prompt,image_path\na,there.png\nb,here.png\n")
    assert [spec.image for spec in specs] == [work / "example_prompts" / "there.png", work / "here.png"]
    Image.new("RGB", (32, 32)).save(work / "there.png")
    specs, _ = read(work, f"text_prompt,image_path\na,there.png\nb,{work / 'here.png'}\n")
    assert [spec.image for spec in specs] == [work / "example_prompts" / "there.png", work / "here.png"]
    assert bad_rows == []


def test_a_picture_may_be_quoted_and_lie_in_the_home_folder(work, monkeypatch):
    monkeypatch.setenv("HOME", str(work))
    monkeypatch.setenv("USERPROFILE", str(work))
    specs, bad_rows = read(work, 'text_prompt,image_path\na,~/here.png\nb,"""there.png"""\nc,\'there.png\'\n')
    assert [spec.image.name for spec in specs] == ["here.png", "there.png", "there.png"]
    assert bad_rows == []


def test_an_empty_image_path_means_no_picture_whatever_the_default(work):
    path = write_table(work, "text_prompt,image_path\na,\nb, \n")
    specs = clips_of(path, DEFAULTS | {"image": work / "here.png"}).specs
    assert [spec.image for spec in specs] == [None, None]


def test_bad_rows_are_reported_with_their_line_and_the_others_are_used(work):
    content = (
        "text_prompt,image_path,steps\n"
        '"first\nin three\nlines",,5\n'
        "missing,nowhere.png,5\n"
        "\n"
        '"also\nbad",,0\n'
        ",here.png,5\n"
        "a, man,,5\n"
        f"long,{'x' * 5000}.png,5\n"
        "last,,many\n"
        "good,,7\n"
    )
    specs, bad_rows = read(work, content)
    assert [spec.steps for spec in specs] == [5, 7]
    assert [row.line for row in bad_rows] == [5, 7, 9, 10, 11, 12]
    assert bad_rows[0] == BadRow(
        5, "There is no picture nowhere.png; correct the path, or leave the cell empty for no picture."
    )
    assert "steps must be between" in bad_rows[1].reason
    assert "prompt is empty" in bad_rows[2].reason
    assert "4 cells for 3 columns" in bad_rows[3].reason
    assert "no picture" in bad_rows[4].reason
    assert "steps" in bad_rows[5].reason


def test_a_column_without_a_name_is_ignored(work):
    """Spreadsheet programs and pandas write row numbers and empty columns this way."""
    specs, bad_rows = read(work, ",text_prompt,\n0,a,\n1,b,\n")
    assert [spec.prompt for spec in specs] == ["a", "b"]
    assert bad_rows == []


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"words,image_path\na,\n", "no column text_prompt in line 1"),
        (b"text_prompt,seed,seed\na,3,4\n", "column seed more than once in line 1"),
        (b'text_prompt\na\n"b" c\nd\n', "at line 3 .*quotation marks"),
        (b'text_prompt\na\n"never closed\n\n\n', "at line 3 .*quotation marks"),
        (b"text_prompt\na\nF\xfc\x81e\n", "not UTF-8 in line 3"),
        (b"text_prompt\na\nb\0c\n", "NUL character in line 3"),
        (b"text_prompt\na\n" + b"x" * 200_000, "at line 3 .*field limit"),
    ],
)
def test_an_invalid_table_is_refused_with_the_line(work, content, match):
    with pytest.raises(JobError, match=match):
        read(work, content)


def test_table_that_is_too_large_is_refused(work):
    with pytest.raises(JobError, match=r"larger than 20 MB \(at line 10485756\); split it"):
        read(work, b"text_prompt\n" + b"a\n" * (10 * 2**20))


def test_table_with_too_many_rows_is_refused(work):
    assert len(read(work, "text_prompt\n" + "a\n" * 3, max_clips=3)[0]) == 3
    with pytest.raises(JobError, match=r"prompts.csv has more than 3 rows \(line 5\)"):
        read(work, "text_prompt\n" + "a\n" * 4, max_clips=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prompts.csv", "prompts.txt"])
def test_a_table_of_millions_of_rows_is_refused_without_collecting_them(work, name):
    path = write_table(work, b"text_prompt\n" + b"a\n" * 2_000_000, name)
    tracemalloc.start()
    with pytest.raises(JobError, match="more than 10000 rows"):
        read_table(path, 10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20


def test_a_missing_table_a_folder_and_another_kind_of_file_are_refused(work):
    (work / "folder.csv").mkdir()
    for name, match in (
        ("missing.csv", "There is no file"),
        ("folder.csv", "There is no file"),
        ("here.png", "end in"),
    ):
        with pytest.raises(JobError, match=match):
            clips_of(work / name)


@pytest.mark.parametrize(
    ("content", "name", "note"),
    [
        (b"text_prompt;seed\nCaf\xc3\xa9 at dawn;1\nA second, with a comma;2\n", "a.csv", ""),
        (b"text_prompt\tseed\nCaf\xc3\xa9 at dawn\t1\nA second, with a comma\t2\n", "a.csv", ""),
        (b'text_prompt,seed\nCaf\xc3\xa9 at dawn,1\n"A second, with a comma",2\n', "a.tsv", ""),
        (b"sep=;\r\ntext_prompt;seed\r\nCaf\xc3\xa9 at dawn;1\r\nA second, with a comma;2\r\n", "a.csv", ""),
        (b"\xef\xbb\xbfText Prompt;SEED\nCaf\xc3\xa9 at dawn;1\nA second, with a comma;2\n", "a.csv", ""),
        ("text_prompt;seed\nCafé at dawn;1\nA second, with a comma;2\n".encode("utf-16"), "a.csv", ""),
        ("text_prompt;seed\nCafé at dawn;1\nA second, with a comma;2\n".encode("utf-16-le"), "a.csv", ""),
        ("text_prompt;seed\nCafé at dawn;1\nA second, with a comma;2\n".encode("cp1252"), "a.csv", "Windows-1252"),
        (
            b"text_prompt;cfg;seed;\nCaf\xc3\xa9 at dawn;7;1;\nA second, with a comma;7;2;\n",
            "a.csv",
            "ignored the unknown column cfg",
        ),
    ],
)
def test_tables_are_read_as_spreadsheets_write_them(work, content, name, note):
    clips = clips_of(write_table(work, content, name))
    assert [(spec.prompt, spec.seed) for spec in clips.specs] == [("Café at dawn", 1), ("A second, with a comma", 2)]
    assert clips.bad_rows == ()
    assert (note in clips.notes[0]) if note else clips.notes == ()


def test_a_text_file_is_one_prompt_per_line(work):
    clips = clips_of(write_table(work, "A cat, asleep\r\n\r\n  A dog; awake \n", "prompts.txt"))
    assert [spec.prompt for spec in clips.specs] == ["A cat, asleep", "A dog; awake"]
    with pytest.raises(JobError, match="one prompt per line"):
        clips_of(write_table(work, "\n \n", "empty.txt"))


def test_sizes_and_random_seeds_are_written_as_people_write_them(work):
    rows = "a,704x1280,-1\nb,704X1280,5\nc,704×1280,-1\n"
    specs, bad_rows = read(work, "Text_Prompt,Size,Seed\n" + rows)
    assert [spec.size for spec in specs] == [(704, 1280)] * 3
    assert specs[1].seed == 5
    assert len({spec.seed for spec in specs}) == 3
    assert bad_rows == []


def test_notes_on_a_table_name_no_folder(work):
    for content in (b"", b"words\na\n", b'text_prompt\n"a\n', b"text_prompt\na\0\n", b"text_prompt,text_prompt\na,b\n"):
        with pytest.raises(JobError) as raised:
            read(work, content)
        assert str(work) not in str(raised.value)


# The official configuration


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


def test_rows_draw_what_has_no_picture_and_have_settings_of_their_own(work):
    path = write_table(work, "text_prompt,image_path,image_steps\na,here.png,\nb,,\nc,,4\n")
    request = Request({"variant": "960x960_5s", "draw_first_frame": True, "image_model": "a/b"})
    found = expand_table(read_table(path, 10), request, Context(published_variants().__getitem__))
    assert [(spec.image is None, spec.to_draw) for spec in found.specs] == [
        (False, None),
        (True, Drawing(model="a/b")),
        (True, Drawing(model="a/b", steps=4)),
    ]
    own = write_table(work, "text_prompt,draw first frame,image_path\na,yes,\nb,no,\nc,,\nd,yes,here.png\n")
    found = expand_table(
        read_table(own, 10), Request({"variant": "960x960_5s"}), Context(published_variants().__getitem__)
    )
    assert [spec.to_draw is not None for spec in found.specs] == [True, False, False]
    assert "There is a first frame" in found.bad_rows[0].reason


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
