"""The farm's options, its token, and the command that starts its process. Imports no torch or ray."""

import argparse
import os
import re
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.media.small_files import folder_errors, part_path
from ovi_studio.queue.paths import StudioPaths
from ovi_studio.runtime.clip_runner import OVI_MODELS
from ovi_studio.runtime.options import RuntimeOptions

MODULE = "ovi_studio.farm"
DEFAULT_PORT = 6379
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
_MODE_VARIABLE = "RAY_AUTH_MODE"
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
INSTALL = "`.venv/bin/python -m pip install 'ray==2.60.0' -c constraints.txt`"


@dataclass(frozen=True)
class FarmAddress:
    """Where the head is.

    `own`: the farm process starts it; otherwise the cluster is there already, and has a token of its own.
    """

    host: str
    port: int
    own: bool = True

    @classmethod
    def parse(cls, text: str, *, own: bool = True) -> "FarmAddress":
        """From `host` or `host:port`; raises `JobError`."""
        host, _, port = text.partition(":")
        if not _HOST.fullmatch(host) or (port and not (port.isdecimal() and 0 < int(port) < 2**16)):
            raise JobError(f"{text!r} is not an address; write one such as 192.168.1.5:{DEFAULT_PORT}.")
        if host in ("0.0.0.0", "0"):
            raise JobError(f"{host} stands for all addresses; name the one by which the other machines reach this one.")
        return cls(host, int(port or DEFAULT_PORT), own)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def add_farm_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the page that let other machines take jobs."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--farm",
        metavar="ADDRESS",
        help="let other machines make clips of this queue; the address by which they reach this one, as 192.168.1.5",
    )
    where.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="like --farm, with the machines of a Ray cluster that is there already",
    )


def farm_address(options: argparse.Namespace) -> FarmAddress | None:
    """Return where the head is; None without a farm. Raises `JobError`, also if Ray is not installed."""
    if not options.farm and not options.ray_address:
        return None
    require_ray()
    return FarmAddress.parse(options.farm or options.ray_address, own=bool(options.farm))


def require_ray() -> None:
    """Raise `JobError` if Ray is not installed."""
    if find_spec("ray") is None:
        raise JobError(f"Several machines need Ray, which is not installed; install it with {INSTALL}.")


def token_file(paths: StudioPaths) -> Path:
    """Return the file with the token of this studio's farm, which nobody else can read; it is made the first time."""
    path = paths.state / "farm.token"
    with folder_errors(paths.state):
        if not path.exists():
            # The page and the farm process may both be the first.
            part = part_path(path.with_name(f"{path.name}.{os.getpid()}"))
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
            with suppress(FileExistsError):
                path.hardlink_to(part)
            part.unlink()
        path.chmod(0o600)
    return path


def join_line(address: FarmAddress, paths: StudioPaths) -> str:
    """Return the command that joins the farm from another machine; it contains the token."""
    return f"{TOKEN_VARIABLE}={token_file(paths).read_text()} ./launch.sh join {address}"


def ray_environment(token: Path | None) -> Mapping[str, str]:
    """Return variables for processes that use Ray: authentication by token, always, and no reports to Ray's makers.

    Args:
        token: the file with the token; None: Ray finds that of an existing cluster where it looks for it.
    """
    variables = {
        _MODE_VARIABLE: "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
        # By default, a node asks once a minute whether its head is still the one that it joined. If there is another,
        # both keep a core each busy with messages that the other does not take, until the node has asked.
        "RAY_raylet_liveness_self_check_interval_ms": "3000",
    }
    return variables if token is None else {**variables, TOKEN_PATH_VARIABLE: str(token)}


def farm_command(
    paths: StudioPaths, address: FarmAddress, options: RuntimeOptions, models: str = OVI_MODELS
) -> list[str]:
    """Return the command that starts the farm process of a studio."""
    where = ["--farm" if address.own else "--ray-address", str(address)]
    command = [sys.executable, "-m", MODULE, "--out", str(paths.outputs), "--state", str(paths.state), *where]
    return [*command, "--models", models, *options.arguments()]
