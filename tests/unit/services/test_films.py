"""Films in the queue: what is made, and what is made again when something changes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from film_jobs import make_all
from PIL import Image

from ovi_studio.core.errors import JobError
from ovi_studio.core.requests import SeedMode
from ovi_studio.film.script import Character, Film, FromPicture, FromShot, Look, Shot, SpeechRow, Takes
from ovi_studio.queue.model import JobState
from ovi_studio.queue.pictures import remove_unused_pictures
from ovi_studio.queue.work import EngineSession
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.film_plan import FilmPlan, plan_film
from ovi_studio.services.films import Films
from ovi_studio.services.studio import Studio

LOOK = Look(preset="demo", seed=5, seed_mode=SeedMode.FIXED)
FILM = Film(
    "Two rooms",
    (
        Shot("a", "Mara sits."),
        Shot("b", "Mara rises.", begin=FromShot()),
        Shot("c", "Mara goes.", begin=FromShot()),
        Shot("d", "A ball.", speech=(SpeechRow("Look!", "Mara", seen=False),), fade_ms=100),
    ),
    LOOK,
    (Character("Mara", "a woman in yellow"),),
)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints")
    with closing(Studio.open(tmp_path / "outputs", options)) as studio:
        yield studio


@pytest.fixture
def films(studio: Studio) -> Films:
    return studio.films


def shots_of(films: Films, film: int, jobs: tuple[str, ...]) -> str:
    """The shots to which jobs belong."""
    return "".join(shot.shot.id for shot in films.status(film).shots for take in shot.takes if take.job in jobs)


def states(films: Films, film: int) -> list[str]:
    return [shot.chosen.state for shot in films.status(film).shots]


def test_a_film_is_queued_as_one_batch_and_made_in_order(studio: Studio, films: Films) -> None:
    queued = films.queue(FILM)
    jobs = [studio.store.get(job) for job in queued.jobs]
    assert {job.batch_name for job in jobs} == {"Two rooms"}
    assert [job.spec.seed for job in jobs] == [5] * 4
    assert jobs[0].spec.prompt == "Mara is a woman in yellow. Mara sits."
    assert jobs[3].spec.prompt == "A ball. Mara says off screen, <S>Look!<E>"
    assert [job.parent for job in jobs] == [None, queued.jobs[0], queued.jobs[1], None]
    assert films.status(queued.film).done == 0
    with pytest.raises(JobError, match=r"4 of 4 shots have no clip: Shot 1 \(a\) \(queued\)"):
        films.cut_list(queued.film)
    make_all(studio)
    assert films.status(queued.film).done == 4
    cut = films.cut_list(queued.film)
    assert cut.title == "Two rooms"
    assert [(shot.continues, shot.fade_ms) for shot in cut.shots] == [(False, 0), (True, 0), (True, 0), (False, 100)]
    assert [(line.who, line.said) for line in cut.shots[3].speech] == [("Mara", "Look!")]
    assert [shot.clip for shot in cut.shots] == [studio.store.get(job).clip for job in queued.jobs]


def test_what_is_queued_again_unchanged_makes_nothing(studio: Studio, films: Films) -> None:
    for look in (LOOK, Look(preset="demo")):
        film = films.queue(replace(FILM, look=look), source=str(look)).film
        assert films.queue(replace(FILM, look=look), source=str(look)).jobs == ()
        make_all(studio)
        again = films.queue(replace(FILM, look=look), source=str(look))
        assert (again.film, again.jobs, again.retried) == (film, (), 0)


def test_an_edited_shot_is_made_again_with_those_that_depend_on_it(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    changed = films.edit_shot(film, "b", {"prompt": "Mara jumps."})
    assert shots_of(films, film, changed.jobs) == "bc"
    assert states(films, film) == ["done", "queued", "queued", "done"]
    assert len(make_all(studio)) == 2
    assert [len(shot.takes) for shot in films.status(film).shots] == [1, 2, 2, 1]
    # And back: the takes are still there.
    assert films.edit_shot(film, "b", {"prompt": "Mara rises."}).jobs == ()
    assert [shot.chosen.number for shot in films.status(film).shots] == [1, 1, 1, 1]


def test_waiting_takes_of_an_edited_shot_are_cancelled(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    before = [shot.chosen.job for shot in films.status(film).shots]
    changed = films.edit_shot(film, "b", {"prompt": "Mara jumps."})
    assert [str(studio.store.get(job).state) for job in before] == ["queued", "cancelled", "cancelled", "queued"]
    assert len(make_all(studio)) == 4
    assert set(changed.jobs) <= {shot.chosen.job for shot in films.status(film).shots}


def test_what_all_shots_share_makes_all_of_them_again(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    changed = replace(films.get(film), characters=(Character("Mara", "a woman in red"),))
    # The speaker of the last shot is not seen.
    assert shots_of(films, film, films.change(film, changed).jobs) == "abc"


def test_another_take_is_chosen_and_what_continues_it_is_made_once(studio: Studio, films: Films) -> None:
    film = films.queue(replace(FILM, shots=(replace(FILM.shots[0], takes=Takes(2)), *FILM.shots[1:]))).film
    assert len(make_all(studio)) == 5
    assert shots_of(films, film, films.choose(film, "a", 2).jobs) == "bc"
    make_all(studio)
    assert films.choose(film, "a", 1).jobs == ()
    assert [shot.chosen.number for shot in films.status(film).shots] == [1, 1, 1, 1]
    assert films.choose(film, "a", 2).jobs == ()
    assert [shot.chosen.number for shot in films.status(film).shots] == [2, 2, 2, 1]
    parents = [studio.store.get(shot.chosen.job).parent for shot in films.status(film).shots]
    assert parents[1] == films.status(film).shots[0].chosen.job
    with pytest.raises(JobError, match="The shot a has no take 3"):
        films.choose(film, "a", 3)
    with pytest.raises(JobError, match="The film has no shot 'x'"):
        films.choose(film, "x", 1)


def test_a_shot_made_again_has_a_new_seed_and_stays_chosen(studio: Studio, films: Films) -> None:
    film = films.queue(FILM, source="f").film
    make_all(studio)
    assert shots_of(films, film, films.again(film, "b").jobs) == "bc"
    make_all(studio)
    first, second = films.status(film).shots[1].takes
    assert (first.seed, second.chosen) == (5, True)
    assert second.seed != 5
    assert films.queue(FILM, source="f").jobs == ()
    assert films.status(film).shots[1].chosen.number == 2


@pytest.mark.slow
def test_more_takes_are_added_to_those_there_are(studio: Studio, films: Films) -> None:
    for look, seeds in ((LOOK, [5, 6, 7]), (Look(preset="demo"), None)):
        film = films.queue(replace(FILM, look=look)).film
        make_all(studio)
        more = films.edit_shot(film, "d", {"takes": 3})
        assert shots_of(films, film, more.jobs) == "dd"
        shot = films.status(film).shots[3]
        assert shot.chosen.number == 1
        if seeds:
            assert [take.seed for take in shot.takes] == seeds
        else:
            assert len({take.seed for take in shot.takes}) == 3
        make_all(studio)


def test_moving_a_shot_makes_only_those_again_that_follow_another_one_now(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    assert shots_of(films, film, films.move_shot(film, "d", 1).jobs) == "bc"  # b continues d now
    with pytest.raises(JobError, match=r"Shot 1 \(b\): there is no shot before it to continue"):
        films.move_shot(film, "b", 0)
    assert [shot.id for shot in films.get(film).shots] == ["a", "d", "b", "c"]
    with pytest.raises(JobError, match="choose a place from 1 to 4"):
        films.move_shot(film, "b", 4)


def test_failed_and_cancelled_shots_are_retried_when_the_film_is_queued_again(studio: Studio, films: Films) -> None:
    film = films.queue(FILM, source="f").film
    with EngineSession(studio.store.database, "worker") as work:
        job = work.claim()
        assert job is not None
        work.fail(job, "no")
    assert states(films, film) == ["failed", "blocked", "blocked", "queued"]
    assert "retry job 1" in films.status(film).shots[2].chosen.message
    again = films.queue(FILM, source="f")
    assert (again.jobs, again.retried) == ((), 1)
    assert len(make_all(studio)) == 4


def test_a_deleted_take_is_made_again_with_those_that_depend_on_it(studio: Studio, films: Films) -> None:
    film = films.queue(FILM, source="f").film
    make_all(studio)
    clip = films.status(film).shots[1].chosen.clip
    assert clip is not None
    clip.unlink()
    assert states(films, film) == ["done", "deleted", "done", "done"]
    assert films.status(film).shots[1].chosen.message.endswith("put it back, or ask for another one.")
    with pytest.raises(JobError, match=r"1 of 4 shots have no clip: Shot 2 \(b\) \(deleted\). Queue the film again"):
        films.cut_list(film)
    assert shots_of(films, film, films.queue(FILM, source="f").jobs) == "bc"


def test_a_deleted_take_cannot_be_chosen(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    make_all(studio)
    films.again(film, "d")
    make_all(studio)
    clip = films.status(film).shots[3].takes[0].clip
    assert clip is not None
    clip.unlink()
    with pytest.raises(JobError, match="Take 1 of the shot d was deleted; choose another one, or make one"):
        films.choose(film, "d", 1)
    assert films.status(film).shots[3].chosen.number == 2


def test_a_waiting_take_that_was_deleted_is_queued_again(studio: Studio, films: Films) -> None:
    film = films.queue(FILM, source="f").film
    studio.store.delete([films.status(film).shots[0].chosen.job])
    assert states(films, film) == ["deleted", "blocked", "blocked", "queued"]
    assert all("deleted" in shot.chosen.message for shot in films.status(film).shots[:3])
    assert shots_of(films, film, films.queue(FILM, source="f").jobs) == "abc"
    assert len(make_all(studio)) == 4
    assert films.status(film).done == 4


def test_a_film_outlives_the_list_of_finished_jobs(studio: Studio, films: Films) -> None:
    film = films.queue(FILM, source="f").film
    make_all(studio)
    studio.store.clear_finished()
    assert states(films, film) == ["done"] * 4
    assert len(films.cut_list(film).shots) == 4
    assert films.queue(FILM, source="f").jobs == ()
    # A shot that continues a clip whose job is gone.
    assert shots_of(films, film, films.again(film, "b").jobs) == "bc"
    assert len(make_all(studio)) == 2


def test_a_picture_begins_a_shot_and_another_one_of_that_name_makes_it_again(
    studio: Studio, films: Films, tmp_path: Path
) -> None:
    picture = tmp_path / "frame.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    film = Film("x", (Shot("1", "a ball", begin=FromPicture(picture)),), LOOK)
    queued = films.queue(film, source="f")
    assert studio.store.get(queued.jobs[0]).spec.image is not None
    assert films.queue(film, source="f").jobs == ()
    Image.new("RGB", (64, 64), "blue").save(picture)
    assert len(films.queue(film, source="f").jobs) == 1
    picture.unlink()
    with pytest.raises(JobError, match=r"Shot 1: .*frame\.png"):
        films.queue(film, source="f")
    assert len(films.status(queued.film).shots[0].takes) == 2


def test_an_uploaded_picture_is_not_removed_before_the_film_refers_to_it(
    studio: Studio, films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(*asked: Any) -> FilmPlan:
        remove_unused_pictures(studio.store.database)
        return plan_film(*asked)

    film = films.queue(FILM).film
    Image.new("RGB", (64, 64), "red").save(tmp_path / "upload.png")
    monkeypatch.setattr("ovi_studio.services.films.plan_film", plan)
    assert shots_of(films, film, films.edit_shot(film, "d", {}, tmp_path / "upload.png").jobs) == "d"


@pytest.mark.parametrize(
    ("film", "sentence"),
    [
        (replace(FILM, look=Look("nonsense")), r"nonsense"),
        (replace(FILM, look=Look("960x960_5s")), r"The model 960x960_5s is not complete; download it"),
        (replace(FILM, look=Look(preset="nonsense")), "There is no preset 'nonsense'"),
        (replace(FILM, look=Look(ratio="5:4")), r"Shot 1 \(a\): Unknown aspect ratio '5:4'"),
        (Film("x", (Shot("1", "a"), Shot("2", "b", seconds=7))), "Shot 2: it is to last 7 s, but the models here"),
        (Film("x", (Shot("1", "a"), Shot("2", "b <lora:none:1>"))), "Shot 2: .*none"),
    ],
    ids=["variant", "incomplete", "preset", "ratio", "length", "adapter"],
)
def test_what_cannot_be_made_here_queues_nothing(studio: Studio, films: Films, film: Film, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        films.queue(film)
    assert studio.store.count() == 0
    assert films.all() == []


def test_seeds_follow_the_rule_of_the_film(studio: Studio, films: Films) -> None:
    shots = (Shot("1", "a", takes=Takes(2)), Shot("2", "b"), Shot("3", "c", takes=Takes(2, (8, 9))))

    def seeds(look: Look) -> list[int]:
        return [studio.store.get(job).spec.seed for job in films.queue(Film("x", shots, look)).jobs]

    assert seeds(replace(LOOK, seed_mode=SeedMode.NEXT)) == [5, 6, 6, 8, 9]
    assert seeds(LOOK) == [5, 6, 5, 8, 9]
    assert seeds(Look())[3:] == [8, 9]


def test_prompts_are_taken_as_they_are_written(studio: Studio, films: Films) -> None:
    (job,) = films.queue(Film("x", (Shot("1", "a {red|blue} ball"),), LOOK)).jobs
    assert studio.store.get(job).spec.prompt == "A {red|blue} ball."


def test_speech_that_is_too_long_for_its_clip_is_remarked_upon(films: Films) -> None:
    said = " ".join(["word"] * 40)
    remarks = films.queue(Film("x", (Shot("1", "a", speech=(SpeechRow(said),)),), LOOK)).remarks
    assert any(remark.startswith("Shot 1: ") and "too much" in remark for remark in remarks)


def test_a_forgotten_film_leaves_its_jobs(studio: Studio, films: Films) -> None:
    film = films.queue(FILM).film
    films.delete(film)
    assert studio.store.counts()[JobState.QUEUED] == 4
    with pytest.raises(JobError, match="This film no longer exists"):
        films.status(film)
