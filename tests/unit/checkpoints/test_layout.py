"""What a checkpoint directory may look like, and what is found wrong with one."""

import errno
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ovi_studio.checkpoints.disk import free_space
from ovi_studio.checkpoints.layout import Inventory, complete_variants, require, take_inventory
from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import EMBEDDED_BUNDLE, Part, published_variants

VARIANT = published_variants()["720x720_5s"]


def safetensors(size: int = 64) -> bytes:
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def write(path: Path) -> Path:
    """A whole file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        path.write_bytes(safetensors())
    elif path.suffix == ".pth":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", bytes(1000))
    elif path.suffix == ".pt":
        path.write_bytes(b"\x80\x02old pickle")
    else:
        path.write_text("{}")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """As the official code leaves it."""
    for files in VARIANT.files.values():
        for file in files:
            write(tmp_path / file.location)
    return tmp_path


def location(directory: Path, part: Part) -> Path:
    return directory / VARIANT.files[part][0].location


def problem(directory: Path) -> tuple[Part, Path, str]:
    """The only problem there is."""
    (found,) = take_inventory(VARIANT, directory).problems
    return found.part, found.path, found.reason


def test_a_directory_of_the_official_code_works_as_it_is(directory: Path) -> None:
    inventory = require(VARIANT.name, directory)
    assert inventory.complete
    assert inventory.files[Part.VIDEO_VAE] == (directory / "Wan2.2-TI2V-5B" / "Wan2.2_VAE.pth",)
    assert len(inventory.files[Part.TOKENIZER]) == 4
    assert next(variant.name for variant in complete_variants(directory)) == VARIANT.name


def test_an_empty_directory_lacks_every_part(tmp_path: Path) -> None:
    inventory = take_inventory(VARIANT, tmp_path / "nothing")
    assert [problem.part for problem in inventory.problems] == list(Part)
    assert {problem.reason for problem in inventory.problems} == {"is missing"}


def test_safetensors_of_the_same_name_stand_for_a_torch_file(directory: Path) -> None:
    for part in (Part.TEXT_ENCODER, Part.VIDEO_VAE, Part.AUDIO_VAE, Part.VOCODER):
        official = location(directory, part)
        official.unlink()
        converted = write(official.with_suffix(".safetensors"))
        assert take_inventory(VARIANT, directory).files[part] == (converted,)
    assert take_inventory(VARIANT, directory).complete


def in_shards(official: Path) -> list[Path]:
    official.unlink()
    shards = [official.with_name(f"model-0000{number}-of-00002.safetensors") for number in (1, 2)]
    index = official.with_name(official.with_suffix(".safetensors").name + ".index.json")
    index.write_text(json.dumps({"weight_map": {f"layer{number}": shard.name for number, shard in enumerate(shards)}}))
    return [write(shard) for shard in shards]


def test_shards_with_an_index_stand_for_a_file(directory: Path) -> None:
    for part in (Part.TRANSFORMER, Part.TEXT_ENCODER):
        shards = in_shards(location(directory, part))
        assert take_inventory(VARIANT, directory).files[part] == tuple(shards)


def test_a_missing_shard_is_named(directory: Path) -> None:
    shards = in_shards(location(directory, Part.TRANSFORMER))
    shards[1].unlink()
    assert problem(directory) == (Part.TRANSFORMER, shards[1], "is missing")


def test_an_index_cannot_point_outside_its_folder(directory: Path) -> None:
    in_shards(location(directory, Part.TRANSFORMER))
    index = directory / "Ovi" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"layer": "../../elsewhere.safetensors"}}))
    assert problem(directory)[1] == directory / "Ovi" / "elsewhere.safetensors"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_an_unreadable_index_is_named(directory: Path, content: str) -> None:
    in_shards(location(directory, Part.TRANSFORMER))
    index = directory / "Ovi" / "model.safetensors.index.json"
    index.write_text(content)
    assert problem(directory) == (Part.TRANSFORMER, index, "is not an index of safetensors files")


def test_a_clone_of_a_diffusers_repository_stands_for_its_parts(directory: Path) -> None:
    for part in (Part.TEXT_ENCODER, Part.TOKENIZER, Part.VIDEO_VAE):
        location(directory, part).unlink()
    clone = directory / "Wan2.2-TI2V-5B-Diffusers"
    weights = write(clone / "vae" / "diffusion_pytorch_model.safetensors")
    tokenizer = write(clone / "tokenizer" / "tokenizer.json")
    encoder = write(clone / "text_encoder" / "model-00001-of-00001.safetensors")
    index = encoder.with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"weight_map": {"layer": encoder.name}}))
    files = require(VARIANT.name, directory).files
    assert files[Part.VIDEO_VAE] == (weights,)
    assert files[Part.TOKENIZER] == (tokenizer,)
    assert files[Part.TEXT_ENCODER] == (encoder,)


def test_a_missing_file_is_named_even_if_its_neighbours_are_there(directory: Path) -> None:
    missing = directory / VARIANT.files[Part.TOKENIZER][2].location
    missing.unlink()
    assert problem(directory) == (Part.TOKENIZER, missing, "is missing")


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Take the right to look into a folder away, also from root."""
    stat = Path.stat

    def close(folder: Path) -> None:
        def refuse(path: Path, **options: bool) -> os.stat_result:
            if path != folder and path.is_relative_to(folder):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return stat(path, **options)

        monkeypatch.setattr(Path, "stat", refuse)

    return close


def test_a_folder_that_cannot_be_read_is_a_problem_of_its_files_and_not_the_end(
    directory: Path, close: Callable[[Path], None]
) -> None:
    close(directory / "MMAudio")
    assert [(problem.part, problem.reason) for problem in take_inventory(VARIANT, directory).problems] == [
        (part, "cannot be read (Permission denied)") for part in (Part.AUDIO_VAE, Part.VOCODER)
    ]


def test_a_checkpoint_directory_that_cannot_be_read_leaves_the_embedded_model(
    directory: Path, close: Callable[[Path], None]
) -> None:
    close(directory)
    assert [variant.root for variant in complete_variants(directory)] == [EMBEDDED_BUNDLE]
    assert free_space(directory / "Ovi") > 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def cut_in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def web_page(path: Path) -> None:
    path.write_text("\n<!DOCTYPE html><html><title>Log in</title></html>")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134217728\n")


def too_long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


@pytest.mark.parametrize(
    ("part", "spoil", "reason"),
    [
        (Part.TRANSFORMER, cut, "has 129 bytes where its header says 139"),
        (Part.TRANSFORMER, too_long, "has 140 bytes where its header says 139"),
        (Part.TRANSFORMER, cut_in_header, "is not a safetensors file (or its header is truncated)"),
        (Part.TRANSFORMER, empty, "is not a safetensors file (or its header is truncated)"),
        (Part.TRANSFORMER, web_page, "is a web page, not a model file"),
        (Part.TRANSFORMER, pointer, "is a git-lfs pointer, not the file itself"),
        (Part.VIDEO_VAE, cut, "is truncated (its zip directory is missing)"),
        (Part.VIDEO_VAE, empty, "is not a PyTorch checkpoint file"),
        (Part.VIDEO_VAE, web_page, "is a web page, not a model file"),
        (Part.VIDEO_VAE, pointer, "is a git-lfs pointer, not the file itself"),
        (Part.VOCODER, web_page, "is a web page, not a model file"),
        (Part.TOKENIZER, empty, "is empty"),
        (Part.TOKENIZER, web_page, "is a web page, not a model file"),
        (Part.TOKENIZER, pointer, "is a git-lfs pointer, not the file itself"),
    ],
)
def test_a_damaged_file_is_found_without_reading_it_whole(
    directory: Path, part: Part, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(location(directory, part))
    assert problem(directory) == (part, location(directory, part), reason)


def test_the_refusal_names_every_bad_file_and_the_command_that_fetches_it(directory: Path) -> None:
    cut(location(directory, Part.TRANSFORMER))
    location(directory, Part.VOCODER).unlink()
    with pytest.raises(JobError) as caught:
        require(VARIANT.name, directory)
    sentence = str(caught.value)
    assert f"transformer {location(directory, Part.TRANSFORMER)} has 129 bytes" in sentence
    assert f"vocoder {location(directory, Part.VOCODER)} is missing" in sentence
    assert f"`python -m ovi_studio download 720x720_5s --ckpt-dir {directory}` fetches it" in sentence


def test_the_command_holds_a_directory_with_a_space_together() -> None:
    inventory = Inventory(VARIANT, Path("my models/ckpts"), {}, ())
    assert inventory.download_command == 'python -m ovi_studio download 720x720_5s --ckpt-dir "my models/ckpts"'


def sized(path: Path, size: int, dtype: str | None = None) -> None:
    """A file of `size` bytes, or, with a number format, a safetensors file with so many bytes of it; all in a hole."""
    start = path.read_bytes() if dtype is None else b""
    if dtype:
        header = json.dumps({"w": {"dtype": dtype, "shape": [size], "data_offsets": [0, size]}}).encode()
        start = len(header).to_bytes(8, "little") + header
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size if dtype is None else len(start) + size)


@pytest.mark.parametrize(("dtype", "converted"), [("BF16", False), ("F16", True), ("F32", True), ("F8_E4M3", True)])
def test_a_model_in_another_number_format_than_the_published_one_is_known_by_its_header(
    directory: Path, dtype: str, converted: bool
) -> None:
    official = location(directory, Part.TEXT_ENCODER)
    official.unlink()
    sized(official.with_suffix(".safetensors"), 10_000, dtype)
    assert (Part.TEXT_ENCODER in take_inventory(VARIANT, directory).converted) is converted


def test_a_model_of_torch_save_in_another_number_format_is_known_by_its_size(directory: Path) -> None:
    official, (file,) = location(directory, Part.TEXT_ENCODER), VARIANT.files[Part.TEXT_ENCODER]
    for size, converted in ((file.size, False), (2 * file.size, True)):
        official.write_bytes(b"\x80\x02")
        sized(official, size)
        assert (Part.TEXT_ENCODER in take_inventory(VARIANT, directory).converted) is converted


def test_nothing_is_known_of_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert take_inventory(VARIANT, tmp_path).converted == frozenset()
