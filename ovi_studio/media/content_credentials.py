"""Content Credentials (C2PA) of clips, posters and films, by `c2pa-python` (extra `sign`).

A manifest says that a model made the file and binds it to the bytes by a signature: with the user's certificate, or
with a local one that nobody else vouches for. Signing is the last change to a file; any later one breaks the signature.
"""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ovi_studio import __version__
from ovi_studio.core.errors import JobError
from ovi_studio.core.extras import import_extra
from ovi_studio.media import mp4_boxes
from ovi_studio.media.certificates import make_local_certificate, signing_algorithm
from ovi_studio.media.jpeg_segments import JPEG_START, segments
from ovi_studio.media.small_files import folder_errors, part_path, write_atomically
from ovi_studio.media.xmp_mark import MADE_BY_MODEL

_BOX = uuid.UUID("d8fec3d6-1b0e-483c-9297-5828877ec481").bytes
"""Where an mp4 has its manifest (C2PA specification, A.5: BMFF-based formats); a JPEG has it in APP11 segments."""
_SEGMENT = b"\xff\xeb"
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""A file must not make this app call a server."""
FORMATS = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_LOCAL_CHAIN, _LOCAL_KEY = "local-certificate.pem", "local-key.pem"


@dataclass(frozen=True)
class Identity:
    """What a file is signed with."""

    chain: Path
    """PEM: the signer's certificate, and the ones that vouch for it."""
    key: Path
    """PEM: the signer's private key, without a password."""


@dataclass(frozen=True)
class Credentials:
    """What a file's manifest says, after it was checked."""

    signer: str
    """Who issued the signer's certificate, as it says."""
    intact: bool
    """Whether the file is as it was signed."""
    trusted: bool
    """Whether the certificate is on the list of trusted ones that `c2pa` was built with; a local one never is."""
    source_type: str | None
    """The digital source type, a URL."""
    faults: tuple[str, ...] = ()
    """Codes of C2PA for what is wrong, other than trust."""


def sign(path: Path, identity: Identity) -> None:
    """Replace the manifest of a file with a new one; raises `JobError`, and then leaves the file as it was."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None or not path.is_file():
        raise JobError(f"{path} cannot be signed; name an existing clip, poster or film ({', '.join(FORMATS)}).")
    c2pa = import_extra("c2pa", "sign", "Signing")
    manifest = {
        "claim_generator_info": [{"name": "Ovi Studio", "version": __version__}],
        "title": path.name,
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": MADE_BY_MODEL}]},
            }
        ],
    }
    part = part_path(path)
    with folder_errors(path.parent):
        try:
            with (
                path.open("rb") as source,
                part.open("w+b") as target,
                _signer(c2pa, identity) as signer,
                c2pa.Context.from_dict(_OFFLINE) as context,
                c2pa.Builder(json.dumps(manifest), context) as builder,
            ):
                builder.sign(signer, kind, source, target)
                target.flush()
                # Without this, the rename could survive a power cut and the data not.
                os.fsync(target.fileno())
            part.replace(path)
        except c2pa.C2paError as error:
            raise JobError(
                f"{path.name} cannot be signed ({_reason(error)}); check the certificate and its key."
            ) from error
        finally:
            part.unlink(missing_ok=True)


def read_credentials(path: Path) -> Credentials | None:
    """What a file's manifest says; None if it has none. Raises `JobError` if the package is missing, and `OSError`."""
    kind = FORMATS.get(path.suffix.lower())
    with path.open("rb") as file:
        if kind is None or not _has_manifest(file):
            return None
        c2pa = import_extra("c2pa", "sign", "Verifying Content Credentials")
        file.seek(0)
        try:
            with c2pa.Context.from_dict(_OFFLINE) as context, c2pa.Reader(kind, file, context=context) as reader:
                found = json.loads(reader.json())
        except c2pa.C2paError as error:
            return Credentials("an unknown signer", False, False, None, (_reason(error),))
    manifest = found["manifests"][found["active_manifest"]]
    failures = {entry["code"] for entry in _failures(found)}
    faults = sorted(failures - {"signingCredential.untrusted"})
    return Credentials(
        signer=manifest.get("signature_info", {}).get("issuer") or "an unnamed signer",
        intact=not faults,
        trusted="signingCredential.untrusted" not in failures,
        source_type=_source_type(manifest),
        faults=tuple(faults),
    )


def is_signed(path: Path) -> bool:
    """Whether a file has a manifest, valid or not. Raises `OSError`."""
    with path.open("rb") as file:
        return _has_manifest(file)


def local_identity(folder: Path) -> Identity:
    """The local certificate in a folder, made if there is none; raises `JobError`."""
    identity = Identity(folder / _LOCAL_CHAIN, folder / _LOCAL_KEY)
    if not (identity.chain.is_file() and identity.key.is_file()):
        chain, key = make_local_certificate()
        with folder_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Nobody else may read it, not even for a moment.
            identity.key.unlink(missing_ok=True)
            identity.key.touch(mode=0o600)
            identity.key.write_bytes(key)
        write_atomically(identity.chain, chain)
    return identity


def _has_manifest(file: BinaryIO) -> bool:
    if mp4_boxes.read(file, 0, 2) == JPEG_START:
        return any(marker == _SEGMENT and b"c2pa" in content for marker, content in segments(file))
    return next(mp4_boxes.uuid_boxes(file, _BOX), None) is not None


def _signer(c2pa: Any, identity: Identity) -> Any:
    algorithm = signing_algorithm(identity.key)
    try:
        chain, key = identity.chain.read_bytes(), identity.key.read_bytes()
    except OSError as error:
        raise JobError(f"The certificate {identity.chain} cannot be read; name a file in PEM form.") from error
    # No time stamp: that would send a hash of the file to a server.
    info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg[algorithm], chain, key, None)
    return c2pa.Signer.from_info(info)


def _failures(found: Any) -> list[dict[str, Any]]:
    results = found.get("validation_results", {}).get("activeManifest", {})
    return results.get("failure", []) or []


def _source_type(manifest: Any) -> str | None:
    for assertion in manifest.get("assertions", []):
        if assertion.get("label", "").startswith("c2pa.actions"):
            for action in assertion["data"].get("actions", []):
                if kind := action.get("digitalSourceType"):
                    return str(kind)
    return None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
