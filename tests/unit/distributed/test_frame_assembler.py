"""Frames from pieces: complete, in order, and no longer held than needed."""

import numpy as np
import pytest

from ovi_studio.distributed.decode import FrameAssembler, Piece

HEIGHT, WIDTH = 4, 6
CHUNKS = [slice(0, 1), slice(1, 5), slice(5, 9)]


def piece(frames: slice, rows: slice, columns: slice, whole: np.ndarray) -> Piece:
    return Piece(frames, rows, columns, whole[frames, rows, columns], finite=True)


@pytest.fixture
def whole() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, HEIGHT, WIDTH, 3), np.uint8)


def test_whole_frames_pass_through_without_a_copy(whole: np.ndarray) -> None:
    assembler = FrameAssembler(HEIGHT, WIDTH)
    for chunk in CHUNKS:
        given = piece(chunk, slice(0, HEIGHT), slice(0, WIDTH), whole)
        assert assembler.add(given) is given.pixels


def test_frames_are_complete_with_the_last_tile_and_in_order(whole: np.ndarray) -> None:
    assembler = FrameAssembler(HEIGHT, WIDTH)
    tiles = [(rows, columns) for rows in (slice(0, 1), slice(1, 4)) for columns in (slice(0, 4), slice(4, 6))]
    for rows, columns in tiles[:-1]:
        assert all(assembler.add(piece(chunk, rows, columns, whole)) is None for chunk in CHUNKS)
    made = [assembler.add(piece(chunk, *tiles[-1], whole)) for chunk in CHUNKS]
    assert all(np.array_equal(frames, whole[chunk]) for frames, chunk in zip(made, CHUNKS, strict=True))


def test_with_a_rank_for_each_tile_every_piece_completes_frames(whole: np.ndarray) -> None:
    assembler = FrameAssembler(HEIGHT, WIDTH)
    halves = (slice(0, 2), slice(2, 4))
    for chunk in CHUNKS:
        first, second = (assembler.add(piece(chunk, rows, slice(0, WIDTH), whole)) for rows in halves)
        assert first is None
        assert np.array_equal(second, whole[chunk])
