"""The history on disk, so that it outlives the admin process: frames, appended to one of two files.

Once a file has the frames of an hour the other one is emptied and takes the next ones, so both together
have an hour at least and two at most. Nothing is moved or written anew: a full disk costs the frames
that do not fit.

    magic | frame | frame | ...     a frame: checksum, number of records, boot id, two clocks, records
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fluxhook._native import shared
from fluxhook.admin.history import HISTORY_S, MAX_ENDPOINTS, MAX_FRAMES, RECORD_BYTES, Frame
from fluxhook.logs.log import Log

__all__ = ["HistoryFile", "Moment"]

log = Log("admin")

_NAMES: Final = ("0", "1")
_MAGIC: Final = b"fluxhook history 1\n"
#: the number of records; the fields of a `Moment`
_HEAD: Final = struct.Struct("<I16sdd")
#: of a head and its records
_CHECKSUM: Final = struct.Struct("<I")
_MAX_RECORDS: Final = MAX_ENDPOINTS + 1
_FRAME_BYTES: Final = _CHECKSUM.size + _HEAD.size + _MAX_RECORDS * RECORD_BYTES
_MAX_BYTES: Final = len(_MAGIC) + MAX_FRAMES * _FRAME_BYTES


class Moment(NamedTuple):
    """Now: by the clock of this boot, which nobody sets, and by the one on the wall. In seconds."""

    boot_id: bytes
    at_s: float
    wall_s: float


class HistoryFile:
    """The two files. What is wrong with them is a line in the log, and costs history alone.

    For one thread at a time. The first process has the files; another one's history is in its memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: the one that takes the next frame comes first
        self._files: list[io.FileIO] = []
        self._frames_in_first = 0
        self._said = ""

    def load(self, now: Moment) -> list[Frame]:
        """Open the files, and return the frames of the last hour."""
        found: list[list[Frame]] = []
        with self._noting():
            self._open()
            found = [
                [frame._replace(at_s=_at_s(made, now)) for made, frame in self._read(file)]
                for file in self._files
            ]
        if not found:
            self.close()
            return []
        never = Frame(-math.inf, b"")
        if max(found[1], default=never) > max(found[0], default=never):
            found.reverse()
            self._files.reverse()
        self._frames_in_first = len(found[0])
        return sorted(
            frame for frame in found[0] + found[1] if 0 <= now.at_s - frame.at_s <= HISTORY_S
        )

    def append(self, frame: Frame, now: Moment) -> None:
        """Write a frame that was made just now."""
        if not self._files:
            return
        body = _HEAD.pack(len(frame.records) // RECORD_BYTES, *now) + frame.records
        with self._noting():
            if self._frames_in_first >= MAX_FRAMES:
                self._files.reverse()
                _empty(self._files[0])
                self._frames_in_first = 0
            _write(self._files[0], _CHECKSUM.pack(zlib.crc32(body)) + body)
            self._frames_in_first += 1
            self._said = ""

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def _open(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        for name in _NAMES:
            fd = shared.open_own(self._folder / name, os.O_RDWR | os.O_CREAT)
            self._files.append(io.FileIO(fd, "r+"))
        fcntl.flock(self._files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _read(self, file: io.FileIO) -> Iterator[tuple[Moment, Frame]]:
        """Yield the frames of a file; cut off what follows the last sound one."""
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > _MAX_BYTES else file.read()
        at = len(_MAGIC) if content.startswith(_MAGIC) else 0
        while at and at < size:
            start = at + _CHECKSUM.size
            end = start + _HEAD.size
            if end > size:
                break
            n, *made = _HEAD.unpack_from(content, start)
            records_end = end + n * RECORD_BYTES
            body = content[start:records_end]
            if records_end > size or zlib.crc32(body) != _CHECKSUM.unpack_from(content, at)[0]:
                break
            moment = Moment(*made)
            yield moment, Frame(moment.at_s, content[end:records_end])
            at = records_end
        if at < size:
            log.warning(
                "%s/%s is damaged from byte %d on; what it had of the history after that is lost",
                self._folder,
                _NAMES[self._files.index(file)],
                at,
            )
        file.truncate(at)
        if not at:
            _empty(file)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Say once what the system says, until it is something else."""
        try:
            yield
        except OSError as error:
            said = error.strerror or str(error)
            if error.errno == errno.EWOULDBLOCK:
                said = "another admin process writes it"
            if said != self._said:
                self._said = said
                log.warning(
                    "the history cannot be kept in %s, so a restart of the admin process loses it: %s",
                    self._folder,
                    said,
                )


def _at_s(made: Moment, now: Moment) -> float:
    """Return when that was by the clock of this boot. Of another boot only the wall's clock tells."""
    return made.at_s if made.boot_id == now.boot_id else now.at_s - (now.wall_s - made.wall_s)


def _empty(file: io.FileIO) -> None:
    file.truncate(0)
    _write(file, _MAGIC)


def _write(file: io.FileIO, content: bytes) -> None:
    """Write all of it at the end, or nothing. Raises OSError."""
    size = file.seek(0, os.SEEK_END)
    try:
        if file.write(content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        file.truncate(size)
        raise
