"""The audit trail: JSON lines in files that rotate, of what was given up and erased, and of changes.

    audit/audit.jsonl        an entry for each event that was given up and erased, the newest ones
    audit/audit.1.jsonl      those before, and so on up to `audit_files`
    audit/changes.jsonl      an entry for each change of the engine, and so on

A line is on the disk before what it tells of is done. An engine that is killed in between writes it
again when it erases after all: an entry may stand twice, but never not at all. Of a change it then has
an entry that it has not made, and who asked for it had no answer. While the disk is full nothing is
erased, and no change is made that somebody asks for.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from fluxhook._native.shared import open_own
from fluxhook.errors import LayoutError
from fluxhook.events.nesting import bounded
from fluxhook.store.interface import StoreError
from fluxhook.transport.files import make_folder, read_file, sync_folder, write_all

__all__ = [
    "CHANGES",
    "AuditEntry",
    "AuditTrail",
    "ChangeEntry",
    "Via",
    "read_audit",
    "read_changes",
    "timestamp",
]

E = TypeVar("E", bound=msgspec.Struct)

#: the names of the trails: what their files begin with
_ERASED: Final = "audit"
CHANGES: Final = "changes"

#: by what way a change was asked for. embedding: by `Engine.control` or `Control` of some program;
#: reload: the configuration file, by SIGHUP or a start; engine: nobody asked, it did so by its options
Via = Literal["api", "cli", "dashboard", "embedding", "reload", "engine"]


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


class ChangeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the engine, and who asked for it. `before` and `after` have what differs, without
    secrets: `***` stands for one."""

    n: Annotated[
        int, Meta(description="The number of the entry; each is higher than those before.")
    ]
    at: Annotated[
        str,
        Meta(
            description="The time of the change.", extra_json_schema={"format": "date-time"},
            examples=["2026-02-05T12:00:00.000Z"],
        ),
    ]  # fmt: skip
    actor: Annotated[
        str,
        Meta(
            description="The name of the token, or the user of the operating system; `file` for the "
            "configuration file, `engine` for the engine itself."
        ),
    ]
    via: Annotated[Via, Meta(description="The way by which the change was asked for.")]
    action: Annotated[str, Meta(description="What was done, such as `webhook.update`.")]
    target: Annotated[
        str, Meta(description="The webhook or the delivery that was changed; empty: several.")
    ] = ""
    endpoint: Annotated[
        str, Meta(description="The webhook that it is about; empty: several, or none.")
    ] = ""
    before: Annotated[
        dict[str, Any], Meta(description="What was there before, as far as it differs.")
    ] = {}
    after: Annotated[
        dict[str, Any], Meta(description="What is there now, as far as it differs.")
    ] = {}
    error: Annotated[
        str, Meta(description="Why the change was not made, or not in force at once, after all.")
    ] = ""

    def concerns(self, endpoint: str) -> bool:
        """Return whether it changed this endpoint, perhaps among others."""
        among = (self.before.get("endpoints"), self.after.get("endpoints"))
        return endpoint == self.endpoint or any(
            isinstance(names, dict) and endpoint in names for names in among
        )


def timestamp(ns: int) -> str:
    """Return a time as RFC 3339 has it, to the millisecond."""
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class AuditTrail:
    """The writing end of one of the trails; one process has it. Raises StoreError where the disk
    fails."""

    def __init__(self, folder: Path, *, max_bytes: int, files: int, name: str = _ERASED) -> None:
        self._folder = folder
        self._name = name
        #: of one file
        self.max_bytes = max_bytes
        self._files = files

    def append(self, entries: Iterable[msgspec.Struct]) -> None:
        """Write the entries, and return when all of them are on the disk.

        After a StoreError append them again: some may stand already.
        """
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        path = self._path(0)
        try:
            make_folder(self._folder)
            if (size := _size(path)) and size + len(lines) > self.max_bytes:
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
            newer = self._path(n - 1)
            if newer.exists():
                newer.replace(self._path(n))
        self._path(0).unlink(missing_ok=True)  # where only one file is kept

    def _path(self, n: int) -> Path:
        return _numbered(self._folder, self._name, n)


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


def _numbered(folder: Path, name: str, n: int) -> Path:
    return folder / (f"{name}.jsonl" if n == 0 else f"{name}.{n}.jsonl")


def read_audit(folder: Path, *, newest_first: bool = False) -> Iterator[AuditEntry]:
    """Yield what was given up and erased, the oldest first unless asked otherwise; a file is read when
    its turn has come. A torn line is passed over. Raise LayoutError for a file that cannot be read."""
    return _read(folder, _ERASED, AuditEntry, newest_first)


def read_changes(folder: Path, *, newest_first: bool = False) -> Iterator[ChangeEntry]:
    """Yield the changes, in the same way."""
    return _read(folder, CHANGES, ChangeEntry, newest_first)


def _read(folder: Path, name: str, kind: type[E], newest_first: bool) -> Iterator[E]:
    found = (p.name.split(".")[1] for p in folder.glob(f"{name}.*.jsonl"))
    numbers = [0, *(int(number) for number in found if number.isdecimal())]
    decode = bounded(msgspec.json.Decoder(kind).decode)
    for n in sorted(numbers, reverse=not newest_first):
        path = _numbered(folder, name, n)
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
