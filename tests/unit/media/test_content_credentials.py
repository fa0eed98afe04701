"""Content Credentials: signed, found intact, and found broken; nothing else in the file is lost."""

import stat
from pathlib import Path

import c2pa
import numpy as np
import pytest
from clip_reading import read_frames, read_samples
from film_shots import write_shot

from ovi_studio.core import extras
from ovi_studio.core.errors import JobError
from ovi_studio.film.cut import CutList, CutShot
from ovi_studio.film.export import export_film
from ovi_studio.media.certificates import make_local_certificate
from ovi_studio.media.clip_files import read_film, read_record
from ovi_studio.media.content_credentials import Identity, local_identity, read_credentials, sign
from ovi_studio.media.xmp_mark import MADE_BY_MODEL, read_source_type


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return local_identity(tmp_path / "signing")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clip", "poster", "film"])
def test_a_signed_file_is_intact_and_keeps_everything_else(tmp_path, identity, kind):
    clip = write_shot(tmp_path, [60] * 26)
    path = clip if kind == "clip" else clip.with_suffix(".jpg")
    if kind == "film":
        path = export_film(CutList("A film", (CutShot(clip), CutShot(clip))), tmp_path / "film.mp4")
    record = read_film(path) or read_record(path)
    decoded = None if kind == "poster" else (read_frames(path), read_samples(path))
    assert read_credentials(path) is None
    for _ in range(2):  # signing again replaces what was there
        sign(path, identity)
        found = read_credentials(path)
        assert (found.intact, found.trusted, found.faults) == (True, False, ())
        assert found.signer == "Ovi Studio local certificate"
        assert found.source_type == MADE_BY_MODEL == read_source_type(path)
    assert (read_film(path) or read_record(path)) == record
    if decoded:
        assert all(map(np.array_equal, (read_frames(path), read_samples(path)), decoded))
    # The library's own reader, without ours.
    with c2pa.Reader(str(path)) as reader:
        assert reader.get_validation_state() == "Valid"
    assert not list(tmp_path.glob("*.part"))


def test_a_file_that_was_changed_after_signing_is_found(tmp_path, identity):
    clip = write_shot(tmp_path, [60] * 26)
    sign(clip, identity)
    data = bytearray(clip.read_bytes())
    data[data.index(b"mdat") + 50] ^= 1
    clip.write_bytes(data)
    found = read_credentials(clip)
    assert not found.intact
    assert found.faults == ("assertion.bmffHash.mismatch",)


def test_a_broken_manifest_is_a_fault_and_no_crash(tmp_path, identity):
    clip = write_shot(tmp_path, [60] * 4)
    sign(clip, identity)
    whole, random = clip.read_bytes(), np.random.default_rng(1)
    start = whole.index(b"uuid")
    for _ in range(10):
        data = bytearray(whole)
        for position in random.integers(start + 40, start + 2000, 8):
            data[position] = random.integers(256)
        clip.write_bytes(data)
        assert not read_credentials(clip).intact


def test_the_local_certificate_is_made_once_and_its_key_is_private(tmp_path):
    first = local_identity(tmp_path / "signing")
    key = first.key.read_bytes()
    assert local_identity(tmp_path / "signing") == first
    assert first.key.read_bytes() == key
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600


def unusable_key(path: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import dsa

    key = dsa.generate_private_key(1024)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def test_what_cannot_sign_is_refused_with_a_sentence_and_leaves_the_file_as_it_was(tmp_path, identity):
    clip = write_shot(tmp_path, [60] * 4)
    before = clip.read_bytes()
    other = tmp_path / "other.pem"
    other.write_bytes(make_local_certificate()[1])
    text = tmp_path / "text.pem"
    text.write_text("no key")
    cases = [
        (Identity(identity.chain, tmp_path / "gone.pem"), "cannot be read"),
        (Identity(tmp_path / "gone.pem", identity.key), "cannot be read"),
        (Identity(identity.chain, text), "not a private key"),
        (Identity(identity.chain, unusable_key(tmp_path / "dsa.pem")), "a kind of key that C2PA does not use"),
        (Identity(text, identity.key), "cannot be signed"),
        (Identity(identity.chain, other), "cannot be signed"),
    ]
    for wrong, sentence in cases:
        with pytest.raises(JobError, match=sentence):
            sign(clip, wrong)
    assert clip.read_bytes() == before
    for path in (tmp_path / "gone.mp4", text):
        with pytest.raises(JobError, match="cannot be signed; name an existing clip"):
            sign(path, identity)
    assert not list(tmp_path.glob("*.part"))


def test_without_the_package_a_signed_file_is_not_called_unsigned(tmp_path, identity, monkeypatch):
    clip = write_shot(tmp_path, [60] * 4)
    plain = write_shot(tmp_path, [60] * 4)
    sign(clip, identity)

    def missing(module: str) -> None:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(JobError, match=r"needs the package c2pa.*extra `sign`"):
        read_credentials(clip)
    assert read_credentials(plain) is None
