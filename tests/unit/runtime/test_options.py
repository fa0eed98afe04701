"""`RuntimeOptions`: an option that is declared once works everywhere, and survives every conversion."""

import argparse
import os
import shutil
from pathlib import Path

import pytest
from places import ROOT
from warm_start import PAGES

from ovi_studio.core.errors import JobError
from ovi_studio.runtime.options import OptionGroup, RuntimeOptions

EVERYTHING = RuntimeOptions(
    checkpoint_directory=Path("/weights"),
    adapter_directory=Path("/my loras"),
    upscaler_directory=Path("/my upscalers"),
    device="cuda:1",
    dtype="float32",
    attention="flash2",
    weights="int8",
    memory="12",
    compilation=False,
    tf32=True,
    offloaded=True,
    gpus=1,
    fsdp_strategy="FULL_SHARD",
    resident_blocks=0,
    fsdp_offload=True,
)
_ANSWERS = """
import argparse, pathlib, sys
import gradio as gr

# What this process is forked from has imported the program; here it is the copy in this folder.
for name in list(sys.modules):
    if name == "app" or name.partition(".")[0] == "ovi_studio":
        del sys.modules[name]
sys.path.insert(0, str(pathlib.Path.cwd()))
import ovi_studio
assert pathlib.Path(ovi_studio.__file__).is_relative_to(pathlib.Path.cwd())

from ovi_studio.__main__ import build_parser
from ovi_studio.engine.command import add_engine_options, engine_command
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.queue.store import Store
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.runtime.settings import EngineSettings, save_settings, read_settings
from ovi_studio.web.tabs.system.settings import build_settings
import app

# Every command that computes has it, with its help.
for command in (["generate", "--prompt", "x"], ["engine"], ["bench"]):
    options = RuntimeOptions.of(build_parser().parse_args([*command, "--colour", "teal"]))
    assert options.colour == "teal", command
help_text = [action for action in build_parser()._actions if action.choices][0].choices["generate"].format_help()
assert "its colour" in help_text
assert RuntimeOptions.of(app.parse_arguments(["--colour", "teal"])).colour == "teal"

# The engine that is started has it.
paths = StudioPaths.of(pathlib.Path(sys.argv[1]))
command = engine_command(paths, RuntimeOptions(colour="teal"))
parser = argparse.ArgumentParser()
add_engine_options(parser)
assert RuntimeOptions.of(parser.parse_args(command[3:])).colour == "teal"

# The store keeps it, and the panel shows it.
store = Store.open(pathlib.Path(sys.argv[1]))
save_settings(store.database, EngineSettings(RuntimeOptions(colour="red")))
assert RuntimeOptions().over(read_settings(store.database).options).colour == "red"
assert RuntimeOptions(colour="teal").over(read_settings(store.database).options).colour == "teal"

class Shelf:
    pass

shelf = Shelf()
shelf.store, shelf.supervisor, shelf.options = store, None, RuntimeOptions()
with gr.Blocks() as page:
    build_settings(shelf, page.load)
fields = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
assert fields["setting-colour"].label == "Colour"
store.close()
print("everywhere")
"""


@pytest.mark.slow
def test_an_added_field_works_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tested in a copy of the program: commands, help, page, engine, store, panel."""
    shutil.copytree(
        ROOT / "ovi_studio", tmp_path / "ovi_studio", ignore=shutil.ignore_patterns("bundle", "__pycache__")
    )
    shutil.copy(ROOT / "app.py", tmp_path)
    declaration = tmp_path / "ovi_studio" / "runtime" / "options.py"
    text = declaration.read_text(encoding="utf-8")
    place = "    gpus: int | None = option("
    assert text.count(place) == 1
    added = (
        '    colour: str = option("blue", "--colour", "its colour", OptionGroup.COMPUTING, choices=("blue", "teal", '
        '"red"), setting=Setting("Colour", "Of everything.", lambda: [("Red", "red")]))\n'
    )
    declaration.write_text(text.replace(place, added + place), encoding="utf-8")
    (tmp_path / "answers.py").write_text(_ANSWERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = PAGES.run("answers.py", "outputs", environment={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout.strip().endswith("everywhere"), done.stderr[-3000:]


def test_every_option_has_a_value_in_these_tests() -> None:
    assert [name for name in RuntimeOptions.options() if not EVERYTHING.given(name)] == []


def test_options_survive_a_command_line_and_json() -> None:
    for options in (EVERYTHING, RuntimeOptions(), RuntimeOptions(compilation=True, tf32=False)):
        parser = argparse.ArgumentParser()
        RuntimeOptions.add_to(parser, *OptionGroup)
        assert RuntimeOptions.of(parser.parse_args(options.arguments())) == options
        assert RuntimeOptions.from_json(options.as_json()) == options


def test_given_options_take_precedence() -> None:
    assert RuntimeOptions().over(EVERYTHING) == EVERYTHING
    assert EVERYTHING.over(RuntimeOptions(memory="24", tf32=False)) == EVERYTHING
    assert RuntimeOptions(memory="8").over(EVERYTHING).memory == "8"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"memory": "13"}, r"'13' is not a valid value for --memory; choose one of auto, 8,"),
        ({"attention": "magic"}, r"'magic' is not a valid value for --attention; choose one of auto, native,"),
        ({"device": "tpu"}, r"'tpu' is not a valid value for --device: write cpu, cuda, or cuda:1"),
        ({"device": "cuda:1", "gpus": 2}, "--device names one device"),
        ({"resident_blocks": -1}, "must be 0 or more, not -1"),
    ],
)
def test_an_invalid_value_is_refused_with_the_valid_ones(options: dict[str, object], said: str) -> None:
    with pytest.raises(JobError, match=said):
        RuntimeOptions(**options)


def test_a_named_device_is_used_by_one_process() -> None:
    assert RuntimeOptions(device="cpu").ranks == 1
    assert RuntimeOptions(gpus=4).ranks == 4
    assert RuntimeOptions().ranks is None
