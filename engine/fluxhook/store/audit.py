"""The audit trail: one JSON line for each event that was given up and erased, in files that rotate.

    audit/audit.jsonl        the newest entries
    audit/audit.1.jsonl      those before, and so on up to `audit_files`

A line is on the disk before what it tells of is erased; killed in between, an engine writes it again,
so an entry may stand twice, but never not at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from fluxhook.errors import LayoutError
from fluxhook.store.database import StoreError

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
    """RFC 3339 to the millisecond."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class AuditTrail:
    """The writing end; one process has it. Raises StoreError where the disk fails."""

    def __init__(self, folder: Path, *, max_bytes: int, files: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._files = files

    def append(self, entries: Iterable[AuditEntry]) -> None:
        """Writes the entries, and returns when they are on the disk."""
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        path = self._folder / _NAME
        try:
            self._folder.mkdir(exist_ok=True, mode=0o700)
            if path.exists() and path.stat().st_size + len(lines) > self._max_bytes:
                self._rotate()
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                _begin_line(path, fd)
                os.write(fd, lines)
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except OSError as e:
            raise StoreError(f"{path}: {e.strerror}") from e

    def _rotate(self) -> None:
        for n in range(self._files - 1, 0, -1):
            older = _numbered(self._folder, n)
            newer = _numbered(self._folder, n - 1)
            if newer.exists():
                newer.replace(older)
        (self._folder / _NAME).unlink(missing_ok=True)  # where only one file is kept


def _begin_line(path: Path, fd: int) -> None:
    """Ends a line that was torn by a full disk or a power loss."""
    size = os.fstat(fd).st_size
    if size:
        with path.open("rb") as file:
            file.seek(size - 1)
            if file.read(1) != b"\n":
                os.write(fd, b"\n")


def _numbered(folder: Path, n: int) -> Path:
    return folder / (_NAME if n == 0 else f"audit.{n}.jsonl")


def read_audit(folder: Path, *, newest_first: bool = False) -> Iterator[AuditEntry]:
    """All entries, the oldest first unless asked otherwise; a file is read when its turn has come. A
    torn line is passed over. Raises LayoutError for a file that cannot be read."""
    numbers = [0, *(int(p.name.split(".")[1]) for p in folder.glob("audit.*.jsonl"))]
    decode = msgspec.json.Decoder(AuditEntry).decode
    for n in sorted(numbers, reverse=not newest_first):
        path = _numbered(folder, n)
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        except OSError as e:
            raise LayoutError(f"{path} cannot be read: {e.strerror}") from e
        for line in reversed(lines) if newest_first else lines:
            try:
                yield decode(line)
            except msgspec.MsgspecError:
                continue
