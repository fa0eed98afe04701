"""Every card has a picture, and what cannot be used is folded away."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from adapter_helpers import write_adapter

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.adapters.model_names import model_names
from ovi_studio.adapters.report import fit
from ovi_studio.core.adapter_stack import AdapterUse
from ovi_studio.core.variants import published_variants
from ovi_studio.services.templates import Templates
from ovi_studio.web.drawn import drawn_html
from ovi_studio.web.tabs.loras import views as lora_views
from ovi_studio.web.tabs.templates import views as template_views

MAX_BYTES = 3 * 2**20
SHIPPED = [template for template in Templates(Path("nowhere")).all().templates if not template.own]


@pytest.mark.parametrize("template", SHIPPED, ids=lambda template: template.id)
def test_every_shipped_template_has_a_picture_without_script_and_foreign_parts(template) -> None:
    picture = Templates(Path("nowhere")).picture(template.id)
    assert picture is not None
    assert f'src="studio/template/{template.id}/picture"' in template_views.cards_html([template], "")
    if picture.suffix == ".svg":
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(picture).iter()}
        assert not tags & {"script", "image", "use", "foreignObject", "a", "style"}
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\son\w+=", picture.read_text(encoding="utf-8"))


def test_all_pictures_together_are_small() -> None:
    folder = Templates(Path("nowhere")).picture(SHIPPED[0].id).parent  # type: ignore[union-attr]
    assert sum(path.stat().st_size for path in folder.iterdir()) < MAX_BYTES


@pytest.mark.parametrize("name", ["", "..", "../nature", "nature.yaml", "UPPER", "unknown"])
def test_only_names_of_templates_lead_to_a_picture(name: str) -> None:
    assert Templates(Path("nowhere")).picture(name) is None


def test_a_template_of_ones_own_has_a_drawn_picture(tmp_path: Path) -> None:
    own = Templates(tmp_path).add({"title": "Mine", "prompt": "A calm sea."})
    assert drawn_html(own.id) in template_views.cards_html([own], "")


def test_a_drawn_picture_is_the_same_every_time_and_another_for_another_name() -> None:
    assert drawn_html("film.safetensors") == drawn_html("film.safetensors")
    assert drawn_html("film.safetensors") != drawn_html("ink.safetensors")


def lora_cards(folder: Path, *used: str) -> str:
    """The HTML for the files of a folder, of which those named are in the clip."""
    library = AdapterLibrary(folder, shipped=None)
    entries = library.scan()
    names = model_names(next(iter(published_variants().values())))
    return lora_views.loras_html(
        entries,
        {entry.id: fit(entry, library, names) for entry in entries},
        {name: AdapterUse(name=name) for name in used},
        {},
    )


def test_files_that_cannot_be_used_are_one_folded_list_with_their_reasons(tmp_path: Path) -> None:
    for name in ("a", "b<i>"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"no such file")
        os.utime(tmp_path / f"{name}.safetensors", (1, 1))  # a new one may still be arriving
    write_adapter(tmp_path / "foreign.safetensors", ["lora_te1_text_model.layers.0.q_proj"])
    html = lora_cards(tmp_path)  # open, since there is nothing else to see
    assert html.startswith('<details class="rejected" open><summary>3 files cannot be used</summary>')
    assert "b&lt;i&gt;" in html
    assert "text encoder" in html
    assert '<ul class="loras"' not in html


def test_a_file_that_no_longer_fits_can_be_removed_from_the_clip(tmp_path: Path) -> None:
    write_adapter(tmp_path / "foreign.safetensors", ["lora_te1_text_model.layers.0.q_proj"])
    html = lora_cards(tmp_path, "foreign.safetensors")
    assert 'data-act="leave"' in html
    assert "text encoder" in html
    assert "rejected" not in html
