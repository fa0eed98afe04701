"""Takes that are made until the words are right: one after another, each after the one before was checked."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from engine_helpers import wait_for
from film_jobs import make_all

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import SeedMode
from ovi_studio.film import checking
from ovi_studio.film.checking import check_takes
from ovi_studio.film.script import Film, FromShot, Look, Shot, SpeechRow, Takes
from ovi_studio.queue.model import JobState
from ovi_studio.queue.store import Store
from ovi_studio.queue.takes import TakeScores
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services import studio as studio_module
from ovi_studio.services.films import Films, ShotStatus
from ovi_studio.services.studio import Studio
from ovi_studio.takes import listeners

SAID = (SpeechRow("Here we are.", how="A man says"),)
FILM = Film(
    "Right words",
    (
        Shot("a", "A man.", speech=SAID, takes=Takes(3, word_errors=0.2)),
        Shot("b", "He goes.", begin=FromShot()),
        Shot("c", "A ball.", begin=FromShot()),
    ),
    Look(preset="demo", seed=5, seed_mode=SeedMode.FIXED),
)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        yield studio


@pytest.fixture
def films(studio: Studio) -> Films:
    return studio.films


def score(studio: Studio, errors: float | None) -> None:
    """Note the word error rate of the next take that waits for its check; None: it could not be heard."""
    scores = TakeScores(studio.store)
    take = scores.unchecked()
    assert take is not None
    found = {"error": "no listener"} if errors is None else {"word_error_rate": errors, "loudness": -20, "faults": []}
    scores.record(take.job, found)


def shot(films: Films, film: int, number: int = 0) -> ShotStatus:
    return films.status(film).shots[number]


def states(films: Films, film: int) -> list[str]:
    return [one.chosen.state for one in films.status(film).shots]


def test_a_wrong_take_is_followed_by_another_one_and_what_continues_it_waits(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    assert [len(one.takes) for one in films.status(film).shots] == [1, 1, 1]
    assert make_all(studio) == ["A man. A man says, <S>Here we are.<E>"]
    assert shot(films, film, 1).chosen.message == "Waits until the words of job 1 are checked."
    score(studio, 0.5)
    first, second = shot(films, film).takes
    assert (second.state, second.chosen, first.seed, second.seed) == ("queued", True, 5, 6)
    assert shot(films, film, 1).chosen.message == f"Waits for the last frame of job {second.job_number}."
    assert films.queue(FILM, source=None).jobs  # another film is none of its business
    assert films.change(film, films.get(film)).jobs == ()
    make_all(studio)
    score(studio, 0.2)
    make_all(studio)
    assert states(films, film) == ["done"] * 3
    assert studio.store.get(shot(films, film, 1).chosen.job).parent == second.job
    assert len(shot(films, film).takes) == 2
    assert films.change(film, films.get(film)).jobs == ()


def test_the_best_take_is_kept_when_none_is_right_and_more_are_made_only_if_more_may_be(
    studio: Studio, films: Films
) -> None:
    film = films.queue(FILM).film
    for errors in (0.9, 0.4, 0.6):
        make_all(studio)
        score(studio, errors)
    assert [take.chosen for take in shot(films, film).takes] == [False, True, False]
    make_all(studio)
    assert studio.store.get(shot(films, film, 1).chosen.job).parent == shot(films, film).chosen.job
    assert films.change(film, films.get(film)).jobs == ()
    more = films.edit_shot(film, "a", {"takes": {"at_most": 4, "until_word_error_rate": 0.2}})
    assert [studio.store.get(job).spec.seed for job in more.jobs] == [8, 5, 5]
    make_all(studio)
    score(studio, 0.1)
    assert shot(films, film).chosen.number == 4
    # A take that is right by another measure is found among those that there are.
    assert films.edit_shot(film, "a", {"takes": {"at_most": 4, "until_word_error_rate": 0.05}}).jobs == ()


@pytest.mark.slow
def test_shots_that_were_made_after_a_take_that_proves_wrong_are_made_again(studio: Studio, films: Films) -> None:
    film = films.queue(replace(FILM, shots=(replace(FILM.shots[0], takes=Takes()), *FILM.shots[1:]))).film
    make_all(studio)
    assert films.edit_shot(film, "a", {"takes": {"at_most": 2, "until_word_error_rate": 0}}).jobs == ()
    score(studio, 0.5)
    assert states(films, film) == ["queued"] * 3
    make_all(studio)
    score(studio, 0.0)
    make_all(studio)
    jobs = [one.chosen.job for one in films.status(film).shots]
    assert [studio.store.get(job).parent for job in jobs] == [None, *jobs[:2]]
    assert states(films, film) == ["done"] * 3
    assert films.change(film, films.get(film)).jobs == ()


def test_a_person_who_picks_a_take_decides(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    films.choose(film, "a", 1)
    make_all(studio)
    assert states(films, film) == ["done"] * 3
    score(studio, 0.9)
    assert len(shot(films, film).takes) == 1


def test_what_cannot_be_heard_ends_the_search_until_the_film_is_queued_again(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    score(studio, None)
    assert shot(films, film).chosen.scores == {"error": "no listener"}
    make_all(studio)
    assert states(films, film) == ["done"] * 3
    assert films.change(film, films.get(film)).jobs == ()
    score(studio, 0.9)
    assert shot(films, film).chosen.number == 2


@pytest.mark.slow
def test_a_search_outlives_its_processes_and_a_killed_check_is_made_again(
    studio: Studio, films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = films.queue(FILM).film
    make_all(studio)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checking, "check_take", die)
    with pytest.raises(KeyboardInterrupt):
        check_takes(studio.store, tmp_path)
    with closing(Store.open(studio.paths.outputs)) as later:
        take = TakeScores(later).unchecked()
        assert take is not None
        assert take.job == shot(films, film).chosen.job
        TakeScores(later).record(take.job, {"word_error_rate": 1.0, "loudness": None, "faults": []})
        TakeScores(later).record(take.job, {"word_error_rate": 1.0, "loudness": None, "faults": []})
    assert [take.state for take in shot(films, film).takes] == ["done", "queued"]


def test_a_forgotten_film_frees_the_shots_that_waited_for_a_check(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    films.delete(film)
    assert len(make_all(studio)) == 2
    assert studio.store.counts()[JobState.QUEUED] == 0


def test_edited_words_end_the_search_for_the_old_ones(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    films.edit_shot(film, "a", {"speech": [{"how": "A man says", "said": "There they go."}]})
    score(studio, 0.9)
    assert [(take.state, take.chosen) for take in shot(films, film).takes] == [("done", False), ("queued", True)]


def test_without_anything_that_listens_the_film_is_refused(films: Films, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JobError, match=r"Shot 1 \(a\): nothing here can listen.*download whisper"):
        films.queue(FILM)
    with pytest.raises(JobError, match=r"Shot 1 \(a\): Whisper is not in .*download whisper"):
        films.queue(replace(FILM, listener="whisper"))
    assert films.all() == []


@pytest.mark.slow
def test_a_studio_that_is_closed_ends_the_check_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "check.pid"
    script = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(100)"
    monkeypatch.setattr(studio_module, "check_command", lambda *_: [sys.executable, "-c", script])
    studio = Studio.open(tmp_path / "outputs", RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints"))
    monkeypatch.setattr(studio.supervisor, "start", lambda: None)
    studio.films.queue(FILM)
    make_all(studio)
    studio.start()
    wait_for(lambda: note.is_file() and note.read_text())
    studio.close()
    assert not psutil.pid_exists(int(note.read_text()))
