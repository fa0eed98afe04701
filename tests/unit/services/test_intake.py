"""Files that are dropped on the page: what becomes of each kind, and what is refused with which sentence."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from safetensors.numpy import load_file, save_file
from tab_server import make_clip

from ovi_studio.adapters.library import AdapterLibrary
from ovi_studio.core.errors import JobError
from ovi_studio.library import Query
from ovi_studio.media.pictures import decode_picture
from ovi_studio.runtime.options import RuntimeOptions
from ovi_studio.services.intake import LIMITS, Intake, Outcome
from ovi_studio.services.studio import Studio

LORA = ROOT / "loras" / "demo-lightning.safetensors"
PRESET = "title: Mine\nsettings: {steps: 7}\n"
TEMPLATES = """
category: Mine
templates:
  - {id: fox, title: A fox, prompt: "A {animal}.", slots: {animal: {label: Animal, default: fox}}}
  - {id: sea, title: The sea, prompt: Waves.}
"""


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = RuntimeOptions(checkpoint_directory=tmp_path / "checkpoints", adapter_directory=tmp_path / "loras")
    studio = Studio.open(tmp_path / "outputs", options)
    yield studio
    studio.close()


@pytest.fixture
def intake(studio: Studio) -> Intake:
    return studio.intake


def send(intake: Intake, name: str, data: bytes) -> str:
    path, ticket, _ = intake.begin(name, len(data))
    path.write_bytes(data)
    return ticket


def take(intake: Intake, *files: tuple[str, bytes], library: bool = False, replace: bool = False) -> list[Outcome]:
    tickets = [send(intake, name, data) for name, data in files]
    return intake.take(tickets, in_library=library, replace=replace)


def picture(suffix: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 40, 20)).save(buffer, suffix)
    return buffer.getvalue()


def waiting(studio: Studio) -> list[Path]:
    folder = studio.paths.uploads / "dropped"
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def test_a_clip_fills_the_form_and_several_or_one_in_the_library_are_added(studio: Studio, tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / "there", words, seed=9) for words in ("A fox", "A harbour", "A child")]
    files = [(clip.name, clip.read_bytes()) for clip in clips]
    (one,) = take(studio.intake, files[0])
    assert one.spec is not None
    assert (one.kind, one.spec.prompt, one.spec.seed) == ("done", "A fox", 9)
    studio.library.refresh()
    assert studio.library.search(Query()).total == 0
    assert "was added to the library" in take(studio.intake, files[0], library=True)[0].sentence
    assert "is already in the library" in take(studio.intake, files[0], library=True)[0].sentence
    assert [outcome.kind for outcome in take(studio.intake, *files[1:])] == ["done", "done"]
    assert studio.library.search(Query()).total == 3
    assert waiting(studio) == []


def test_a_poster_is_a_picture_but_in_the_library_its_clip_s_settings(intake: Intake, tmp_path: Path) -> None:
    poster = make_clip(tmp_path / "there", "A fox", first=decode_picture(picture(), "x")).with_suffix(".jpg")
    (outcome,) = take(intake, (poster.name, poster.read_bytes()))
    assert (outcome.picture is not None, outcome.spec) == (True, None)
    (outcome,) = take(intake, (poster.name, poster.read_bytes()), library=True)
    assert outcome.spec is not None
    assert outcome.spec.prompt == "A fox"
    assert "its first frame is not in the file" in outcome.sentence


@pytest.mark.parametrize("library", [False, True])
def test_one_picture_is_the_first_frame(intake: Intake, library: bool) -> None:
    one, two = take(intake, ("a.png", picture()), ("b.jpg", picture("JPEG")), library=library)
    assert one.picture is not None
    assert one.picture.read_bytes() == picture()
    assert (two.kind, two.picture) == ("refused", None)
    assert "a.png already fills the first frame" in two.sentence


def test_a_table_fills_the_form(intake: Intake) -> None:
    good, bad = take(intake, ("t.csv", b"text_prompt,seed\nA fox,7\n"), ("u.csv", b"foo,bar\n1,2\n"))
    assert good.table is not None
    assert bad.kind == "refused"


def test_an_adapter_is_added_after_its_checks_and_replaces_none_without_an_answer(studio: Studio) -> None:
    folder, data = studio.adapters.directory, LORA.read_bytes()
    (outcome,) = take(studio.intake, ("my film (v2).safetensors", data))
    assert (outcome.kind, [path.name for path in folder.iterdir()]) == ("done", ["my_film_(v2).safetensors"])
    assert "is already among" in take(studio.intake, ("my film (v2).safetensors", data))[0].sentence
    other = folder.parent / "other.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(LORA).items()}, other)
    (asked,) = take(studio.intake, ("my_film_(v2).safetensors", other.read_bytes()))
    assert (asked.kind, (folder / "my_film_(v2).safetensors").read_bytes() == data) == ("question", True)
    (replaced,) = studio.intake.take([asked.ticket], in_library=False, replace=True)
    assert (replaced.kind, (folder / "my_film_(v2).safetensors").read_bytes() == other.read_bytes()) == ("done", True)
    assert replaced.undo is not None
    replaced.undo()
    assert (folder / "my_film_(v2).safetensors").read_bytes() == data
    with pytest.raises(JobError, match="too late"):
        replaced.undo()
    assert waiting(studio) == []


def test_an_adapter_of_a_shipped_name_is_asked_about(studio: Studio, tmp_path: Path) -> None:
    # In a repository it lies among the user's own.
    studio.adapters = AdapterLibrary(studio.adapters.directory, LORA.parent)
    save_file({name: 2 * tensor for name, tensor in load_file(LORA).items()}, tmp_path / "x.safetensors")
    (asked,) = take(studio.intake, (LORA.name, (tmp_path / "x.safetensors").read_bytes()))
    assert asked.kind == "question"
    assert not (studio.adapters.directory / LORA.name).exists()


def test_a_bad_adapter_is_refused_with_the_reason_of_the_folder(studio: Studio, tmp_path: Path) -> None:
    tensors = load_file(LORA)
    name = next(name for name in tensors if tensors[name].size > 1)
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, tmp_path / "nan.safetensors")
    bad = [("nan.safetensors", (tmp_path / "nan.safetensors").read_bytes(), "NaN or infinite")]
    rejected = ROOT / "tests" / "reference" / "lora" / "rejected"
    for file, reason in (
        ("pickle_in_disguise", "is a pickle with the name of a safetensors file"),
        ("truncated", "was cut off"),
        ("html", "is a web page"),
        ("wrong_model_14b", "14B"),
    ):
        bad.append((f"{file}.safetensors", (rejected / f"{file}.safetensors").read_bytes(), reason))
    for outcome, (_, _, reason) in zip(take(studio.intake, *[file[:2] for file in bad]), bad, strict=True):
        assert (outcome.kind, reason in outcome.sentence) == ("refused", True), outcome.sentence
    assert not studio.adapters.directory.exists() or not list(studio.adapters.directory.iterdir())
    assert waiting(studio) == []


def test_presets_and_templates_become_the_user_s_own(studio: Studio) -> None:
    (added,) = take(studio.intake, ("p.yaml", PRESET.encode()))
    assert (added.kind, studio.presets.get("mine").own) == ("done", True)
    assert "is there already" in take(studio.intake, ("q.yml", PRESET.encode()))[0].sentence
    changed = PRESET.replace("7", "9").encode()
    (asked,) = take(studio.intake, ("p.yaml", changed))
    assert (asked.kind, studio.presets.get("mine").settings["steps"]) == ("question", 7)
    (replaced,) = studio.intake.take([asked.ticket], in_library=False, replace=True)
    assert studio.presets.get("mine").settings["steps"] == 9
    assert replaced.undo is not None
    replaced.undo()
    assert studio.presets.get("mine").settings["steps"] == 7
    assert "2 templates added" in take(studio.intake, ("t.yaml", TEMPLATES.encode()))[0].sentence
    assert "0 templates added, 2 known already" in take(studio.intake, ("t.yaml", TEMPLATES.encode()))[0].sentence
    assert [template.title for template in studio.templates.all().templates if template.own] == ["A fox", "The sea"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1]", "must consist of lines"),
        ("title: x\nfoo: 1", "unknown entry foo"),
        ("title: Draft\nsettings: {steps: 7}", "already ships a preset"),
        ("title: '🦊'\nsettings: {steps: 7}", "Latin letters"),
        ("title: x\nsettings: {steps: 0}", "steps must be between"),
        ("templates: [{id: fox}]", "entry 1"),
        ("templates: 3", "no list of templates"),
        ("a: &a [1]\nb: *a", "anchors"),
    ],
)
def test_a_bad_yaml_file_is_refused_and_adds_nothing(studio: Studio, text: str, sentence: str) -> None:
    (outcome,) = take(studio.intake, ("x.yaml", text.encode()))
    assert (outcome.kind, sentence in outcome.sentence) == ("refused", True), outcome.sentence
    assert not any(preset.own for preset in studio.presets.all().presets)
    assert not any(template.own for template in studio.templates.all().templates)


@pytest.mark.parametrize(
    ("name", "size", "sentence"),
    [
        ("evil.pt", 10, "is a pickle"),
        ("evil.CKPT", 10, "is a pickle"),
        ("virus.exe", 10, "is no clip"),
        ("noextension", 10, "is no clip"),
        ("", 10, "is no clip"),
        ("page.html", 10, "is no clip"),
        ("big.png", LIMITS[".png"] + 1, "is larger than 50 MB"),
        ("big.safetensors", 2**31 + 1, "is larger than 2048 MB"),
        ("full.mp4", 0, "no space"),
    ],
)
def test_what_cannot_be_used_is_refused_before_it_is_sent(
    intake: Intake, name: str, size: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sentence == "no space":
        usage = shutil.disk_usage("/")._replace(free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(JobError, match=sentence):
        intake.begin(name, size)


@pytest.mark.parametrize(
    "name", ["../../evil.png", "/etc/evil.png", "..\\evil.png", "evil\n\0.png", "." * 300 + ".png"]
)
def test_a_name_leads_nowhere_else(studio: Studio, name: str) -> None:
    path, ticket, _ = studio.intake.begin(name, 1)
    assert path.parent == studio.paths.uploads / "dropped" / ticket
    assert path.name.isprintable()
    assert path.suffix == ".png"


def test_a_ticket_is_an_id_and_no_path(studio: Studio, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("text_prompt\nsecret\n")
    for ticket in ("../..", str(tmp_path), "0" * 32, "", "x" * 2**16):
        (outcome,) = studio.intake.take([ticket], in_library=False)
        assert (outcome.kind, outcome.table) == ("refused", None)
        studio.intake.discard(ticket)
    assert secret.exists()


def test_files_that_nobody_takes_are_deleted_after_an_hour(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    send(studio.intake, "a.png", picture())
    assert len(waiting(studio)) == 1
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    studio.intake.begin("b.png", 1)
    assert waiting(studio) == []


def test_where_everyone_may_come_files_fill_the_form_and_nothing_is_kept(studio: Studio, tmp_path: Path) -> None:
    intake = Intake(studio, studio.paths.uploads / "dropped", keeps=False)
    for name in ("mine.safetensors", "mine.yaml"):
        with pytest.raises(JobError, match="only its owner adds such files"):
            intake.begin(name, 10)
    clips = [make_clip(tmp_path / "there", words, seed=9) for words in ("A fox", "A harbour")]
    outcomes = take(intake, *((clip.name, clip.read_bytes()) for clip in clips), library=True)
    assert [outcome.kind for outcome in outcomes] == ["done", "refused"]
    assert outcomes[0].spec is not None
    assert outcomes[0].spec.prompt == "A fox"
    assert studio.library.search(Query()).total == 0
    assert take(intake, ("first.png", picture()))[0].picture is not None
