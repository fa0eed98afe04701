"""Fields of a search, tags and collections."""

import dataclasses
import time

import pytest
from library_clips import listed, picture, prompts, write

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.library import Library, Query
from ovi_studio.library.index import Read, Stamp
from ovi_studio.library.marks import parse_tags
from ovi_studio.library.probe import probe


def test_fields_of_a_search(library, paths):
    write(paths, "A fox in the snow", seed=42, variant="720x720_5s", made=1_700_000_000)
    film = [{"name": "style/Film.safetensors"}]
    write(paths, "A harbour", seed=2**62, made=1_750_000_000, adapters=parse_stack(film), first=picture())
    found = {
        "seed:42": ["A fox in the snow"],
        f"seed:{2**62}": ["A harbour"],
        "model:720": ["A fox in the snow"],
        "lora:film": ["A harbour"],
        "-lora:film": ["A fox in the snow"],
        "has:frame": ["A harbour"],
        "before:2024": ["A fox in the snow"],
        "after:2024 harb": ["A harbour"],
        "on:2023-11": ["A fox in the snow"],
        '"in the" -snow': [],
        '"in the" snow': ["A fox in the snow"],
        "%": [],
    }
    assert {search: prompts(library, words=search) for search in found} == found


def test_tags_are_found_removed_and_kept_when_the_file_is_renamed_or_trashed(library, paths):
    path = write(paths, "A fox")
    write(paths, "Another fox")
    clip = listed(library, words="-another")[0]
    assert library.change_tags([clip.id, "0" * 32], add=["Deep Sea", "été"]) == 1
    assert library.get(clip.id).tags == ("Deep Sea", "été")
    assert prompts(library, words='tag:"deep sea"') == ["A fox"]
    assert prompts(library, words="tag:deep") == []
    assert prompts(library, words="deep ete") == ["A fox"]
    assert library.tags() == ["Deep Sea", "été"]
    path.rename(paths.outputs / "renamed.mp4")
    library.restore(library.trash([listed(library, words="tag:ete")[0].id]))
    (clip,) = listed(library, words="tag:ete")
    # A tag in another case is the same one.
    library.change_tags([clip.id], add=["DEEP sea"], remove=["Été"])
    assert library.get(clip.id).tags == ("Deep Sea",)
    assert prompts(library, words="tag:ete") == []


def test_tags_and_collections_outlive_the_index_and_the_program(library, paths):
    write(paths, "A fox")
    library.change_tags([listed(library)[0].id], add=["sea"])
    library.save_collection(" My  sea ", "tag:sea")
    library.close()
    (paths.state / "library.db").unlink()
    again = Library(paths)
    assert prompts(again, words="tag:sea") == ["A fox"]
    assert again.collections() == {"My sea": "tag:sea"}
    again.delete_collection("My sea")
    assert (again.collections(), len(listed(again))) == ({}, 1)
    again.close()


def test_tags_that_were_edited_in_their_file_are_shown_after_a_restart(library, paths):
    write(paths, "A fox")
    library.change_tags([listed(library)[0].id], add=["sea"])
    library.close()
    file = paths.state / "tags.json"
    file.write_text(file.read_text(encoding="utf-8").replace("sea", "land"), encoding="utf-8")
    again = Library(paths)
    assert (prompts(again, words="tag:sea"), prompts(again, words="tag:land")) == ([], ["A fox"])
    again.close()


@pytest.mark.parametrize("damaged", ["", "[", "[1]", '{"a": 3}', '{"a": [3]}', "[" * 100_000])
def test_a_damaged_file_of_tags_is_put_aside(library, paths, damaged):
    write(paths, "A fox")
    (paths.state / "tags.json").write_text(damaged)
    assert listed(library)[0].tags == ()
    assert (paths.state / "tags.json.damaged-1").read_text() == damaged


@pytest.mark.parametrize(
    ("name", "search", "sentence"),
    [
        ("", "fox", "Name the collection"),
        ("x" * 61, "fox", "Name the collection"),
        ("All", "  ", "Search for something"),
    ],
)
def test_a_collection_needs_a_name_and_a_search(library, name, search, sentence):
    with pytest.raises(JobError, match=sentence):
        library.save_collection(name, search)


def test_a_clip_has_a_limited_number_of_tags_each_short_and_printable(library, paths):
    write(paths)
    (clip,) = listed(library)
    with pytest.raises(JobError, match="at most 20 tags"):
        library.change_tags([clip.id], add=map(str, range(21)))
    assert library.get(clip.id).tags == ()
    assert parse_tags(" sea,  deep   sea ,,SEA") == ["SEA", "deep sea"]
    for bad in ("x" * 41, 'a"b', "a\0b"):
        with pytest.raises(JobError, match="tag"):
            parse_tags(bad)


@pytest.mark.slow
def test_five_thousand_clips_are_searched_in_no_time(library, paths):
    source = write(paths, "A fox in the snow").read_bytes()
    stamp = Stamp(len(source), 0, True)
    facts = probe(next(paths.outputs.glob("*.mp4")))
    words = ["rain", "dawn", "harbour", "forest", "market", "child", "dog", "river", "night", "storm"]

    def read(number):
        spec = dataclasses.replace(
            facts.spec, prompt=f"{words[number % 10]} {words[number // 10 % 10]} " * 40, seed=number
        )
        return Read(f"{number}.mp4", stamp, f"{number:032x}", dataclasses.replace(facts, spec=spec, recipe=str(number)))

    library.refresh()
    library._index.update((), [read(number) for number in range(5000)], {})
    for search in ("", "storm river", "seed:4711", "-rain model:960 after:1960"):
        started = time.thread_time()
        page = library._index.select(Query(words=search, limit=48))
        assert page[1] > 0
        assert time.thread_time() - started < 0.2


def test_a_folder_that_was_scanned_a_moment_ago_is_scanned_again_only_if_asked(library, paths):
    assert prompts(library) == []
    write(paths, "A fox")
    assert not library.refresh(older_than=60)
    assert library.search(Query()).total == 0
    assert library.refresh()
    assert library.search(Query()).total == 1
