"""What the Film tab shows, and what its cards do."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from ovi_studio.film.script import Cut, FromPicture, Takes
from ovi_studio.queue.pictures import remove_unused_pictures
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.studio import Studio
from ovi_studio.web.film_api import FilmCalls
from ovi_studio.web.tabs.film.handlers import FilmHandlers
from ovi_studio.web.toasts import Toasts

SCREENPLAY = "INT. HALL <b>\n\nTOM waits.\n\nTOM\nHello & welcome.\n\nTom leaves.\n"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        yield studio


@pytest.fixture
def handlers(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilmHandlers:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    with gr.Blocks():
        return FilmHandlers(studio, Toasts(studio.undo), FilmCalls(studio))


def act(handlers: FilmHandlers, film: int, **data: Any) -> tuple[list[dict[str, Any]], str]:
    """The cards and the toast after an action on one of them."""
    updates = handlers.act(SimpleNamespace(_data=data), film)
    return updates[2]["shots"], updates[-1]["text"]


def test_a_screenplay_becomes_cards_whose_text_is_escaped(studio: Studio, handlers: FilmHandlers) -> None:
    assert handlers.refresh((-1, 0), None)[2]["empty"].startswith("No film yet")
    *shown, toast, text = handlers.queue(SCREENPLAY, None)
    assert (toast["text"], text) == ("2 clips were queued.", "")
    film, cards = shown[5][1], shown[2]["shots"]
    assert [card["id"] for card in cards] == ["1", "2"]
    assert "Hello &amp; welcome." in cards[0]["html"]
    assert "HALL &lt;b&gt;" in cards[0]["html"]
    assert shown[1] == "<p>0 of 2 shots are made</p>"
    assert handlers.refresh(shown[5], film) == gr.skip()
    # A late answer does not take back what was chosen meanwhile.
    late, chosen = handlers.refresh((-1, 0), film)[0], handlers.choose_film(film)[0]
    assert "value" not in late.constructor_args
    assert chosen.constructor_args["value"] == film


def test_a_film_in_yaml_is_taken_too_and_faults_keep_the_text(handlers: FilmHandlers) -> None:
    assert handlers.queue("title: x\nshots: [a, b, c]\n", None)[-2]["text"] == "3 clips were queued."
    *_, toast, text = handlers.queue("title: x\nshots: {}\n", None)
    assert "The shots must be a list" in toast["text"]
    assert text == "title: x\nshots: {}\n"
    assert "Nobody speaks" in handlers.queue("EXT. SEA\n", None)[-2]["text"]


def test_cards_change_the_film(studio: Studio, handlers: FilmHandlers) -> None:
    film = handlers.queue(SCREENPLAY, None)[5][1]
    cards, toast = act(handlers, film, action="again", shot="1")
    assert toast == "1 clip was queued."
    assert 'data-take="2" aria-pressed="true"' in cards[0]["html"]
    assert act(handlers, film, action="choose", shot="1", take=1)[1] == "Everything is made from these takes already."
    cards, toast = act(handlers, film, action="move", shot="2", position=0)
    assert [card["id"] for card in cards] == ["2", "1"]
    values = {"prompt": "Tom smiles.", "said-0": "", "sound": "Rain", "begin": "previous"}
    assert act(handlers, film, action="edit", shot="1", values=values)[1] == "1 clip was queued."
    shot = studio.films.get(film).shot("1")
    # Only what the form has; an emptied row of speech is gone.
    assert (shot.prompt, shot.speech, shot.sound) == ("Tom smiles.", (), "Rain")
    assert studio.films.get(film).parents()["1"] is None


def test_what_a_client_makes_up_is_refused_with_a_sentence(handlers: FilmHandlers) -> None:
    film = handlers.queue(SCREENPLAY, None)[5][1]
    assert "not a number of this film" in act(handlers, film, action="choose", shot="1", take="1")[1]
    assert "no shot 'x'" in act(handlers, film, action="again", shot="x")[1]
    assert handlers.act(SimpleNamespace(_data={"action": "shout"}), film) == gr.skip()
    assert handlers.act(SimpleNamespace(_data="again"), film) == gr.skip()
    assert "no longer exists" in act(handlers, 99, action="again", shot="1")[1]
    assert "2 of 2 shots have no clip" in handlers.join(film)[1]["text"]


def test_takes_until_the_words_are_right_are_asked_for_on_the_card(studio: Studio, handlers: FilmHandlers) -> None:
    shown = handlers.queue(SCREENPLAY, None)
    film = shown[5][1]
    given = {"prompt": "Tom waits.", "said-0": "Hello & welcome.", "sound": ""}
    cards, said = act(handlers, film, action="edit", shot="1", values=given | {"takes": "4", "percent": "20"})
    assert said == "Everything is made from these takes already."
    assert "up to 4 takes, until at most 20% of the words are wrong" in cards[0]["html"]
    assert studio.films.get(film).shot("1").takes == Takes(4, word_errors=0.2)
    act(handlers, film, action="edit", shot="1", values=given | {"takes": "4", "percent": "20"})
    assert studio.films.get(film).shot("1").takes == Takes(4, word_errors=0.2)
    for percent, sentence in (("-1", "choose 0 to 99"), ("100", "choose 0 (all words are right) to 0.99")):
        assert sentence in act(handlers, film, action="edit", shot="1", values=given | {"percent": percent})[1]
    act(handlers, film, action="edit", shot="1", values=given | {"takes": "1", "percent": ""})
    assert studio.films.get(film).shot("1").takes == Takes()


def uploaded(tmp_path: Path, colour: str) -> str:
    path = tmp_path / "uploads" / f"{colour}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)
    return str(path)


def test_a_first_frame_is_uploaded_for_a_shot_and_taken_away_again(
    studio: Studio, handlers: FilmHandlers, tmp_path: Path
) -> None:
    film = handlers.queue(SCREENPLAY, None)[5][1]
    assert 'name="cut"' not in handlers.refresh((-1, 0), film)[2]["shots"][0]["html"]
    picture = uploaded(tmp_path, "red")
    cards, said = act(handlers, film, action="edit", shot="1", values={"picture": picture})
    assert said == "1 clip was queued."
    assert "begins with a picture" in cards[0]["html"]
    begin = studio.films.get(film).shot("1").begin
    assert isinstance(begin, FromPicture)
    assert begin.path.parent == studio.paths.pictures.absolute()
    # The film has a copy of its own, also without any job.
    Path(picture).unlink()
    studio.store.delete([job.id for job in studio.store.jobs()])
    with studio.store.database.write() as connection:
        connection.execute("DELETE FROM deleted_jobs")
    remove_unused_pictures(studio.store.database)
    assert begin.path.is_file()
    assert act(handlers, film, action="again", shot="1")[1].endswith("queued.")
    assert 'name="cut"' in cards[0]["html"]
    act(handlers, film, action="edit", shot="1", values={"cut": "yes"})
    assert studio.films.get(film).shot("1").begin == Cut()


def test_only_an_uploaded_picture_begins_a_shot(handlers: FilmHandlers, tmp_path: Path) -> None:
    film = handlers.queue(SCREENPLAY, None)[5][1]
    Image.new("RGB", (64, 64)).save(tmp_path / "mine.png")
    values = {"picture": str(tmp_path / "mine.png")}
    assert "was not uploaded here" in act(handlers, film, action="edit", shot="1", values=values)[1]
    broken = uploaded(tmp_path, "blue")
    Path(broken).write_bytes(b"no picture")
    said = act(handlers, film, action="edit", shot="1", values={"picture": broken})[1]
    assert said.startswith("Shot 1: ")
    assert "blue.png" in said
