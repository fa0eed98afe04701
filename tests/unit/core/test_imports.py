"""No garbage is collected while large libraries are imported, and afterwards it is again."""

import gc

import pytest

from ovi_studio.core.imports import without_collecting


def test_garbage_is_collected_again_also_after_an_import_that_fails():
    collecting = []

    def import_it() -> None:
        with without_collecting():
            collecting.append(gc.isenabled())
            raise ImportError

    assert gc.isenabled()
    with pytest.raises(ImportError):
        import_it()
    assert collecting == [False]
    assert gc.isenabled()


def test_a_program_that_collects_nothing_stays_so():
    gc.disable()
    try:
        with without_collecting():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
