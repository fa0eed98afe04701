"""Many clips as one zip: complete, streamed, and with a table that makes them again."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.spec import ClipSpec
from ovi_studio.services.clip_bundle import TABLE, settings_table, zip_clips
from ovi_studio.services.prompt_tables import read_table

SPECS = [
    ClipSpec(prompt='A {red} "fox", <S>Hello<E>\nin two lines', variant="960x960_5s", seed=2**62, size=(704, 1280)),
    ClipSpec(
        prompt="=Ein Fuchs im Schnee 🦊",
        variant="demo",
        steps=4,
        timesteps=(1000, 750, 500.5, 250),
        adapters=parse_stack([{"name": "film.safetensors", "video": "1;0.5", "audio": "0", "sha256": "a" * 64}]),
    ),
]


@pytest.fixture
def clips(tmp_path: Path) -> list[tuple[Path, ClipSpec]]:
    paths = [tmp_path / "fox.mp4", tmp_path / "Füchse.mp4"]
    for path in paths:
        path.write_bytes(os.urandom(3_000_000))
    return list(zip(paths, SPECS, strict=True))


def test_the_zip_holds_every_clip_and_the_table(clips: list[tuple[Path, ClipSpec]]) -> None:
    with zipfile.ZipFile(io.BytesIO(b"".join(zip_clips(clips)))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [TABLE, "fox.mp4", "Füchse.mp4"]
        for path, _ in clips:
            assert archive.read(path.name) == path.read_bytes()


def test_only_blocks_of_it_are_in_memory(clips: list[tuple[Path, ClipSpec]]) -> None:
    assert max(len(block) for block in zip_clips(clips)) < 2 * 2**20


def test_a_clip_that_is_gone_by_its_turn_is_left_out(clips: list[tuple[Path, ClipSpec]]) -> None:
    blocks = zip_clips(clips)
    first = next(blocks)
    clips[1][0].unlink()
    with zipfile.ZipFile(io.BytesIO(first + b"".join(blocks))) as archive:
        assert archive.namelist() == [TABLE, "fox.mp4"]


def test_the_table_makes_the_same_clips_again(tmp_path: Path) -> None:
    from ovi_studio.core.requests import Context, Request, SeedMode
    from ovi_studio.core.variants import published_variants
    from ovi_studio.services.prompt_files import expand_table

    path = tmp_path / TABLE
    path.write_bytes(settings_table((f"{number}.mp4", spec) for number, spec in enumerate(SPECS)))
    variant = next(iter(published_variants().values()))
    context = Context(lambda name: variant)
    found = expand_table(
        read_table(path, 10), Request({"prompt": "x", "variant": "y"}, seed_mode=SeedMode.FIXED), context
    )
    assert found.bad_rows == ()
    assert list(found.specs) == SPECS
