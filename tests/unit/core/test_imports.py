"""No garbage is collected while large libraries are imported; and some are not imported before they are used."""

import gc
import importlib
import sys
from pathlib import Path

import pytest

from ovi_studio.core.imports import postpone, without_collecting


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


def test_a_postponed_module_is_imported_when_something_of_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "seldom_used"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('imported').touch()\nnumber = 7\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        postpone("seldom_used.part")
        part = importlib.import_module("seldom_used.part")
        assert not hasattr(part, "__file__")  # as whoever looks through all modules asks
        assert not (package / "imported").exists()
        assert part.number == 7
        assert (package / "imported").exists()
        whole = importlib.import_module("seldom_used.part")
        assert whole.__file__ == str(package / "part.py")
        assert whole is importlib.import_module("seldom_used").part
        postpone("seldom_used.part")  # too late, and no harm
        assert sys.modules["seldom_used.part"] is whole
        with pytest.raises(AttributeError, match="nothing"):
            _ = part.nothing
    finally:
        for name in ("seldom_used", "seldom_used.part"):
            sys.modules.pop(name, None)
