"""No garbage is collected while large libraries are imported, and afterwards it is again, but not in them."""

import gc
import importlib
import sys
import weakref
from pathlib import Path

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


def test_what_is_imported_is_not_looked_through_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "large_library.py").write_text("everything = [[]]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with without_collecting():
        library = importlib.import_module("large_library")
    assert gc.is_tracked(library.everything)
    assert not any(each is library.everything for each in gc.get_objects())
    monkeypatch.delitem(sys.modules, "large_library")


def test_garbage_from_before_an_import_does_not_stay():
    class Model:
        pass

    model = Model()
    model.itself = model
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        with without_collecting():
            pass
        assert gone() is None
    finally:
        gc.enable()


def test_a_block_that_imports_nothing_new_keeps_nothing():
    with without_collecting():
        new = [[]]
    assert any(each is new for each in gc.get_objects())
