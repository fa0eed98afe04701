"""Frames that are encoded as they come: the same file as from all frames at once, in bounded memory."""

import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from ovi_studio.core.clip import Clip
from ovi_studio.core.spec import ClipSpec
from ovi_studio.media.clip_files import write_clip
from ovi_studio.media.film import WAITING, Film
from ovi_studio.media.frame_array import FrameArray
from ovi_studio.media.frames import POSTER_FRAME, spread_frames
from ovi_studio.media.mp4_encoder import Mp4Encoder

COUNT, HEIGHT, WIDTH = 29, 32, 64
SAMPLES = np.sin(np.arange(COUNT * 667, dtype=np.float32) / 9)


def pixels(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def pieces(frames: np.ndarray) -> Iterable[np.ndarray]:
    """As the decoder gives them: one frame, and then four at a time."""
    return [frames[:1], *(frames[start : start + 4] for start in range(1, len(frames), 4))]


def filmed(frames: np.ndarray) -> Film:
    return filmed_pieces(len(frames), pieces(frames))


def filmed_pieces(count: int, given: Iterable[np.ndarray]) -> Film:
    with Film(count, HEIGHT, WIDTH) as film:
        for piece in given:
            film.add(piece)
    return film.result()


def film_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "film"]


def test_a_film_gives_the_same_files_as_all_frames_at_once(tmp_path: Path) -> None:
    spec, frames = ClipSpec(prompt="a ball", variant="tiny", seed=1), pixels()
    files = [write_clip(Clip(spec, each, SAMPLES), tmp_path, "clip") for each in (frames, filmed(frames))]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].with_suffix(".jpg").read_bytes() == files[1].with_suffix(".jpg").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 13, 121])
def test_a_film_keeps_the_poster_and_the_frames_that_previews_learn_from(count: int) -> None:
    frames = pixels(count)
    film = filmed(frames)
    assert film.shape == frames.shape
    kept = {min(POSTER_FRAME, count - 1), *spread_frames(count)}
    assert len(kept) <= 9
    for index in kept:
        assert np.array_equal(film[index], frames[index])
    if count == 121:
        with pytest.raises(IndexError, match="frame 1 was encoded and not kept"):
            film[1]


@pytest.mark.slow
def test_frames_wait_for_a_slow_encoder_instead_of_piling_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Mp4Encoder, frame: np.ndarray) -> None:
        time.sleep(0.002)

    monkeypatch.setattr(Mp4Encoder, "add", slow)
    alive: set[int] = set()
    most = 0
    with Film(241, HEIGHT, WIDTH) as film:
        for number in range(61):
            piece = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
            alive.add(number)
            weakref.finalize(piece, alive.remove, number)
            film.add(piece)
            del piece
            most = max(most, len(alive))
    assert 1 < most <= WAITING + 2, "those that wait, the one that is encoded, and the one that was just made"
    assert not alive


def test_frames_are_encoded_while_the_next_ones_are_made() -> None:
    encoded = []
    with Film(COUNT, HEIGHT, WIDTH) as film:
        for piece in pieces(pixels()):
            film.add(piece)
            encoded.append(film._encoder._frames)
            time.sleep(0.02)
    assert max(encoded) > 1


def test_an_error_of_the_encoder_is_raised_where_frames_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Mp4Encoder, frame: np.ndarray) -> None:
        raise MemoryError("no room for a frame")

    monkeypatch.setattr(Mp4Encoder, "add", broken)
    many = [pixels(4) for _ in range(100)]
    left = iter(many)
    with pytest.raises(MemoryError, match="no room for a frame"):
        filmed_pieces(400, left)
    assert next(left, None) is not None, "it was raised early"
    assert not film_threads()


def test_an_error_with_the_last_frames_is_raised_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Mp4Encoder) -> None:
        raise ValueError("no end")

    monkeypatch.setattr(Mp4Encoder, "end_frames", broken)
    with pytest.raises(ValueError, match="no end"):
        filmed(pixels(1))
    assert not film_threads()


def test_frames_that_wait_are_not_encoded_after_an_error_of_the_one_who_makes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = []

    def slow(self: Mp4Encoder, frame: np.ndarray) -> None:
        encoded.append(1)
        time.sleep(0.05)

    monkeypatch.setattr(Mp4Encoder, "add", slow)
    with pytest.raises(ZeroDivisionError):
        filmed_pieces(COUNT, (pixels(4 // number) for number in (2, 1, 0)))
    assert len(encoded) < 2 + 4
    assert not film_threads()


def test_an_array_of_frames_has_them_all_in_order() -> None:
    frames = pixels()
    with FrameArray(*frames.shape[:3]) as sink:
        for piece in pieces(frames):
            sink.add(piece)
    assert np.array_equal(sink.result(), frames)


def test_a_film_without_frames_ends_as_well() -> None:
    # On ranks that send their pieces to the leader.
    assert filmed_pieces(COUNT, ()).shape == (COUNT, HEIGHT, WIDTH, 3)
    assert not film_threads()
