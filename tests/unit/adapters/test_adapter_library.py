"""The adapter folder: its files are found, described and hashed; what does not belong there is refused."""

import json
import os
import shutil
import sys
import time
import unicodedata
from pathlib import Path

import pytest
import torch
from adapter_helpers import parameter_shapes
from PIL import Image
from places import REFERENCE
from safetensors.torch import save_file

from ovi_studio.adapters import library as library_module
from ovi_studio.adapters.describe import MAX_TEXT, MAX_WORDS, clean_text, describe
from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.names import NameMap
from ovi_studio.adapters.report import fit, fit_contents, format_library
from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.adapter_stack import combined_sha256, parse_stack
from ovi_studio.core.errors import JobError

LORA = REFERENCE / "lora" / "native_ab.safetensors"
MUSUBI = REFERENCE / "lora" / "musubi.safetensors"
PEFT = REFERENCE / "lora" / "peft_rslora"


@pytest.fixture
def library(tmp_path: Path) -> AdapterLibrary:
    (tmp_path / "loras").mkdir()
    return AdapterLibrary(tmp_path / "loras")


def names_of(library: AdapterLibrary) -> list[str]:
    return [entry.name for entry in library.scan()]


def aged(path: Path, seconds: float = 3600) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_a_missing_folder_is_empty(tmp_path: Path) -> None:
    assert AdapterLibrary(tmp_path / "nowhere").scan() == []


def test_new_adapters_appear_at_any_depth_without_a_restart(library: AdapterLibrary) -> None:
    assert names_of(library) == []
    shutil.copy(LORA, library.directory / "a.safetensors")
    assert names_of(library) == ["a.safetensors"]
    deep = library.directory / "styles" / "old" / "films"
    deep.mkdir(parents=True)
    shutil.copy(LORA, deep / "b.safetensors")
    shutil.copytree(PEFT, library.directory / "peft")
    assert names_of(library) == ["a.safetensors", "peft", "styles/old/films/b.safetensors"]
    (library.directory / "a.safetensors").unlink()
    assert names_of(library) == ["peft", "styles/old/films/b.safetensors"]


def test_a_file_that_is_being_copied_is_not_shown_until_it_is_complete(library: AdapterLibrary) -> None:
    content = LORA.read_bytes()
    path = library.directory / "a.safetensors"
    for part in (0, 5, 100, len(content) // 2):
        path.write_bytes(content[:part])
        assert names_of(library) == []
    path.write_bytes(content)
    assert names_of(library) == ["a.safetensors"]


def test_a_file_that_grows_with_an_old_date_is_not_shown(library: AdapterLibrary) -> None:
    content = LORA.read_bytes()
    path = library.directory / "a.safetensors"
    path.write_bytes(content[:100])
    aged(path)
    library.scan()
    path.write_bytes(content[:200])
    aged(path)
    assert names_of(library) == []


def test_a_file_that_stays_damaged_is_shown_with_its_problem(library: AdapterLibrary) -> None:
    aged(Path(shutil.copy(REFERENCE / "lora" / "rejected" / "truncated.safetensors", library.directory)))
    aged(Path(shutil.copy(REFERENCE / "lora" / "rejected" / "pickle.pt", library.directory)))
    problems = {entry.name: entry.problem or "" for entry in library.scan()}
    assert "was cut off" in problems["truncated.safetensors"]
    assert "is a pickle" in problems["pickle.pt"]
    with pytest.raises(JobError, match="is a pickle"):
        library.find("pickle.pt")


def test_unchanged_files_are_not_read_again(library: AdapterLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(LORA, library.directory / "a.safetensors")
    first = library.scan()
    monkeypatch.setattr(library_module, "read_header", lambda path: pytest.fail("read again"))
    assert [entry.id for entry in library.scan()] == [entry.id for entry in first]


def test_hidden_files_and_other_suffixes_are_ignored(library: AdapterLibrary) -> None:
    for name in (".a.safetensors", "a.safetensors.part", "readme.md", "a.txt"):
        shutil.copy(LORA, library.directory / name)
    assert names_of(library) == []


def test_an_adapter_is_found_by_name_short_name_and_id(library: AdapterLibrary) -> None:
    (library.directory / "styles").mkdir()
    path = Path(shutil.copy(LORA, library.directory / "styles" / "film.safetensors"))
    (entry,) = library.scan()
    assert entry.id.isalnum()
    assert library.get(entry.id) == entry
    for name in ("styles/film.safetensors", "styles/film", "film", "film.safetensors"):
        assert library.path(name) == path
    shutil.copy(LORA, library.directory / "film.safetensors")
    assert library.path("film") == library.directory / "film.safetensors"
    (library.directory / "films").mkdir()
    (library.directory / "film.safetensors").rename(library.directory / "films" / "film.safetensors")
    with pytest.raises(JobError, match="give its full name"):
        library.path("film")


@pytest.mark.parametrize(
    "written",
    ["Stile/Blüte", "Stile\\Blüte.safetensors", "STILE/BLÜTE", "blüte", "Stile/Blu\u0308te", "blu\u0308te.SAFETENSORS"],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_as_any_system_writes_it(library: AdapterLibrary, written: str, form: str) -> None:
    folder = library.directory / "Stile"
    folder.mkdir()
    path = Path(shutil.copy(LORA, folder / unicodedata.normalize(form, "Blüte.safetensors")))
    assert library.path(written) == path


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there have no case")
def test_the_same_case_counts_more_than_another(library: AdapterLibrary) -> None:
    for name in ("Film", "FILM"):
        shutil.copy(LORA, library.directory / f"{name}.safetensors")
    assert library.path("FILM") == library.directory / "FILM.safetensors"
    with pytest.raises(JobError, match=r"could be FILM\.safetensors or Film\.safetensors"):
        library.path("film")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "styles/../../secret.safetensors", "", "\0", "secret"])
def test_names_reach_nothing_outside_the_folder(library: AdapterLibrary, name: str) -> None:
    shutil.copy(LORA, library.directory.parent / "secret.safetensors")
    with pytest.raises(JobError, match="There is no adapter"):
        library.path(name)
    with pytest.raises(JobError, match="no longer exists"):
        library.get(name)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_links_to_other_places_are_refused(library: AdapterLibrary) -> None:
    outside = library.directory.parent / "outside"
    outside.mkdir()
    shutil.copy(LORA, outside / "secret.safetensors")
    (outside / "secret.json").write_text('{"title": "secret"}')
    (library.directory / "link.safetensors").symlink_to(outside / "secret.safetensors")
    (library.directory / "folder").symlink_to(outside)
    peft = library.directory / "peft"
    shutil.copytree(PEFT, peft)
    (peft / "adapter_model.safetensors").unlink()
    (peft / "adapter_model.safetensors").symlink_to(outside / "secret.safetensors")
    shutil.copy(LORA, library.directory / "plain.safetensors")
    (library.directory / "plain.json").symlink_to(outside / "secret.json")
    aged(library.directory)
    entries = {entry.name: entry for entry in library.scan()}
    assert "folder/secret.safetensors" not in entries
    assert "link to another place" in (entries["link.safetensors"].problem or "")
    assert entries["plain.safetensors"].description.title == ""
    for name in ("link.safetensors", "peft"):
        with pytest.raises(JobError):
            library.path(name)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_the_folder_itself_may_be_a_link(library: AdapterLibrary, tmp_path: Path) -> None:
    shutil.copy(LORA, library.directory / "a.safetensors")
    (tmp_path / "linked").symlink_to(library.directory)
    assert names_of(AdapterLibrary(tmp_path / "linked")) == ["a.safetensors"]


def test_the_hash_covers_the_file_or_both_files_of_a_peft_folder(library: AdapterLibrary) -> None:
    shutil.copy(LORA, library.directory / "a.safetensors")
    shutil.copytree(PEFT, library.directory / "peft")
    file, folder = library.scan()
    assert library.sha256(file) == file_sha256(LORA)
    config, weights = (PEFT / name for name in ("adapter_config.json", "adapter_model.safetensors"))
    assert library.sha256(folder) == combined_sha256(file_sha256(weights), file_sha256(config))


def test_new_files_are_read_in_the_background_once(library: AdapterLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(library_module, "BackgroundReader", lambda _, new: read.extend(entry.path for entry in new))
    path = Path(shutil.copy(LORA, library.directory / "a.safetensors"))
    library.scan()
    library.scan()
    assert read == [path]
    shutil.copy(MUSUBI, path)
    library.scan()
    assert read == [path, path]


def test_matching_needs_only_the_header(library: AdapterLibrary) -> None:
    shutil.copy(LORA, library.directory / "a.safetensors")
    names = NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))
    assert library.match(library.scan()[0], names).summary().startswith("9 of 9 layers matched")


def test_nan_is_found_when_a_file_is_listed(library: AdapterLibrary) -> None:
    shutil.copy(REFERENCE / "lora" / "rejected" / "nan.safetensors", library.directory)
    shutil.copy(LORA, library.directory / "good.safetensors")
    names = NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))
    fits = {entry.name: fit_contents(entry, library, names) for entry in library.scan()}
    assert fits["good.safetensors"].usable
    assert not fits["nan.safetensors"].usable
    assert "contains NaN or infinite values" in fits["nan.safetensors"].details
    assert "cannot be used" in format_library(library, names)


def test_the_background_finds_nan_without_being_asked(library: AdapterLibrary) -> None:
    shutil.copy(REFERENCE / "lora" / "rejected" / "nan.safetensors", library.directory)
    names = NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))
    deadline = time.monotonic() + 60
    while not (found := library.scan()[0]).contents and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "NaN" in fit(found, library, names).details


def test_an_adapter_of_zeros_is_listed_as_one_that_changes_nothing(library: AdapterLibrary) -> None:
    shapes = {"lora_A": (2, 64), "lora_B": (64, 2)}
    tensors = {f"blocks.0.self_attn.q.{half}.weight": torch.ones(shape) for half, shape in shapes.items()}
    save_file(tensors | {"blocks.0.self_attn.q.alpha": torch.zeros(())}, library.directory / "a.safetensors")
    names = NameMap(parameter_shapes(REFERENCE / "fusion.weights.safetensors"))
    assert fit_contents(library.scan()[0], library, names).badge == "changes nothing"
    assert "a.safetensors  (" in format_library(library, names)
    assert "changes nothing" in format_library(library, names)


def test_a_pinned_stack_has_the_hash_of_every_file_that_it_uses(library: AdapterLibrary) -> None:
    path = Path(shutil.copy(LORA, library.directory / "a.safetensors"))
    stack = parse_stack([{"name": "A", "video": "0.5"}, {"name": "gone", "video": 0, "audio": 0}])
    pinned = library.pin(stack)
    assert [use.sha256 for use in pinned] == [file_sha256(LORA), None]
    assert [(use.name, use.video) for use in pinned] == [(use.name, use.video) for use in stack]
    assert library.pin(pinned) == pinned
    shutil.copy(MUSUBI, path)
    with pytest.raises(JobError, match="not the file that the clip was made with"):
        library.pin(pinned)
    with pytest.raises(JobError, match="a and A are the same adapter"):
        library.pin(parse_stack([{"name": "a"}, {"name": "A"}]))


# Descriptions


def test_metadata_of_trainers_describes_an_adapter(library: AdapterLibrary) -> None:
    shutil.copy(MUSUBI, library.directory / "a.safetensors")
    (entry,) = library.scan()
    assert entry.description.base_model == "wan2.2-ti2v-5b"
    assert entry.title == "a"


def test_modelspec_metadata_is_understood() -> None:
    metadata = {
        "modelspec.title": "Old film",
        "modelspec.trigger_phrase": "0ld film, grain",
        "modelspec.license": "MIT",
    }
    found = describe(metadata, {})
    assert (found.title, found.licence, found.trigger_words) == ("Old film", "MIT", ("0ld film", "grain"))
    assert found.video_strength == found.audio_strength == 1.0


@pytest.mark.parametrize(
    "sidecar",
    [
        {"trigger_words": ["a", "b"], "strength": {"video": 0.7, "audio": 0.2}, "licence": "MIT"},
        {"trainedWords": ["a", "b"], "strength": {"video": 0.7, "audio": 0.2}, "license": "MIT"},
        {"activation text": "a, b", "recommended_strength": {"video": 0.7, "audio": 0.2}, "license": "MIT"},
    ],
)
def test_a_sidecar_describes_an_adapter_with_the_keys_of_several_apps(
    library: AdapterLibrary, sidecar: dict[str, object]
) -> None:
    shutil.copy(MUSUBI, library.directory / "a.safetensors")
    (library.directory / "a.json").write_text(json.dumps({**sidecar, "base_model": "Wan 2.2 5B"}))
    Image.new("RGB", (4, 4)).save(library.directory / "a.png")
    (entry,) = library.scan()
    found = entry.description
    assert (found.trigger_words, found.licence) == (("a", "b"), "MIT")
    assert (found.video_strength, found.audio_strength) == (0.7, 0.2)
    assert found.base_model == "Wan 2.2 5B", "the sidecar counts more than the metadata"
    assert entry.preview == library.directory / "a.png"


def test_the_sidecar_and_preview_of_a_peft_folder_are_next_to_it(library: AdapterLibrary) -> None:
    shutil.copytree(PEFT, library.directory / "v1.5")
    (library.directory / "v1.5.json").write_text('{"title": "Version"}')
    Image.new("RGB", (4, 4)).save(library.directory / "v1.5.webp")
    (entry,) = library.scan()
    assert (entry.title, entry.preview) == ("Version", library.directory / "v1.5.webp")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "[" * 100_000, '{"strength": NaN}', '{"strength": "x", "title": 5}', "\xff"]
)
def test_an_unreadable_sidecar_describes_nothing(library: AdapterLibrary, text: str) -> None:
    shutil.copy(LORA, library.directory / "a.safetensors")
    (library.directory / "a.json").write_text(text, encoding="latin-1")
    (entry,) = library.scan()
    assert entry.title == "a"
    assert entry.description.video_strength == 1.0


def test_untrusted_texts_are_truncated_and_cleaned() -> None:
    assert clean_text("a\u202eb\0c\n\nd") == "a b c d"
    assert len(clean_text("x" * 1_000_000)) == MAX_TEXT
    assert clean_text(5) == ""
    words = describe({}, {"trigger_words": [f"w{index}" for index in range(1000)]}).trigger_words
    assert len(words) == MAX_WORDS


def test_shipped_adapters_are_found_and_own_ones_of_the_same_name_replace_them(tmp_path: Path) -> None:
    own, shipped = tmp_path / "loras", tmp_path / "shipped"
    shipped.mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        shutil.copy(LORA, shipped / name)
    library = AdapterLibrary(own, shipped)
    assert names_of(library) == ["a.safetensors", "b.safetensors"]
    own.mkdir()
    shutil.copy(LORA, own / "b.safetensors")
    shutil.copy(LORA, own / "c.safetensors")
    assert names_of(library) == ["b.safetensors", "c.safetensors", "a.safetensors"]
    assert library.path("a") == shipped / "a.safetensors"
    assert library.path("b") == own / "b.safetensors"
