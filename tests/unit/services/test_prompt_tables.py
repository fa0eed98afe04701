"""Prompt tables yield the clips that their rows name, or a clear error with the line."""

import tracemalloc
from pathlib import Path

import pytest
from PIL import Image
from prompt_rows import DEFAULTS, clips_of, write_table

from ovi_studio.core.drawing import Drawing
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import MAX_RUN, BadRow, Context, Request
from ovi_studio.core.variants import published_variants
from ovi_studio.services.prompt_files import expand_table
from ovi_studio.services.prompt_tables import read_table


def read(work: Path, content: str | bytes, name: str = "prompts.csv", max_clips: int = MAX_RUN):
    found = clips_of(write_table(work, content, name), max_clips=max_clips)
    return list(found.specs), list(found.bad_rows)


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
