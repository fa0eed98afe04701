"""Presets: named settings, both the shipped ones and the user's own."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ovi_studio.core.adapter_stack import parse_stack
from ovi_studio.core.errors import JobError
from ovi_studio.core.spec import ClipSpec
from ovi_studio.core.variants import EMBEDDED_BUNDLE, read_bundle
from ovi_studio.media.small_files import read_yaml
from ovi_studio.services.presets import Presets

SPEC = ClipSpec(prompt="A clip", variant="960x960_5s", seed=7, image=Path("first.png"))


def _with_source(name="a.safetensors", **changes):
    source = {"repository": "some/one", "path": "a.safetensors", "licence": "MIT"} | changes
    return json.dumps({"title": "A", "adapters": [{"name": name, "source": source}]})


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(tmp_path)


def test_shipped_presets_go_from_draft_to_the_embedded_model(presets):
    found = presets.all()
    assert found.notices == ()
    names = ["draft", "balanced", "fast", "quality", "lightning-5s", "lightning-10s", "turbo"]
    names += ["demo", "demo-lightning", "demo-picture"]
    assert [preset.name for preset in found.presets] == names
    assert [preset.apply(SPEC).steps for preset in found.presets[:3]] == [20, 30, 50]
    assert presets.get("draft").badge == "fast"
    assert all(preset.description and not preset.own for preset in found.presets)


def test_fast_is_quality_with_passes_left_out(presets):
    quality, fast = (presets.get(name).apply(SPEC) for name in ("quality", "fast"))
    assert fast == replace(quality, step_cache="fast")
    assert presets.get("quality").apply(fast) == quality


def test_quality_is_what_the_official_code_does_by_default(presets):
    assert presets.get("quality").apply(SPEC) == SPEC


@pytest.mark.parametrize("preset", ["demo", "demo-lightning", "demo-picture"])
def test_demo_is_for_the_embedded_model(presets, preset):
    name = read_bundle(EMBEDDED_BUNDLE).name
    assert presets.get(preset).variants == (name,)
    assert presets.get(preset).apply(SPEC).variant == name


@pytest.mark.parametrize(
    ("name", "variant", "asked"),
    [("lightning-5s", "960x960_5s", (6, "unipc", 6)), ("lightning-10s", "960x960_10s", (10, "unipc", 6))],
)
def test_lightning_is_one_pass_per_step_with_an_adapter_for_the_picture(presets, name, variant, asked):
    spec = presets.get(name).apply(replace(SPEC, variant=variant))
    assert (spec.steps, spec.solver, spec.shift) == asked
    assert not spec.guided
    (use,) = spec.accelerators
    assert (str(use.video), str(use.audio)) == ("1", "0")
    source = presets.get(name).sources[use.name]
    assert source.repository == "Kijai/WanVideo_comfy"
    assert (source.size, source.licence) == (660_874_456, "Apache-2.0")
    assert Path(use.name).name == Path(source.path).name


def test_turbo_has_its_own_four_timesteps_and_names_its_licence(presets):
    preset = presets.get("turbo")
    spec = preset.apply(SPEC)
    assert (spec.timesteps, spec.steps) == ((1000, 750, 500, 250), 4)
    assert not spec.guided
    assert "NC" in preset.sources[spec.accelerators[0].name].licence
    assert presets.get("draft").apply(spec).timesteps is None


def test_a_preset_replaces_the_accelerator_and_keeps_the_styles(presets):
    style = parse_stack([{"name": "film", "video": "0.8"}])
    fast = presets.get("lightning-5s").apply(replace(SPEC, adapters=style))
    assert fast.adapters == style
    slow = presets.get("quality").apply(fast)
    assert slow == replace(SPEC, adapters=style)


def test_a_style_only_preset_keeps_the_accelerator(presets):
    fast = presets.get("lightning-5s").apply(SPEC)
    stack = presets.save("Film", {"adapters": parse_stack([{"name": "film"}])})
    assert stack.apply(fast) == replace(fast, adapters=parse_stack([{"name": "film"}]))


def test_an_own_preset_keeps_its_adapters_and_their_download_sources(tmp_path, presets):
    fast = presets.get("lightning-5s").apply(replace(SPEC, adapters=parse_stack([{"name": "film", "video": "1;0"}])))
    presets.save("Fast film", fast.to_dict())
    again = Presets(tmp_path).get("fast-film")
    assert again.apply(replace(SPEC, adapters=parse_stack([{"name": "other"}]))) == fast
    assert again.sources == presets.get("lightning-5s").sources
    assert Presets(tmp_path).all().notices == ()


def test_a_preset_leaves_prompt_picture_and_seed_alone(presets):
    changed = presets.get("draft").apply(SPEC)
    assert (changed.prompt, changed.seed, changed.image) == (SPEC.prompt, SPEC.seed, SPEC.image)


def test_a_preset_for_other_variants_is_refused(presets):
    preset = presets.save("Tall", {"steps": 10}, variants=("720x720_5s",))
    assert not preset.fits(SPEC.variant)
    with pytest.raises(JobError, match="720x720_5s"):
        preset.apply(SPEC)


def test_own_presets_are_saved_replaced_and_deleted(tmp_path, presets):
    saved = presets.save("Meine Füchse!", SPEC.to_dict() | {"size": [512, 992]}, description="So.", badge="mine")
    again = Presets(tmp_path)
    assert again.get("meine-fuchse") == saved
    assert saved.own
    assert saved.settings["size"] == (512, 992)
    assert not {"prompt", "seed", "image"} & set(saved.settings)
    again.save("Meine Füchse!", {"steps": 5})
    assert presets.get("meine-fuchse").settings == {"steps": 5, "accelerators": ()}
    presets.delete("meine-fuchse")
    assert not any(preset.own for preset in again.all().presets)
    assert list((tmp_path / "presets").iterdir()) == []


def test_an_empty_negative_prompt_is_kept(presets):
    assert presets.save("Bare", {"video_negative_prompt": ""}).apply(SPEC).video_negative_prompt == ""
    assert presets.get("bare").apply(SPEC).video_negative_prompt == ""


@pytest.mark.parametrize("title", ["", "  ", "Draft", "東京", "x" * 100])
def test_invalid_titles_are_refused(presets, title):
    with pytest.raises(JobError, match="title"):
        presets.save(title, {"steps": 5})


@pytest.mark.parametrize("title", ["../../escape", "a/b\\c", "CON", "<script>alert(1)</script>", "\0 null"])
def test_hostile_titles_stay_in_the_folder(tmp_path, presets, title):
    presets.save(title, {"steps": 5})
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.parent == tmp_path / "presets"
    assert path.stem.lower() != "con"


@pytest.mark.parametrize("name", ["draft", "", "..", "../presets/draft", "/etc/passwd", "nothing"])
def test_only_own_presets_can_be_deleted(presets, name):
    with pytest.raises(JobError, match="own"):
        presets.delete(name)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("title: A\nadapters: [fast.safetensors]", "list of entries"),
        ("title: A\nadapters: [{name: a, role: magic}]", "role"),
        ("title: A\nadapters: [{name: a}, {name: a, role: accelerator}]", "twice"),
        ("title: A\nadapters: [{name: a, video: loud}]", "strength"),
        ("title: A\nadapters: [{name: a.safetensors, source: {path: a.safetensors}}]", "needs repository"),
        (_with_source(path="../a.safetensors"), "plain path"),
        (_with_source(repository="a"), "plain path"),
        (_with_source("../../a.safetensors"), "plain path"),
        (_with_source("a.pt"), "plain path"),
        (_with_source(size="big"), "size"),
        (_with_source(sha256="0"), "sha256"),
        ("title: A\nsettings: {steps: 0}", "steps"),
        ("title: A\nsettings: {prompt: x}", "prompt"),
        ("title: A\nsettings: [1]", "settings"),
        ("title: A\nwheels: 4", "wheels"),
        ("settings: {steps: 5}", "title"),
        ("title: A\nvariants: demo", "variants"),
        ("title: [x]", "title"),
        ("- x", "name: value"),
        ("{", "YAML"),
        ("a: &a [x]\nb: *a", "anchors"),
        ("x" * 2**20, "larger"),
    ],
)
def test_an_invalid_file_is_a_notice_and_does_not_hide_the_others(tmp_path, presets, content, reason):
    presets.save("Good", {"steps": 5})
    (tmp_path / "presets" / "bad.yaml").write_text(content)
    found = presets.all()
    assert [preset.name for preset in found.presets if preset.own] == ["good"]
    (notice,) = found.notices
    assert "bad.yaml" in notice
    assert reason in notice


def test_an_edited_file_takes_effect_and_an_unchanged_one_is_not_read_again(tmp_path, presets, monkeypatch):
    presets.save("My way", {"steps": 12})
    path = tmp_path / "presets" / "my-way.yaml"
    read = []
    monkeypatch.setattr("ovi_studio.services.presets.read_yaml", lambda path: read.append(path) or read_yaml(path))
    assert presets.get("my-way").settings["steps"] == presets.get("my-way").settings["steps"] == 12
    assert read.count(path) == 1
    path.write_text(path.read_text().replace("12", "13"))
    os.utime(path, ns=(0, 7))  # also on a disk whose clock is coarse
    assert presets.get("my-way").settings["steps"] == 13
    path.write_text("title: [")
    assert "my-way.yaml" in " ".join(presets.all().notices)


def test_a_deleted_preset_comes_back_as_it_was(tmp_path: Path) -> None:
    presets = Presets(tmp_path)
    saved = presets.save("Mine", {"steps": 12}, description="my own")
    content = presets.delete("mine")
    assert "mine" not in presets.names()
    presets.restore("mine", content)
    assert presets.get("mine") == saved


def test_a_preset_that_was_saved_in_the_meantime_is_kept(tmp_path: Path) -> None:
    presets = Presets(tmp_path)
    presets.save("Mine", {"steps": 12})
    content = presets.delete("mine")
    presets.save("Mine", {"steps": 30})
    with pytest.raises(JobError, match="in the meantime"):
        presets.restore("mine", content)
    assert presets.get("mine").settings["steps"] == 30
