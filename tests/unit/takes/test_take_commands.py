"""`review`, `sign` and `show` as commands."""

import argparse
import json

import numpy as np
import pytest
from film_shots import write_shot

from ovi_studio.cli import review, show, sign
from ovi_studio.cli.command import Command
from ovi_studio.core.errors import JobError
from ovi_studio.film.cut import CutList, CutShot
from ovi_studio.film.export import export_film
from ovi_studio.media.clip_files import read_record


def run(command: Command, *arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_review_measures_the_speech_that_the_clip_was_asked_for(tmp_path, capsys):
    greys = 60 + np.arange(48)
    silent = write_shot(tmp_path, greys, np.zeros(32_000, np.float32), prompt="A man says, <S>Good morning to you.<E>")
    quiet = write_shot(tmp_path, greys, prompt="A quiet street.")
    assert run(review.COMMAND, quiet, "--ckpt-dir", tmp_path) == 0
    assert run(review.COMMAND, silent, quiet, "--ckpt-dir", tmp_path) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [entry["clip"] for entry in found] == [str(quiet), str(silent), str(quiet)]
    assert [[fault["kind"] for fault in entry["faults"]] for entry in found] == [[], ["silent"], []]
    assert found[1]["said"] == ["Good morning to you."]


def test_show_prints_the_settings_and_verifies_the_marks(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = write_shot(tmp_path, [60] * 12)
    assert run(show.COMMAND, clip) == 0
    plain = capsys.readouterr()
    assert json.loads(plain.out) == read_record(clip)
    assert "mark: made by a model" in plain.err
    assert "Content Credentials" not in plain.err
    assert run(sign.COMMAND, clip, clip.with_suffix(".jpg"), "--local") == 0
    capsys.readouterr()
    assert run(show.COMMAND, clip) == 0
    signed = capsys.readouterr()
    assert signed.out == plain.out
    assert "unchanged since it was signed; signed by Ovi Studio local certificate, whom no trusted list" in signed.err
    data = bytearray(clip.read_bytes())
    data[data.index(b"mdat") + 50] ^= 1
    clip.write_bytes(data)
    assert run(show.COMMAND, clip) == 0
    assert "INVALID (assertion.bmffHash.mismatch)" in capsys.readouterr().err


def test_show_prints_every_shot_of_a_film(tmp_path, capsys):
    clips = [write_shot(tmp_path, [60] * 12, prompt=prompt) for prompt in ("One", "Two")]
    film = export_film(CutList("A film", tuple(map(CutShot, clips))), tmp_path / "film.mp4")
    assert run(show.COMMAND, film) == 0
    assert [record["spec"]["prompt"] for record in json.loads(capsys.readouterr().out)] == ["One", "Two"]


@pytest.mark.parametrize("options", [(), ("--local", "--key", "k.pem"), ("--certificate", "c.pem")], ids=range(3))
def test_sign_asks_for_one_identity(tmp_path, options):
    with pytest.raises(JobError, match="Give --certificate and --key, or --local alone"):
        run(sign.COMMAND, write_shot(tmp_path, [60] * 4), *options)
