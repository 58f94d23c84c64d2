"""The audit trail: one JSON line for each event that was given up and erased, in files that rotate.

    audit/audit.jsonl        the newest entries
    audit/audit.1.jsonl      those before, and so on up to `audit_files`

A line is on the disk before what it tells of is erased; killed in between, an engine writes it again,
so an entry may stand twice, but never not at all. While the disk is full nothing is erased.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fluxhook._native.shared import open_own
from fluxhook.errors import LayoutError
from fluxhook.events.nesting import bounded
from fluxhook.store.interface import StoreError
from fluxhook.transport.files import make_folder, read_file, sync_folder, write_all

__all__ = ["AuditEntry", "AuditTrail", "read_audit"]

_NAME = "audit.jsonl"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was not delivered to an endpoint. Times are RFC 3339 in UTC."""

    at: str
    action: str
    endpoint: str
    event_id: str
    type: str
    accepted_at: str
    ended_at: str
    attempts: int
    cause: str
    error: str


def timestamp(ns: int) -> str:
    """Return a time as RFC 3339 has it, to the millisecond."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class AuditTrail:
    """The writing end; one process has it. Raises StoreError where the disk fails."""

    def __init__(self, folder: Path, *, max_bytes: int, files: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._files = files

    def append(self, entries: Iterable[AuditEntry]) -> None:
        """Write the entries, and return when all of them are on the disk.

        After a StoreError append them again: some may stand already.
        """
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        path = self._folder / _NAME
        try:
            make_folder(self._folder)
            if (size := _size(path)) and size + len(lines) > self._max_bytes:
                self._rotate()
            fd = open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                size = os.fstat(fd).st_size
                _append(fd, size, lines)
            finally:
                os.close(fd)
            if not size:  # it is new, and whatever it replaced has another name
                sync_folder(self._folder)
        except OSError as e:
            raise StoreError(f"{path} cannot be written: {e.strerror}") from e

    def _rotate(self) -> None:
        for n in range(self._files - 1, 0, -1):
            older = _numbered(self._folder, n)
            newer = _numbered(self._folder, n - 1)
            if newer.exists():
                newer.replace(older)
        (self._folder / _NAME).unlink(missing_ok=True)  # where only one file is kept


def _size(path: Path) -> int:
    """Return the size of a file; 0 where there is none, or something else."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _append(fd: int, size: int, lines: bytes) -> None:
    """Add lines to a file of this size: all, or none where the disk does not let it."""
    if size and os.pread(fd, 1, size - 1) != b"\n":
        lines = b"\n" + lines  # ends what a power loss has torn
    try:
        write_all(fd, lines)
        os.fdatasync(fd)
    except OSError:
        # They are written again, and half of them now would take the room that the others want.
        with contextlib.suppress(OSError):
            if os.fstat(fd).st_size > size:
                os.ftruncate(fd, size)
        raise


def _numbered(folder: Path, n: int) -> Path:
    return folder / (_NAME if n == 0 else f"audit.{n}.jsonl")


def read_audit(folder: Path, *, newest_first: bool = False) -> Iterator[AuditEntry]:
    """Yield all entries, the oldest first unless asked otherwise; a file is read when its turn has
    come. A torn line is passed over. Raise LayoutError for a file that cannot be read."""
    found = (p.name.split(".")[1] for p in folder.glob("audit.*.jsonl"))
    numbers = [0, *(int(number) for number in found if number.isdecimal())]
    decode = bounded(msgspec.json.Decoder(AuditEntry).decode)
    for n in sorted(numbers, reverse=not newest_first):
        path = _numbered(folder, n)
        try:
            lines = read_file(path).split(b"\n")
        except FileNotFoundError:
            continue
        except OSError as e:
            raise LayoutError(f"{path} cannot be read: {e.strerror}") from e
        for line in reversed(lines) if newest_first else lines:
            try:
                yield decode(line)
            except (msgspec.MsgspecError, UnicodeError):
                continue
