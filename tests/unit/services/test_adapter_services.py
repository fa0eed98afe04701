"""Adapters in the services: which presets can be used, and which adapters a request names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from adapter_helpers import write_adapter

from ovi_studio.cli.adapters import library_report
from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import Request, SeedMode
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.preset_offers import PresetOffer
from ovi_studio.services.studio import Studio


@pytest.fixture
def studio(tmp_path: Path, tiny_bundle: Path) -> Iterator[Studio]:
    write_adapter(tmp_path / "loras" / "film.safetensors")
    write_adapter(tmp_path / "loras" / "grain.safetensors", seed=2)
    write_adapter(tmp_path / "loras" / "foreign.safetensors", ["lora_te1_text_model.layers.0.q_proj"])
    options = RuntimeOptions(checkpoint_directory=tiny_bundle, adapter_directory=tmp_path / "loras")
    studio = Studio.open(tmp_path / "outputs", options)
    yield studio
    studio.close()


def request(prompt: str, **values: object) -> Request:
    return Request({"prompt": prompt, "variant": "tiny", "steps": 1, "seed": "1", **values}, None, SeedMode.FIXED)


def offer(studio: Studio, name: str) -> PresetOffer:
    return next(found for found in studio.preset_offers()[0] if found.preset.name == name)


def test_presets_without_adapters_can_be_used_and_others_say_what_is_missing(studio: Studio) -> None:
    assert offer(studio, "draft").usable
    lightning = offer(studio, "lightning-5s")
    assert not lightning.usable
    assert "960x960_5s" in lightning.problem
    assert "FastWan" in lightning.problem
    assert lightning.shortage is not None
    assert lightning.shortage.size == 660_874_456
    demo = offer(studio, "demo-lightning")
    assert "demo-lightning" in demo.problem
    assert demo.shortage is not None
    assert demo.shortage.sources == {}


def test_a_preset_can_be_used_as_soon_as_its_adapter_is_present(studio: Studio) -> None:
    write_adapter(studio.adapters.directory / "demo-lightning.safetensors")
    assert offer(studio, "demo-lightning").usable


def test_a_download_of_nothing_is_refused(studio: Studio) -> None:
    for name, reason in (
        ("draft", "nothing to download"),
        ("demo-lightning", "nothing to download"),
        ("x", "no preset"),
    ):
        with pytest.raises(JobError, match=reason):
            studio.download_adapters(name)
    assert not studio.adapter_downloads.state().busy


def test_each_alternative_of_a_pattern_has_its_own_tags(studio: Studio) -> None:
    listed = [{"name": "grain", "video": "0.2"}]
    specs = studio.expand(request("a {dog <lora:film:0.5>|cat}", adapters=listed)).specs
    assert [spec.prompt for spec in specs] == ["a dog", "a cat"]
    assert [[use.name for use in spec.adapters] for spec in specs] == [["grain", "film"], ["grain"]]


def test_queued_jobs_keep_their_adapters(studio: Studio) -> None:
    (job,) = studio.queue(studio.expand(request("a dog <lora:film:1;0>", accelerators='[{"name": "grain"}]')).specs)
    spec = studio.store.get(job).spec
    assert [str(use.video) for use in spec.adapters] == ["1;0"]
    assert [use.name for use in spec.accelerators] == ["grain"]


@pytest.mark.parametrize(("tag", "reason"), [("gone", "no adapter 'gone'"), ("foreign", "does not match this model")])
def test_an_unusable_adapter_is_refused_when_a_clip_is_queued(studio: Studio, tag: str, reason: str) -> None:
    with pytest.raises(JobError, match=reason):
        studio.queue(studio.expand(request(f"a dog <lora:{tag}:1>")).specs)
    assert studio.store.jobs() == []
    # At strength zero the adapter is not checked.
    studio.queue(studio.expand(request(f"a dog <lora:{tag}:0>")).specs)


def test_the_hash_of_every_adapter_is_recorded_when_a_clip_is_queued(studio: Studio) -> None:
    chosen = {"adapters": [{"name": "FILM", "video": "0.5"}], "accelerators": '[{"name": "grain"}]'}
    table = studio.adapters.directory / "clips.csv"
    table.write_text("text_prompt\na dog <lora:film:0.5>\na cat\n")
    specs = [
        *studio.expand(request("a dog", **chosen)).specs,
        *studio.expand_table(table, request("", accelerators='[{"name": "grain"}]')).specs,
    ]
    hashes = {name: studio.adapters.sha256(studio.adapters.find(name)) for name in ("film", "grain")}
    stacks = [studio.store.get(job).spec.stack for job in studio.queue(specs)]
    assert [[use.name for use in stack] for stack in stacks] == [["grain", "FILM"], ["grain", "film"], ["grain"]]
    assert all(use.sha256 == hashes[use.name.lower()] for stack in stacks for use in stack)


def test_a_clip_is_not_queued_with_another_file_than_it_names(studio: Studio) -> None:
    (job,) = studio.queue(studio.expand(request("a dog <lora:film:1>")).specs)
    spec = studio.store.get(job).spec
    write_adapter(studio.adapters.directory / "film.safetensors", seed=7)
    with pytest.raises(JobError, match="film is not the file that the clip was made with"):
        studio.queue([spec])
    assert len(studio.store.jobs()) == 1


def test_a_file_with_nan_is_refused_when_a_clip_is_queued(studio: Studio) -> None:
    write_adapter(studio.adapters.directory / "film.safetensors", size=float("nan"))
    with pytest.raises(JobError, match="NaN or infinite"):
        studio.queue(studio.expand(request("a dog <lora:film:1>")).specs)


@pytest.mark.parametrize(("chosen", "words"), [(None, "Matched with tiny, the best"), ("tiny", "Matched with tiny.")])
def test_the_list_of_adapters_says_with_which_model_they_were_matched(
    studio: Studio, chosen: str | None, words: str
) -> None:
    text = library_report(chosen, studio.options)
    assert text.startswith(words)
    assert "film.safetensors" in text
    assert "4 of 4 layers matched" in text
