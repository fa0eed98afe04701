"""The library: which files are clips, finding them, their posters and favourites, and the index of them."""

import json
import os
import shutil
import sqlite3
import threading
import time

import numpy as np
import pytest
from library_clips import listed, picture, prompts, write
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.library import Library, Query

# What is a clip


def test_a_clip_is_listed_with_its_settings_size_and_poster(library, paths):
    path = write(paths, "A quiet harbour", seed=7)
    (clip,) = listed(library)
    assert (clip.spec.prompt, clip.spec.seed, clip.name) == ("A quiet harbour", 7, path.name)
    assert clip.size == (32, 64)
    assert clip.seconds == pytest.approx(9 / 24, abs=0.01)
    assert clip.made == pytest.approx(path.stat().st_mtime)
    assert clip.poster == path.with_suffix(".jpg")
    assert not clip.favourite
    assert library.get(clip.id) == clip


def test_broken_and_foreign_files_are_passed_over(library, paths):
    good = write(paths, "good")
    whole = good.read_bytes()
    (paths.outputs / "cut.mp4").write_bytes(whole[:-200])
    (paths.outputs / "cut early.mp4").write_bytes(whole[:300])
    (paths.outputs / "empty.mp4").touch()
    (paths.outputs / "noise.mp4").write_bytes(os.urandom(20 * 2**20))
    (paths.outputs / "foreign.mp4").write_bytes(whole.replace(b"Ovi Studio", b"Ivo Studio"))
    (paths.outputs / "unfinished.mp4.part").write_bytes(whole)
    (paths.outputs / "folder.mp4").mkdir()
    os.mkfifo(paths.outputs / "pipe.mp4")
    started = time.thread_time()
    assert prompts(library) == ["good"]
    assert time.thread_time() - started < 2


def test_a_clip_whose_header_is_damaged_anywhere_breaks_nothing(library, paths):
    whole = write(paths, "good").read_bytes()
    draw = np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(whole)
        for position in draw.integers(0, 3000, 5):
            damaged[position] = draw.integers(256)
        (paths.outputs / f"damaged_{number}.mp4").write_bytes(damaged)
    assert "good" in prompts(library, limit=200)


def test_a_clip_whose_frames_are_broken_is_not_listed_once_it_is_to_be_shown(library, paths):
    path = write(paths)
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(len(data) - start))
    path.with_suffix(".jpg").unlink()
    assert listed(library) == ()
    assert library.search(Query()).total == 0


def test_a_clip_being_copied_into_the_folder_appears_when_it_is_whole(library, paths):
    path = write(paths)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert listed(library) == ()
    path.write_bytes(whole)
    assert len(listed(library)) == 1


def test_links_are_not_clips(library, paths, tmp_path):
    write(paths)
    elsewhere = shutil.copy(next(paths.outputs.glob("*.mp4")), tmp_path / "secret.mp4")
    (paths.outputs / "link.mp4").symlink_to(elsewhere)
    assert len(listed(library)) == 1


def test_a_clip_replaced_by_a_link_after_it_was_listed_is_refused(library, paths, tmp_path):
    path = write(paths)
    (clip,) = listed(library)
    secret = tmp_path / "secret.mp4"
    path.rename(secret)
    path.symlink_to(secret)
    for use in (library.path, library.settings, library.last_frame):
        with pytest.raises(JobError, match="no longer in the library"):
            use(clip.id)
    assert library.trash([clip.id]) == []
    assert secret.exists()


@pytest.mark.parametrize(
    "hostile", ["", "../../jobs.db", "/etc/passwd", "a_32x64_100.mp4", "%", "0" * 32, "x" * 2**20, "' OR 1=1 --", "\0"]
)
def test_an_invalid_id_leads_nowhere(library, paths, hostile):
    write(paths)
    library.refresh()
    for use in (library.path, library.settings, library.last_frame, library.get):
        with pytest.raises(JobError, match="no longer in the library"):
            use(hostile)
    assert library.trash([hostile]) == []
    assert library.set_favourite([hostile], True) == 0


def test_ids_say_nothing_about_where_clips_are(library, paths):
    write(paths)
    (clip,) = listed(library)
    assert len(clip.id) == 32
    assert int(clip.id, 16) >= 0


# Looking


def test_new_and_deleted_files_are_noticed_and_nothing_else_is_a_change(library, paths):
    assert not library.refresh()
    path = write(paths)
    revision = library.revision
    assert library.refresh()
    assert library.revision > revision
    assert not library.refresh()
    path.unlink()
    assert library.refresh()
    assert listed(library) == ()


def test_an_output_folder_that_is_not_there_has_no_clips(library, paths):
    paths.outputs.rmdir()
    assert listed(library) == ()


def test_words_are_found_in_any_order_whatever_their_case_and_accents(library, paths):
    write(paths, "Ein FUCHS im Café, <S>Grüß dich<E>")
    write(paths, "Ein Hund im Café")
    assert len(prompts(library, words="cafe fuchs")) == 1
    assert len(prompts(library, words="CAFÉ ein")) == 2
    assert len(prompts(library, words="gruss")) == 1
    assert prompts(library, words="fuchs hund") == []


def test_signs_of_the_query_language_are_only_signs(library, paths):
    write(paths, "100% of it")
    write(paths, "a_b")
    assert prompts(library, words="%") == ["100% of it"]
    assert prompts(library, words="a_b' OR 1=1 --") == []
    assert prompts(library, words="x" * 2**21) == []


def test_filters_and_orders(library, paths):
    write(paths, "old", made=1000)
    write(paths, "middle", made=2000, first=picture())
    write(paths, "new", made=3000, variant="720x720_5s")
    assert prompts(library) == ["new", "middle", "old"]
    assert prompts(library, order="oldest") == ["old", "middle", "new"]
    assert prompts(library, variant="720x720_5s") == ["new"]
    assert prompts(library, with_picture=True) == ["middle"]
    assert prompts(library, with_picture=False) == ["new", "old"]
    assert library.variants() == ["720x720_5s", "960x960_5s"]


def test_pages_cover_everything_once(library, paths):
    for number in range(7):
        write(paths, f"clip {number}", made=1000)
    library.refresh()
    pages = [library.search(Query(limit=3, offset=offset)) for offset in (0, 3, 6)]
    assert [page.total for page in pages] == [7, 7, 7]
    assert len({clip.id for page in pages for clip in page.clips}) == 7


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 10**6}, {"offset": -1}, {"order": "name; DROP TABLE"}])
def test_a_query_out_of_its_limits_is_refused(wrong):
    with pytest.raises(JobError):
        Query(**wrong)


def test_prompts_come_back_as_they_are_script_tags_included(library, paths):
    hostile = "<script>alert(1)</script> ${7*7} {{x}}"
    write(paths, hostile)
    assert prompts(library, words="<script>") == [hostile]


# Posters


def test_a_missing_poster_is_made_from_the_frames(library, paths):
    path = write(paths)
    path.with_suffix(".jpg").unlink()
    (clip,) = listed(library)
    with Image.open(clip.poster) as image:
        assert image.size == (64, 32)
    assert not library.refresh() or library.search(Query()).clips == (clip,)


def test_a_poster_that_is_a_link_is_neither_shown_nor_followed(library, paths, tmp_path):
    path = write(paths)
    path.with_suffix(".jpg").unlink()
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    path.with_suffix(".jpg").symlink_to(secret)
    (clip,) = listed(library)
    assert clip.poster is None
    library.trash([clip.id])
    assert secret.read_bytes() == b"secret"


# Favourites


def test_favourites_are_marked_and_unmarked(library, paths):
    write(paths, "one")
    write(paths, "two")
    one = next(clip for clip in listed(library) if clip.spec.prompt == "one")
    assert library.set_favourite([one.id], True) == 1
    assert prompts(library, favourites_only=True) == ["one"]
    assert library.get(one.id).favourite
    library.set_favourite([one.id], False)
    assert prompts(library, favourites_only=True) == []


def test_favourites_survive_a_deleted_index_a_renamed_file_and_the_trash(library, paths):
    path = write(paths, "one")
    library.set_favourite([listed(library)[0].id], True)
    library.close()
    for file in paths.state.glob("library.db*"):
        file.unlink()
    path.rename(path.with_name("renamed.mp4"))
    again = Library(paths)
    (clip,) = listed(again)
    assert clip.favourite
    again.restore(again.trash([clip.id]))
    assert listed(again)[0].favourite


def test_a_damaged_file_of_favourites_is_kept_aside(library, paths):
    write(paths)
    (paths.state / "favourites.json").write_text("{damaged")
    assert not listed(library)[0].favourite
    assert (paths.state / "favourites.json.damaged-1").read_text() == "{damaged"


# The index


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + bytes(5000), b""])
def test_a_damaged_index_is_made_again(paths, content):
    write(paths)
    (paths.state / "library.db").write_bytes(content)
    assert len(listed(Library(paths))) == 1


def test_an_index_of_another_version_is_made_again(paths):
    write(paths)
    connection = sqlite3.connect(paths.state / "library.db")
    connection.executescript("CREATE TABLE files (x); PRAGMA user_version = 99;")
    connection.close()
    assert len(listed(Library(paths))) == 1


def test_many_threads_may_use_one_library(library, paths):
    for number in range(4):
        write(paths, f"clip {number}")
    errors = []

    def work() -> None:
        try:
            for _ in range(20):
                clips = listed(library)
                library.set_favourite([clips[0].id], True)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# Many


@pytest.mark.slow
def test_five_thousand_clips_stay_quick(library, paths):
    original = write(paths, "word " * 100)
    data = original.read_bytes()
    for number in range(5000):
        (paths.outputs / f"clip_{number}.mp4").write_bytes(data)
        os.link(original.with_suffix(".jpg"), paths.outputs / f"clip_{number}.jpg")
    # Time on the processor: other programs on the machine do not count.
    started = time.thread_time()
    library.refresh()
    times = {"first": time.thread_time() - started}
    for name, act in {
        "unchanged": library.refresh,
        "search": lambda: library.search(Query(words="word clip")),
        "page": lambda: library.search(Query(words="word", offset=4000)),
    }.items():
        seconds = []
        for _ in range(9):
            started = time.thread_time()
            act()
            seconds.append(time.thread_time() - started)
        times[name] = min(seconds)
    print(json.dumps({name: f"{1000 * value:.0f} ms" for name, value in times.items()}))
    assert library.search(Query()).total == 5001
    assert times["unchanged"] < 0.1
    assert times["search"] < 0.05
    assert times["page"] < 0.05
