"""Who holds a lock: what an operator has to know when one is not let go of."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fluxhook.text import decoded

__all__ = ["Holder", "holders", "named"]

#: processes that a message names
SHOWN = 3


class Holder(NamedTuple):
    """A process; `title` is what ps shows of it."""

    pid: int
    title: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.title})" if self.title else f"pid {self.pid}"


def holders(paths: Iterable[Path]) -> list[Holder]:
    """Return the processes that hold an flock on any of these files, once for each file, as far as this
    process may look into others.

    The descriptors are asked (proc(5), fdinfo), not /proc/locks, which names the process that took a
    lock: after a fork another one may hold it. No file has to be believed that an engine left.
    """
    files: dict[tuple[int, int], str] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            files[found.st_dev, found.st_ino] = path.name
    names = set(files.values())
    return [
        Holder(pid, _title(pid))
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
        for _ in _held(pid, files.keys(), names)
    ]


def named(found: list[Holder]) -> str:
    """Return the text for a message."""
    if not found:
        return "a process that cannot be looked into from here, another user's or container's"
    counts = Counter(found).most_common()
    texts = [f"{holder}" + (f", {n} times" if n > 1 else "") for holder, n in counts[:SHOWN]]
    if counts[SHOWN:]:
        texts.append(f"{len(counts) - SHOWN} others")
    return "; ".join(texts)


def _held(pid: int, files: Iterable[tuple[int, int]], names: set[str]) -> Iterator[None]:
    """Yield one for each of the files that the process holds."""
    seen: set[tuple[int, int]] = set()
    with contextlib.suppress(OSError):  # it is another user's, or has ended
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                # By its name first: to ask more of a file may wait for the network that it is on.
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if os.path.basename(target) not in names:
                    continue
                status = os.stat(f"/proc/{pid}/fd/{fd}")
                file = status.st_dev, status.st_ino
                if file not in files or file in seen:
                    continue
                if b"FLOCK" in Path(f"/proc/{pid}/fdinfo/{fd}").read_bytes():
                    seen.add(file)
                    yield


def _title(pid: int) -> str:
    try:
        words = decoded(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ").strip()
    except OSError:
        return ""
    return "".join(c if c.isprintable() else "?" for c in words)[:200]
