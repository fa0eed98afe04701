"""The library: which files are clips, finding them, using them again, and putting them away without losing one."""

import dataclasses
import io
import json
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clip_reading import read_frames
from PIL import Image

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.clip import Clip, Picture
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.library import Library, LibraryClip, Query
from ovi_studio.library.index import Read, Stamp
from ovi_studio.library.marks import parse_tags
from ovi_studio.library.probe import probe
from ovi_studio.media import clip_files
from ovi_studio.media.clip_files import FirstFrameMissing
from ovi_studio.media.pictures import decode_picture
from ovi_studio.queue.paths import StudioPaths


@pytest.fixture
def paths(tmp_path: Path) -> StudioPaths:
    found = StudioPaths.of(tmp_path / "outputs")
    found.prepare()
    return found


@pytest.fixture
def library(paths: StudioPaths):
    opened = Library(paths)
    yield opened
    opened.close()


def picture() -> Picture:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 40, 20)).save(buffer, "PNG")
    return decode_picture(buffer.getvalue(), "test")


def write(paths: StudioPaths, prompt: str = "A clip", *, first: Picture | None = None, made: float = 0, **spec) -> Path:
    rows, columns = np.mgrid[:32, :64]
    frames = np.stack([np.stack([rows * 4, columns * 2, rows + 9 * t], -1) for t in range(9)]).astype(np.uint8)
    settings = {"prompt": prompt, "variant": "960x960_5s", "image": Path("/home/me/first.png") if first else None}
    clip = Clip(ClipSpec(**settings | spec), frames, np.zeros(6000, np.float32), first, {"nonce": os.urandom(4).hex()})
    path = clip_files.write_clip(clip, paths.outputs)
    if made:
        os.utime(path, (made, made))
    return path


def listed(library: Library, **query) -> tuple[LibraryClip, ...]:
    library.refresh()
    return library.search(Query(**query)).clips


def prompts(library: Library, **query) -> list[str]:
    return [clip.spec.prompt for clip in listed(library, **query)]


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
    started = time.perf_counter()
    assert prompts(library) == ["good"]
    assert time.perf_counter() - started < 2


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


# Using a clip again


def test_settings_bring_the_first_frame_along(library, paths):
    first = picture()
    write(paths, "with picture", first=first, seed=3)
    (clip,) = listed(library)
    assert clip.spec.image == Path("first.png")
    spec = library.settings(clip.id)
    assert spec.image.parent == paths.pictures
    assert spec.image.read_bytes() == first.data
    assert dataclasses.replace(spec, image=None) == dataclasses.replace(clip.spec, image=None)


def test_the_last_frame_is_the_one_that_players_show(library, paths):
    path = write(paths)
    (clip,) = listed(library)
    found = library.last_frame(clip.id)
    assert found.parent == paths.pictures
    assert library.last_frame(clip.id) == found
    with Image.open(found) as image:
        np.testing.assert_array_equal(np.asarray(image), read_frames(path)[-1])


def test_the_poster_that_is_made_is_the_frame_that_the_writer_takes(paths):
    from ovi_studio.media.frames import read_frame

    path = write(paths)
    frames = read_frames(path)
    np.testing.assert_array_equal(read_frame(path, 4), frames[4])
    np.testing.assert_array_equal(read_frame(path, 400), frames[-1])


def test_a_clip_from_elsewhere_gives_its_settings_and_is_not_kept(library, paths, tmp_path):
    upload = Path(shutil.move(write(paths, "from afar", first=picture()), tmp_path / "upload.mp4"))
    spec = library.adopt(upload)
    assert spec.prompt == "from afar"
    assert spec.image.parent == paths.pictures
    assert upload.exists()
    assert listed(library) == ()


def clear_tags(path: Path) -> None:
    """What a service does that makes the tags free space."""
    path.write_bytes(path.read_bytes().replace(b"udta", b"free", 1))


def test_a_clip_whose_tags_were_cleared_stays_the_same_clip(library, paths):
    path = write(paths, "cleared", seed=7)
    (before,) = listed(library)
    library.set_favourite([before.id], True)
    clear_tags(path)
    assert b"udta" not in path.read_bytes()
    os.utime(path, (before.made + 1, before.made + 1))
    (after,) = listed(library)
    assert after == dataclasses.replace(before, made=after.made, favourite=True)


def test_a_cleared_clip_from_a_picture_can_be_continued_and_says_what_is_missing(library, paths, tmp_path):
    clear_tags(write(paths, "cleared", first=picture(), seed=3))
    (clip,) = listed(library)
    frame = library.last_frame(clip.id)
    assert library.settings(clip.id, frame).image == frame
    upload = Path(shutil.copy(paths.outputs / clip.name, tmp_path / "upload.mp4"))
    for use in (lambda: library.settings(clip.id), lambda: library.adopt(upload)):
        with pytest.raises(FirstFrameMissing, match="choose the picture again") as caught:
            use()
        assert str(tmp_path) not in str(caught.value)
        assert (caught.value.spec.seed, caught.value.spec.image) == (3, None)


def test_a_poster_gives_its_settings_also_one_that_was_made_later(library, paths, tmp_path):
    poster = write(paths, "from afar", seed=9).with_suffix(".jpg")
    upload = Path(shutil.move(poster, tmp_path / "upload.jpg"))
    assert (library.adopt(upload).prompt, library.adopt(upload).seed) == ("from afar", 9)
    (clip,) = listed(library)
    assert clip.poster == poster
    assert library.adopt(Path(shutil.copy(poster, upload))).prompt == "from afar"


def test_a_clip_from_before_a_setting_existed_keeps_what_was_done_then(library, paths):
    path = write(paths, "old", first=picture())
    field = b'"raw_colours": false, '
    assert path.read_bytes().count(field) == 2
    path.write_bytes(path.read_bytes().replace(field, b" " * len(field)))
    (clip,) = listed(library)
    assert clip.spec.raw_colours
    assert library.settings(clip.id).raw_colours
    with sqlite3.connect(paths.state / "library.db") as index:  # as it was written then
        index.execute("UPDATE files SET spec = replace(spec, '\"raw_colours\": true, ', '')")
        assert index.total_changes == 1
    index.close()
    assert library.get(clip.id).spec.raw_colours


@pytest.mark.parametrize("content", [b"", b"<script>", os.urandom(2**20), bytes(20 * 2**20)])
def test_an_upload_that_is_not_a_clip_is_refused_without_its_path(library, tmp_path, content):
    upload = tmp_path / "upload.mp4"
    upload.write_bytes(content)
    with pytest.raises(JobError) as caught:
        library.adopt(upload)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(JobError):
        library.adopt(tmp_path / "missing.mp4")


# The trash


def test_trash_and_restore_move_clip_and_poster_together(library, paths):
    path = write(paths, "one")
    content = path.read_bytes()
    (clip,) = listed(library)
    (trashed,) = library.trash([clip.id])
    assert list(paths.outputs.iterdir()) == []
    assert library.search(Query()).total == 0
    (entry,) = library.trashed()
    assert (entry.id, entry.prompt, entry.name) == (trashed, "one", path.name)
    assert entry.poster.is_file()
    assert entry.trashed == pytest.approx(time.time(), abs=60)
    assert library.restore([trashed]) == 1
    assert library.search(Query()).clips == (clip,)
    assert path.read_bytes() == content
    assert sorted(file.suffix for file in paths.outputs.iterdir()) == [".jpg", ".mp4"]
    assert library.trashed() == []


def test_restoring_never_replaces_a_clip_of_the_same_name(library, paths):
    path = write(paths, "one")
    first = library.trash([listed(library)[0].id])
    assert write(paths, "one") == path
    second = library.trash([listed(library)[0].id])
    write(paths, "one")
    kept = path.read_bytes()
    assert len(library.trashed()) == 2
    library.restore([*first, *second])
    assert path.read_bytes() == kept
    assert len({clip.id for clip in listed(library)}) == 3
    assert len(list(paths.outputs.glob("*.jpg"))) == 3
    assert not list(paths.outputs.glob("*.part*"))


def test_emptying_the_trash_deletes_only_what_was_put_there(library, paths):
    write(paths, "keep")
    write(paths, "away")
    away = next(clip for clip in listed(library) if clip.spec.prompt == "away")
    library.trash([away.id])
    strange = paths.state / "trash" / "my notes"
    strange.mkdir()
    (paths.state / "trash" / ("a" * 24)).symlink_to(paths.outputs)
    emptied = library.empty_trash()
    assert library.trashed() == []
    library.delete_trashed(emptied)
    assert sorted(entry.name for entry in (paths.state / "trash").iterdir()) == ["a" * 24, "my notes"]
    assert prompts(library) == ["keep"]
    assert strange.is_dir()
    assert library.trashed() == []


def test_an_emptied_trash_keeps_its_files_until_they_are_deleted(library, paths):
    write(paths, "away")
    library.trash([listed(library)[0].id])
    revision = library.revision
    emptied = library.empty_trash()
    assert library.revision > revision
    assert library.empty_trash() == []
    # The program was killed: another one finds them where they were.
    again = Library(paths)
    assert [clip.prompt for clip in again.trashed()] == ["away"]
    again.close()
    library.refill_trash(emptied)
    assert [clip.prompt for clip in library.trashed()] == ["away"]


def test_a_clip_that_comes_back_from_an_emptied_trash_is_not_deleted(library, paths):
    write(paths, "away")
    trashed = library.trash([listed(library)[0].id])
    emptied = library.empty_trash()
    library.restore(trashed)
    library.delete_trashed(emptied)
    assert prompts(library) == ["away"]


@pytest.mark.parametrize("hostile", ["", "..", "../../outputs", "0" * 24, "/etc"])
def test_restoring_what_is_not_in_the_trash_is_refused(library, hostile):
    with pytest.raises(JobError, match="no longer in the trash"):
        library.restore([hostile])


def test_a_clip_that_cannot_be_moved_stays_whole(library, paths, monkeypatch):
    path = write(paths)
    (clip,) = listed(library)
    rename = Path.rename

    def refuse(source: Path, target: Path) -> Path:
        if source.suffix == ".mp4":
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(JobError, match="space"):
        library.trash([clip.id])
    assert path.exists()
    assert path.with_suffix(".jpg").exists()
    assert library.trashed() == []


def test_a_trash_on_another_disk_works(library, paths, monkeypatch):
    path = write(paths)
    content = path.read_bytes()
    (clip,) = listed(library)

    def refuse(source: Path, target: Path) -> Path:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    trashed = library.trash([clip.id])
    assert list(paths.outputs.iterdir()) == []
    library.restore(trashed)
    assert path.read_bytes() == content


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


# Searching, tags and collections


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
        started = time.perf_counter()
        page = library._index.select(Query(words=search, limit=48))
        assert page[1] > 0
        assert time.perf_counter() - started < 0.2


def test_a_folder_that_was_scanned_a_moment_ago_is_scanned_again_only_if_asked(library, paths):
    assert prompts(library) == []
    write(paths, "A fox")
    assert not library.refresh(older_than=60)
    assert library.search(Query()).total == 0
    assert library.refresh()
    assert library.search(Query()).total == 1


# Clips from elsewhere


def test_a_clip_from_elsewhere_is_added_once_and_replaces_nothing(library, paths, tmp_path):
    there = dataclasses.replace(paths, outputs=tmp_path / "there")
    upload = write(there, "From elsewhere")
    (paths.outputs / "fox.mp4").write_bytes(b"not a clip")
    copy = tmp_path / "copy.mp4"
    shutil.copy(upload, copy)
    clip, new = library.add(upload, "fox.mp4")
    assert new
    assert library.get(clip).name == "fox_2.mp4"
    assert (paths.outputs / "fox.mp4").read_bytes() == b"not a clip"
    assert not upload.exists()
    assert library.add(copy, "other.mp4") == (clip, False)
    assert [path.name for path in paths.outputs.glob("*.part")] == []


def test_what_is_no_clip_of_this_app_is_not_added(library, paths, tmp_path):
    broken = tmp_path / "holiday.mp4"
    broken.write_bytes(write(paths).read_bytes()[:-9])
    with pytest.raises(JobError, match="is damaged or was not made by Ovi Studio"):
        library.add(broken, "holiday.mp4")
    assert len(list(paths.outputs.glob("*.mp4"))) == 1
