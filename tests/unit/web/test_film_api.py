"""The API of films, as its endpoints call it."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from places import ROOT

from ovi_studio.film.script import Film, FromPicture, Shot
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.film_api import FilmCalls

FILM = {
    "title": "Two",
    "look": {"seed": 4},
    "shots": ["a ball", {"prompt": "it rolls", "begin": "previous"}, {"prompt": "it stops", "begin": "previous"}],
}
SCREENPLAY = "INT. HALL\n\nTOM\nHello.\n"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        yield studio


@pytest.fixture
def calls(studio: Studio) -> FilmCalls:
    return FilmCalls(studio)


def test_a_film_is_queued_described_changed_and_forgotten(studio: Studio, calls: FilmCalls) -> None:
    queued = calls.film_queue(FILM)
    film = queued["film"]
    assert len(queued["jobs"]) == 3
    assert calls.film_list() == [{"film": film, "title": "Two"}]
    status = calls.film_status(film)
    assert [(shot["id"], shot["continues"]) for shot in status["shots"]] == [("1", None), ("2", "1"), ("3", "2")]
    assert status["shots"][1]["takes"][0] == {
        "number": 1,
        "job": queued["jobs"][1],
        "seed": 4,
        "state": "queued",
        "message": "Waits for the last frame of job 1.",
        "clip": None,
        "chosen": True,
        "scores": None,
    }
    assert len(calls.film_edit(film, "2", {"prompt": "it jumps"})["jobs"]) == 2
    assert calls.film_status(film)["film"]["shots"][1]["prompt"] == "it jumps"
    assert len(calls.film_again(film, "3", 2.0)["jobs"]) == 2
    assert calls.film_choose(film, "3", 1)["jobs"] == []
    assert len(calls.film_move(film, "3", 2)["jobs"]) == 2
    assert [shot["id"] for shot in calls.film_status(film)["shots"]] == ["1", "3", "2"]
    assert calls.film_delete(film) == {}
    assert calls.film_list() == []
    assert studio.store.count() > 0


def test_the_status_is_as_it_is_described(calls: FilmCalls) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the package mcp")
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    status = calls.film_status(calls.film_queue(FILM)["film"])
    schema = document["components"]["schemas"]["Film"]
    assert list(schema["properties"]) == list(status)
    take = schema["properties"]["shots"]["items"]["properties"]["takes"]["items"]["properties"]
    assert list(take) == list(status["shots"][0]["takes"][0])
    jsonschema.validate(json.loads(json.dumps(status)), schema)


def test_a_screenplay_is_queued_as_text(calls: FilmCalls) -> None:
    film = calls.film_queue({}, SCREENPLAY, "A hall")["film"]
    assert calls.film_status(film)["film"]["title"] == "A hall"


def test_no_path_of_this_machine_crosses(studio: Studio, calls: FilmCalls, tmp_path: Path) -> None:
    picture = tmp_path / "frame.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    film = studio.films.queue(Film("x", (Shot("1", "a ball", begin=FromPicture(picture)),))).film
    status = calls.film_status(film)
    assert status["film"]["shots"][0]["begin"] == {"picture": "frame.png"}
    assert str(tmp_path) not in json.dumps(status)
    # Other entries of such a shot can be changed; its picture cannot be another file.
    assert len(calls.film_edit(film, "1", {"prompt": "a ring"})["jobs"]) == 1
    with pytest.raises(gr.Error, match="Shot 1: a picture cannot be named here"):
        calls.film_edit(film, "1", {"begin": {"picture": str(picture)}})
    with pytest.raises(gr.Error, match="Shot 1: a picture cannot be named here"):
        calls.film_queue({"title": "x", "shots": [{"prompt": "a", "begin": {"picture": str(picture)}}]})


def test_a_first_frame_is_uploaded_for_a_shot(studio: Studio, calls: FilmCalls, tmp_path: Path) -> None:
    picture = tmp_path / "frame.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    film = calls.film_queue(FILM)["film"]
    (*jobs,) = calls.film_edit(film, "1", {"prompt": "a ring"}, str(picture))["jobs"]
    assert len(jobs) == 3
    image = studio.store.get(jobs[0]).spec.image
    assert image is not None
    assert image.parent == studio.paths.pictures
    assert calls.film_status(film)["film"]["shots"][0]["begin"] == {"picture": image.name}
    assert len(calls.film_edit(film, "1", {"begin": None})["jobs"]) == 3


@pytest.mark.parametrize(
    ("call", "values", "sentence"),
    [
        ("film_queue", [FILM, SCREENPLAY], "Pass a film or a screenplay, and not both"),
        ("film_queue", [], "Pass a film or a screenplay"),
        ("film_queue", [["a"]], "The film must consist of lines"),
        ("film_queue", [FILM, "", "", "high"], "'high' is not a valid value for priority"),
        ("film_queue", [FILM, "", "", 101], "The priority must be between -100 and 100, not 101"),
        ("film_status", [99], "This film no longer exists"),
        ("film_status", [None], "Pass the number of a film"),
        ("film_edit", [1, "1", ["a"]], "must be an object"),
        ("film_edit", [1, "1", {"lens": 1}], "Shot 1 has the unknown entry lens"),
        ("film_edit", [1, "9", {}], "The film has no shot '9'"),
        ("film_choose", [1, "1", 1.5], "'1.5' is not a valid value for take"),
        ("film_again", [1, "1", 99], "Ask for 1 to 20 takes, not 99"),
        ("film_move", [1, "1", 0], "choose a place from 1 to 3"),
        ("film_export", [1], "3 of 3 shots have no clip"),
    ],
)
def test_mistakes_are_sentences(calls: FilmCalls, call: str, values: list[Any], sentence: str) -> None:
    calls.film_queue(FILM)
    with pytest.raises(gr.Error, match=sentence):
        getattr(calls, call)(*values)
