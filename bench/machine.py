"""The machine: which cores are whose, what a process has cost, and how to name all this in a header."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pycurl

from fluxhook import __version__

ROOT = Path(__file__).resolve().parents[1]
#: packages that contenders and hosts are made of
PACKAGES = ("aiohttp", "httpx", "pyreqwest", "uvicorn", "uvloop")
#: the environment in which Go takes the compiler that is there, and fetches nothing
GO_LOCAL = {"GOFLAGS": "", "GOPROXY": "off", "GOTOOLCHAIN": "local"}


class Cores(NamedTuple):
    """The receiver gets a core of its own, so that what it costs slows nobody down."""

    receiver: frozenset[int]
    engine: frozenset[int]

    @classmethod
    def divide(cls) -> Cores:
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            return cls(frozenset(available), frozenset(available))
        return cls(frozenset(available[:1]), frozenset(available[1:]))

    def host_apart(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return a core for a host program alone, and those for an engine that is not to share it.
        With two cores the engine goes to the receiver's."""
        host = frozenset({max(self.engine)})
        return host, (self.engine - host or self.receiver)

    def __str__(self) -> str:
        if self.receiver == self.engine:
            return "one core for all: nothing is pinned, and the receiver slows the senders down"
        engine = ", ".join(map(str, sorted(self.engine)))
        return (
            f"receiver on core {min(self.receiver)}; hosts, engine and contenders on core {engine}"
        )


def pin(pid: int, cores: frozenset[int]) -> None:
    """Move a process; its future children stay where it is. 0: this one."""
    os.sched_setaffinity(pid, cores)


def cpu_ns(pid: int) -> int:
    """Return user and system time of a process, in nanoseconds (its CPU clock:
    clock_getcpuclockid(3))."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def memory_mb(pid: int) -> dict[str, float]:
    """Return the resident memory: `rss` all of it, mapped rings included; `own` what no file backs."""
    kb = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        kb[name] = value.split()[0] if value.split() else ""
    return {"rss": int(kb["VmRSS"]) / 1024, "own": int(kb["RssAnon"]) / 1024}


def sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += os.readlink(fd).startswith("socket:")
        except FileNotFoundError:  # closed meanwhile
            continue
    return count


def children(pid: int) -> list[int]:
    """Return the child processes that live now."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def describe(nginx_version: str, data_dir: Path) -> dict[str, str]:
    """Return what a figure is worth nothing without."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libcurl": pycurl.version,
        "receiver": nginx_version,
        "packages": ", ".join(map(_package, PACKAGES)),
        "go": _go(),
        "fluxhook": f"{__version__}, commit {_commit()}",
        "data": f"on {_filesystem(data_dir)}",
        "load": f"{os.getloadavg()[0]:.1f} before the run",
    }


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _go() -> str:
    """Return the version of the compiler that a contender is built with."""
    program = shutil.which("go")
    if program is None:
        return "not installed"
    version = subprocess.run(
        [program, "env", "GOVERSION"], env=os.environ | GO_LOCAL, capture_output=True, text=True
    )
    return version.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            " with changes" if git("status", "--porcelain", "engine", "_native") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _filesystem(path: Path) -> str:
    """Return the type of the file system that a path is on."""
    best, found = "", "an unknown file system"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        inside = path.is_relative_to(point.replace("\\040", " "))
        if inside and len(point) >= len(best):
            best, found = point, kind
    return found
