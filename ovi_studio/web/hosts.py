"""Which names this server answers to, and which pages may talk to it.

A browser sends whatever page it shows to whatever address that page asks for, and a name on the internet may resolve
to 127.0.0.1 (DNS rebinding). So a request is answered only if it came under a name of ours, and only if the page that
made it, where there is one, came from here as well. Programs that are not browsers send no origin.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK_NAMES = ("localhost",)
_FOREIGN_SITES = ("cross-site", "same-site")


class Hosts:
    """The names of this server. Thread-safe for one writer.

    Args:
        bound: the address that it listens on.
        allowed: further names that people gave it, such as that of a proxy before it.
        environ: where a Hugging Face Space says its own name.
    """

    def __init__(self, bound: str, allowed: Iterable[str] = (), environ: Mapping[str, str] = os.environ) -> None:
        self.on_space = "SPACE_ID" in environ
        self._allowed = {name.lower() for name in allowed}
        self._everywhere = bound in EVERYWHERE
        self._names = {bound.lower(), *LOOPBACK_NAMES}
        if self.on_space and environ.get("SPACE_HOST"):
            self._names |= {host.strip().lower() for host in environ["SPACE_HOST"].split(",")}
        if not _is_loopback(bound):
            own = socket.gethostname().lower()
            self._names |= {own, f"{own}.local", socket.getfqdn().lower()}

    def add(self, name: str) -> None:
        """One that is known only now, such as that of a share link."""
        self._names.add(name.lower())

    def serves(self, host: str | None) -> bool:
        """Whether a `Host` header names this server.

        An address cannot be rebound, so every one is ours where we listen on all.
        """
        name = _name(host)
        if name is None:
            return False
        if name in self._names or name in self._allowed:
            return True
        return _is_loopback(name) or (self._everywhere and _is_address(name))

    def welcomes(self, headers: Mapping[str, str]) -> bool:
        """Whether the page that a request came from, if any, is one of this server's.

        Another port of this machine is another server. A link that somebody follows to here is no request of a page.
        """
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None:
            parts = urlsplit(origin)
            return parts.netloc.lower() == host.lower() or (parts.hostname or "") in self._allowed
        if headers.get("sec-fetch-site") not in _FOREIGN_SITES:
            return True
        # A frame of another page navigates too; a Space is one.
        followed = headers.get("sec-fetch-mode") == "navigate"
        return followed and (headers.get("sec-fetch-dest") == "document" or self.on_space)


def _name(host: str | None) -> str | None:
    """Without port and brackets, in lower case; None for what is no host."""
    if not host:
        return None
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    if name in LOOPBACK_NAMES:
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback
