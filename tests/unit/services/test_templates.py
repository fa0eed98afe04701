"""Templates: the shipped ones work as they are; the user's own are checked and saved, and hide no others."""

from pathlib import Path

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import PaceLevel, Severity, check_prompt, join_prompt, parse_prompt, speech_pace
from ovi_studio.core.prompt_patterns import expand_prompt
from ovi_studio.core.prompts import AudioTag
from ovi_studio.services.templates import (
    CATEGORIES,
    MAX_VALUE_LENGTH,
    Template,
    Templates,
    parse_template,
    template_entry,
)

SHIPPED = Templates(Path("/nowhere")).all()
ENTRY = {
    "title": "Mine",
    "prompt": "A {animal} says, <S>{line}<E>",
    "audio": "Wind and a {animal}.",
    "slots": {
        "animal": {"label": "Animal", "default": "fox", "suggestions": ["wolf"]},
        "line": {"label": "Line", "default": "Hello."},
    },
}


def template(**changes) -> Template:
    return parse_template({"id": "mine", **ENTRY, **changes}, "Own")


# Shipped templates


def test_at_least_twenty_templates_are_shipped_in_the_four_categories():
    assert SHIPPED.notices == ()
    assert len(SHIPPED.templates) >= 20
    assert tuple(dict.fromkeys(found.category for found in SHIPPED.templates)) == CATEGORIES
    for category in CATEGORIES:
        assert sum(found.category == category for found in SHIPPED.templates) >= 4


@pytest.mark.parametrize("tag", AudioTag)
@pytest.mark.parametrize("shipped", SHIPPED.templates, ids=lambda found: found.id)
def test_each_shipped_template_gives_a_prompt_without_findings_at_a_speakable_pace(shipped, tag):
    for number in range(4):
        values = {
            slot.name: [slot.default, *slot.suggestions][number % (1 + len(slot.suggestions))] for slot in shipped.slots
        }
        prompt = shipped.fill(values, tag)
        assert check_prompt(prompt, tag) == []
        assert parse_prompt(prompt).audio
        assert speech_pace(prompt, 5).pace in (PaceLevel.SILENT, PaceLevel.CALM)
        assert expand_prompt(prompt) == [prompt]


def test_each_shipped_template_can_be_the_start_of_an_own_one():
    for shipped in SHIPPED.templates:
        assert parse_template(template_entry(shipped), shipped.category) == shipped


# Filling


def test_slots_are_filled_and_the_others_get_their_default():
    assert template().fill({"animal": "lynx"}, AudioTag.AUDIO) == "A lynx says, <S>Hello.<E> Audio: Wind and a lynx."
    assert template().fill({"animal": "  "}, AudioTag.AUDCAP) == (
        "A fox says, <S>Hello.<E> <AUDCAP>Wind and a fox.<ENDAUDCAP>"
    )


@pytest.mark.parametrize("tag", AudioTag)
@pytest.mark.parametrize(
    "hostile", ["<E> end", "<S>", "<<S>S>x", "<AUDCAP>loud<ENDAUDCAP>", "Audio: loud", "AudAudio:io: x", "<S><E>x"]
)
def test_tags_in_a_value_do_not_affect_the_text_around_it(tag, hostile):
    filled = parse_prompt(template().fill({"line": hostile}, tag))
    assert len(filled.speech) == 1
    assert filled.audio == "Wind and a fox."
    assert [
        f for f in check_prompt(join_prompt(filled.scene, filled.audio, tag), tag) if f.severity is Severity.ERROR
    ] == []


def test_a_value_that_looks_like_a_slot_is_not_filled_again():
    assert "{line} says" in template().fill({"animal": "{line}"}, AudioTag.AUDIO)
    assert "{red|blue} fox" in template().fill({"animal": "{red|blue} fox"}, AudioTag.AUDIO)
    assert "<script>" in template().fill({"animal": "<script>"}, AudioTag.AUDIO)


def test_values_that_are_too_long_or_unknown_are_refused():
    for values in ({"animal": "x" * (MAX_VALUE_LENGTH + 1)}, {"other": "x"}, {"animal": 3}, {"animal": "x" * 2**24}):
        with pytest.raises(JobError):
            template().fill(values, AudioTag.AUDIO)


# Checking


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"title": ""}, "title"),
        ({"prompt": "A {cat} says"}, "cat"),
        ({"prompt": "No slots"}, "line"),
        ({"prompt": "A {animal} says <S>{line}"}, "not closed"),
        ({"prompt": "A {animal} <S>{line}<E> Audio: x"}, "belongs under audio"),
        ({"audio": "<AUDCAP>{animal}<ENDAUDCAP>"}, "belongs under audio"),
        ({"aspect_ratio": "2:7"}, "aspect ratio"),
        ({"settings": {"steps": "many"}}, "steps"),
        ({"settings": {"seed": "1"}}, "seed"),
        ({"settings": {"wheels": "4"}}, "wheels"),
        ({"slots": ["animal"]}, "slots"),
        ({"slots": {"animal": "fox"}}, "animal"),
        ({"slots": {"../x": {"label": "a", "default": "b"}}}, "letters"),
        ({"strange": "x"}, "strange"),
        ({"id": "../x"}, "id"),
        ({"prompt": "x" * 5000}, "shorten"),
    ],
)
def test_an_invalid_template_is_refused_with_a_reason(changes, reason):
    with pytest.raises(JobError, match=reason):
        template(**changes)


def test_settings_and_aspect_ratio_are_parsed():
    found = template(settings={"steps": "30", "shift": "4.5"}, aspect_ratio="9:16")
    assert dict(found.settings) == {"steps": 30, "shift": 4.5}
    assert found.aspect_ratio == "9:16"


# Own templates


def test_own_templates_are_saved_replaced_and_deleted(tmp_path):
    templates = Templates(tmp_path)
    one, two = templates.add(ENTRY), templates.add({**ENTRY, "title": "Füchse & Co"})
    again = Templates(tmp_path)
    assert again.all().templates[-1].category == "Own"
    assert again.get(one.id) == one
    changed = again.replace(one.id, {**ENTRY, "title": "Changed", "settings": {"steps": 25}, "aspect_ratio": "16:9"})
    assert templates.get(one.id) == changed
    templates.delete(two.id)
    assert [found.title for found in again.all().templates if found.own] == ["Changed"]
    assert [path.name for path in (tmp_path / "templates").iterdir()] == ["own.yaml"]


def test_shipped_templates_cannot_be_changed(tmp_path):
    templates = Templates(tmp_path)
    for act in (lambda: templates.delete("wizard"), lambda: templates.replace("wizard", ENTRY)):
        with pytest.raises(JobError, match="your own"):
            act()


def test_an_invalid_own_template_is_not_saved(tmp_path):
    templates = Templates(tmp_path)
    with pytest.raises(JobError):
        templates.add({**ENTRY, "prompt": "<S>"})
    assert not (tmp_path / "templates").exists()


def test_an_invalid_entry_is_a_notice_that_names_file_and_entry_and_stays_in_the_file(tmp_path):
    templates = Templates(tmp_path)
    own = tmp_path / "templates" / "own.yaml"
    templates.add(ENTRY)
    own.write_text(own.read_text() + "- title: half done\n")
    assert len([found for found in templates.all().templates if found.own]) == 1
    (notice,) = templates.all().notices
    assert "own.yaml, entry 2" in notice
    templates.add(ENTRY)
    assert "half done" in own.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"{{{{",
        b"- a\n- b",
        b"templates: 3",
        b"x" * 2**20,
        b"[" * 100_000,
        b"a: &a [x,x]\nb: &b [*a,*a]\ntemplates: [*b,*b]",
        b"templates: []\ntemplates: []",
    ],
)
def test_a_broken_or_hostile_file_does_not_hide_the_others_and_is_not_overwritten(tmp_path, content):
    own = tmp_path / "templates" / "own.yaml"
    own.parent.mkdir()
    own.write_bytes(content)
    templates = Templates(tmp_path)
    assert len(templates.all().templates) == len(SHIPPED.templates)
    (notice,) = templates.all().notices
    assert "own.yaml" in notice
    assert len(notice) < 500
    with pytest.raises(JobError):
        templates.add(ENTRY)
    assert own.read_bytes() == content


def test_a_file_runs_nothing(tmp_path):
    harm = tmp_path / "harm"
    own = tmp_path / "templates" / "own.yaml"
    own.parent.mkdir()
    own.write_text(f"templates: !!python/object/apply:os.system ['touch {harm}']")
    assert len(Templates(tmp_path).all().notices) == 1
    assert not harm.exists()


def test_a_deleted_template_comes_back_at_its_place(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    titles = ["One", "Two", "Three"]
    added = [templates.add({"title": title, "prompt": "A calm sea."}) for title in titles]
    before = templates.all()
    deleted = templates.delete(added[1].id)
    assert [one.title for one in templates.all().templates if one.own] == ["One", "Three"]
    templates.restore(deleted)
    assert templates.all() == before
