"""Make the files of a data directory usable that are damaged.

What holds events is saved record by record; what only speeds things up, or counts, is made anew; and
what cannot be used is kept in `damaged/`. Nothing here knows how many events were lost: the books do
(`supervisor/books.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from fluxhook._native import ring, shared
from fluxhook.logs.log import Log
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords, rows_for
from fluxhook.transport.files import make_folder

__all__ = ["Repair"]

log = Log("store")


class Repair:
    """Repairs one data directory.

    `losses` has a line for each file with which events, or counts of them, may be lost, `suspects` one
    for each that is not there and may never have been. What has cost nothing is logged as a warning.
    """

    def __init__(self, datadir: d.DataDir) -> None:
        self._datadir = datadir
        self._boot_id = d.boot_id()
        self.losses: list[str] = []
        self.suspects: list[str] = []

    def set_aside(self, path: Path) -> Path:
        """Move a file into `damaged/`. Raises OSError."""
        folder = self._datadir.damaged
        make_folder(folder)
        name = "-".join(path.relative_to(self._datadir.path).parts)
        for n in itertools.count(1):
            kept = folder / f"{name}.{n}"
            if not os.path.lexists(kept):
                break
        path.rename(kept)
        return kept

    def regular(self, path: Path) -> None:
        """Move aside what stands where a regular file should, of which nothing is lost."""
        if wrong := self._kind(path, stat.S_ISREG):
            log.warning("%s; %s", wrong, _ANEW)

    def folder(self, path: Path) -> None:
        if wrong := self._kind(path, stat.S_ISDIR):
            log.warning("%s; an empty folder takes its place", wrong)
        make_folder(path)

    def doorbell(self, path: Path) -> None:
        if wrong := self._kind(path, stat.S_ISFIFO):
            log.warning("%s; %s", wrong, _ANEW)
        d.make_doorbell(path)

    def socket(self, path: Path) -> None:
        if wrong := self._kind(path, stat.S_ISSOCK):
            log.warning("%s; %s", wrong, _ANEW)

    def store(self, path: Path) -> None:
        """Repair the database or its log; the process that opens it says what is lost with it."""
        if wrong := self._kind(path, stat.S_ISREG):
            self.losses.append(wrong)

    def _kind(self, path: Path, is_right: Callable[[int], bool]) -> str:
        """Move aside what is of another kind, and return a line about it."""
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return ""
        if is_right(mode):
            return ""
        kept = self.set_aside(path)
        return f"{path} is {_kind_of(mode)} ({kept} is what was there)"

    def words(self, max_endpoints: int) -> shared.Words:
        """Open the shared words. Damaged ones are made anew in the same file, for who has it mapped."""
        path, rows = self._datadir.words, rows_for(max_endpoints)
        self.regular(path)
        lost = not path.exists() and self._rows() > 0
        try:
            words = shared.Words(str(path), rows, d.WORD_FIELDS)
        except shared.OtherVersion:
            raise
        except shared.LayoutMismatch as e:
            rows = self._rows() or rows
            shared.reset_words(str(path), rows, d.WORD_FIELDS)
            log.warning("%s; it is made anew: breakers and rate limits begin anew", e)
            words, lost = shared.Words(str(path), rows, d.WORD_FIELDS), True
        if lost:
            EngineWords(words).announce_traces()  # events that wait may have a trace context
        return words

    def _rows(self) -> int:
        """Return as many as the other files of this directory were made for; 0 where there are none."""
        for folder in self._datadir.worker_folders():
            with contextlib.suppress(OSError, shared.LayoutMismatch):
                counters = shared.Counters(str(folder / "counters"), writable=False)
                rows = rows_for(counters.rows)
                counters.close()
                return rows
        return 0

    def histograms(self, path: Path, rows: int) -> None:
        """Repair the statistics: they start over."""
        if wrong := self._whole_counters(path, rows, d.STAGE_FIELDS):
            log.warning("%s; it is made anew: these statistics begin anew", wrong)
        shared.Counters(str(path), rows, d.STAGE_FIELDS, writable=True).close()

    def counters(self, path: Path, rows: int, fields: int) -> None:
        """Make damaged counters anew: what they counted is lost, and the books tell how much it is."""
        wrong = self._whole_counters(path, rows, fields)
        if not wrong and not path.exists() and any(path.parent.glob("*.ring")):
            wrong = f"{path} is missing"
        if wrong:
            self.losses.append(f"{wrong}; it is made anew, and what it had counted is not known")
        shared.Counters(str(path), rows, fields, writable=True).close()

    def _whole_counters(self, path: Path, rows: int, fields: int) -> str:
        """Move a damaged file aside, and return a line about it. A new one is the caller's to make."""
        if (wrong := self._kind(path, stat.S_ISREG)) or not path.exists():
            return wrong
        try:
            shared.Counters(str(path), 0, fields, writable=True).close()
        except shared.OtherVersion:
            raise
        except shared.LayoutMismatch as e:
            return f"{e} ({self.set_aside(path)} is what was there)"
        return ""

    def inbox(self, path: Path, queue_size: int, capacity: int) -> None:
        """Make a ring whole of which everything is in the store, too."""
        self.regular(path)
        try:
            if path.exists():
                ring.repair_ring(str(path), self._boot_id)
                ring.check_ring(str(path), self._boot_id, alone=True)
                return
        except shared.OtherVersion:
            raise
        except shared.LayoutMismatch as e:
            log.warning("%s; %s", e, _ANEW)
        ring.create_ring(str(path), queue_size, capacity, self._boot_id)

    def enlarge(self, path: Path, queue_size: int, capacity: int, *, kept: bool) -> None:
        """Make a ring anew that is smaller than that. What is `kept` in it keeps it as it is."""
        if ring.geometry(str(path))[1] >= capacity or (kept and ring.unsettled(str(path))):
            return
        try:
            ring.create_ring(str(path), queue_size, capacity, self._boot_id)
        except OSError as e:  # of a full disk: the old one will do
            log.warning("%s keeps its size: %s", path, e.strerror)

    def ring(
        self, path: Path, queue_size: int, capacity: int, *, alone: bool = True, weed: bool = True
    ) -> None:
        """Make a ring whole, or create it.

        `alone`: nobody else has it open; otherwise its producer may, and only what no producer minds
        is done. `weed`: what is damaged in it is settled unseen, since no consumer does so and tells.
        """
        if wrong := self._kind(path, stat.S_ISREG):
            self.losses.append(f"{wrong}; an empty ring takes its place")
        elif not path.exists():
            self.suspects.append(f"{path} is missing; an empty ring takes its place")
        if not path.exists():
            ring.create_ring(str(path), queue_size, capacity, self._boot_id)
            return
        try:
            saved = ring.repair_ring(str(path), self._boot_id)
            if saved is not None:
                log.info("%s: the machine went down in between; %d records saved", path, saved)
            saved, damaged = ring.check_ring(str(path), self._boot_id, alone=alone, weed=weed)
        except shared.OtherVersion:
            raise
        except shared.LayoutMismatch as e:
            if not alone:
                raise
            self.losses.append(f"{e}; {self._rebuilt(path, queue_size, capacity)}")
            return
        if saved is not None:
            self.losses.append(
                f"{path} is damaged: its positions are wrong; {saved} records in it are saved"
            )
        if damaged:
            self.losses.append(f"{path} is damaged: {damaged} records in it are lost")

    def _rebuilt(self, path: Path, queue_size: int, capacity: int) -> str:
        try:
            saved = ring.rebuild_ring(str(path), queue_size, capacity, self._boot_id)
        except shared.LayoutMismatch:
            kept = self.set_aside(path)
            ring.create_ring(str(path), queue_size, capacity, self._boot_id)
            return (
                f"nothing in it can be saved, and an empty ring takes its place ({kept} is the old)"
            )
        return f"{saved} records in it are saved"


_ANEW = "it is made anew, and nothing is lost"


def _kind_of(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISREG(mode):
        return "a regular file"
    return "of another kind than it should be"
