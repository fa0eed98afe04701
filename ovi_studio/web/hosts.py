"""The host names this server answers to, and the pages that may send requests to it.

Any page in a browser can send requests to any address, and a public name may resolve to 127.0.0.1 (DNS rebinding). So
a request is answered only under one of this server's names, and only if the page that sent it, if any, came from this
server as well. Programs other than browsers send no origin.
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
    """The host names of this server. Thread-safe for one writer.

    Args:
        bound: the address it listens on.
        allowed: additional names, such as that of a proxy in front of it.
        environ: the environment, in which a Hugging Face Space states its name.
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
        """Add a name that becomes known later, such as that of a share link."""
        self._names.add(name.lower())

    def serves(self, host: str | None) -> bool:
        """Whether a `Host` header names this server.

        An address cannot be rebound, so any address is accepted if the server listens on all interfaces.
        """
        name = _name(host)
        if name is None:
            return False
        if name in self._names or name in self._allowed:
            return True
        return _is_loopback(name) or (self._everywhere and _is_address(name))

    def allows_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether the page that sent a request, if any, is one of this server's.

        Another port of this machine is another server. Following a link to this server is allowed from any page.
        """
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None:
            netloc = origin.partition("://")[2].lower()
            return netloc == host.lower() or _name(netloc) in self._allowed
        if headers.get("sec-fetch-site") not in _FOREIGN_SITES:
            return True
        # A frame in another page also navigates; a Space is shown in such a frame.
        navigating = headers.get("sec-fetch-mode") == "navigate"
        return navigating and (headers.get("sec-fetch-dest") == "document" or self.on_space)


def _name(host: str | None) -> str | None:
    """Return a host's name in lower case, without port and brackets; None if it is invalid."""
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
