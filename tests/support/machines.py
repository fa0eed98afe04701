"""Machines of a farm with networks of their own, on this one: network namespaces that a bridge connects with the head.

Needs root. Every cable can be pulled, made slow, or cut in one direction.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

_NETWORK = f"10.77.{os.getpid() % 250}"
HEAD = f"{_NETWORK}.1"
_BRIDGE = f"ovibr{os.getpid()}"


def possible() -> bool:
    """Whether networks can be made here."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        return False
    made = _ip("link", "add", _BRIDGE, "type", "bridge", check=False)
    return made and _ip("link", "del", _BRIDGE, check=False)


class Machine:
    """A network namespace, and the `join` command that runs in it."""

    def __init__(self, number: int) -> None:
        self.name = f"rig{number}"
        self._space = f"ovi-{os.getpid()}-{self.name}"
        self._cable = f"ovi{os.getpid()}.{number}"
        self._process: subprocess.Popen | None = None
        _ip("netns", "add", self._space)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        _ip("link", "set", self._cable, "master", _BRIDGE, "up")
        self._inside("ip", "addr", "add", f"{_NETWORK}.{number + 1}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._inside("ip", "link", "set", device, "up")

    def join(self, port: int, token: str, log: Path, cache: Path) -> None:
        command = [sys.executable, "-m", "ovi_studio", "join", f"{HEAD}:{port}", "--name", self.name]
        environment = {**os.environ, "RAY_AUTH_TOKEN": token, "OVI_CACHE_DIR": str(cache / self.name)}
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._space, *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment,
                start_new_session=True,
            )

    def cable(self, *, up: bool) -> None:
        _ip("link", "set", self._cable, "up" if up else "down")

    def slow(self, on: bool) -> None:
        """20 kB a second, where a clip has some kilobytes."""
        rate = ("tbf", "rate", "160kbit", "burst", "16kbit", "latency", "800ms")
        change = ("add", "dev", self._cable, "root", *rate) if on else ("del", "dev", self._cable, "root")
        subprocess.run(["tc", "qdisc", *change], check=True)

    def deaf(self, on: bool) -> None:
        """What the machine sends to the head is lost; what the head sends arrives."""
        self._inside("ip", "route", "add" if on else "del", "blackhole", f"{HEAD}/32")

    def actors(self) -> list[psutil.Process]:
        return [one for one in self._processes() if (one.cmdline() or [""])[0].startswith("ray::ClipActor")]

    def kill_node(self) -> None:
        """Kill all of Ray on the machine at once; `join` starts it again."""
        kill(one for one in self._processes() if self._process is None or one.pid != self._process.pid)

    def kill_all(self) -> None:
        """As when the power goes."""
        kill(self._processes())
        if self._process is not None:
            self._process.wait()

    def close(self) -> None:
        self.kill_all()
        _ip("link", "del", self._cable, check=False)
        _ip("netns", "del", self._space, check=False)

    def _inside(self, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._space, *command], check=True)

    def _processes(self) -> list[psutil.Process]:
        answer = subprocess.run(["ip", "netns", "pids", self._space], capture_output=True, text=True, check=True)
        found = []
        for pid in answer.stdout.split():
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found


def kill(processes: object) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Machines with networks; whatever still runs on them is killed at the end."""
    with contextlib.ExitStack() as stack:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        stack.callback(_ip, "link", "del", _BRIDGE, check=False)
        _ip("addr", "add", f"{HEAD}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        found = []
        for number in range(1, count + 1):
            found.append(Machine(number))
            stack.callback(found[-1].close)
        yield found


def _ip(*arguments: str, check: bool = True) -> bool:
    return subprocess.run(["ip", *arguments], check=check, capture_output=not check).returncode == 0
