"""The trail of changes: who changed what, on the disk before the change is made.

A change that somebody asks for and that cannot be recorded is refused. What the engine does by itself,
and what the configuration file says, waits for nothing: it is recorded as soon as the disk lets it.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, Final

from fluxhook.config.schema import Config
from fluxhook.control import Origin
from fluxhook.errors import LayoutError
from fluxhook.logs.log import Log
from fluxhook.store import StoreError
from fluxhook.store.audit import CHANGES, AuditTrail, ChangeEntry, read_changes, timestamp
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.outage import Outage

__all__ = ["ENGINE", "FILE", "ChangeLog"]

log = Log("changes")

#: the engine itself, and the configuration file
ENGINE: Final = Origin("engine", "engine")
FILE: Final = Origin("file", "reload")
#: entries that wait for the disk; the oldest are lost beyond that. Arbitrary.
MAX_WAITING: Final = 1000
#: characters of an actor's name; arbitrary
MAX_NAME: Final = 200


class ChangeLog:
    """Writes the entries, numbered in their order."""

    def __init__(self, folder: Path, config: Config, clock: EngineClock) -> None:
        """Go on in `folder`, whose files the configuration bounds."""
        #: the files
        self.trail = AuditTrail(
            folder, max_bytes=int(config.audit_bytes), files=config.audit_files, name=CHANGES
        )
        self._clock = clock
        self._waiting: deque[ChangeEntry] = deque(maxlen=MAX_WAITING)
        self._outage = Outage("the trail of changes is written again")
        try:
            newest = next(read_changes(folder, newest_first=True), None)
        except LayoutError as e:
            newest = None
            log.error("%s; its entries are numbered from 1 again", e)
        self._last = 0 if newest is None else newest.n

    @property
    def fails(self) -> bool:
        """Return whether it could not be written the last time."""
        return self._outage.under_way

    def record(self, origin: Origin, action: str, **what: Any) -> None:
        """Write an entry; `what` are the other fields of ChangeEntry. Raise StoreError where it cannot
        be written: then the change is not to be made."""
        entry = self._entry(origin, action, what)
        try:
            self.trail.append([*self._waiting, entry])
        except StoreError as e:
            raise StoreError(f"{e}; a change that cannot be recorded is not made") from e
        self._waiting.clear()
        self._outage.worked()
        _tell(entry)

    def note(self, origin: Origin, action: str, **what: Any) -> None:
        """Write an entry now or, where that fails, as soon as `flush` can."""
        entry = self._entry(origin, action, what)
        self._waiting.append(entry)
        _tell(entry)
        self.flush()

    def flush(self) -> None:
        """Write what could not be written before. To be called every second."""
        if not self._waiting:
            return
        try:
            self.trail.append(self._waiting)
        except StoreError as e:
            self._outage.failed(f"{e}; changes are recorded later")
        else:
            self._waiting.clear()
            self._outage.worked()

    def _entry(self, origin: Origin, action: str, what: dict[str, Any]) -> ChangeEntry:
        self._last += 1
        return ChangeEntry(
            n=self._last,
            at=timestamp(self._clock.wall_ns(self._clock.now_ns())),
            actor=origin.actor[:MAX_NAME],
            via=origin.via,
            action=action,
            **what,
        )


def _tell(entry: ChangeEntry) -> None:
    what = f"{entry.action} {entry.target}".rstrip() + (f": {entry.error}" if entry.error else "")
    log.info(
        "change by %s (%s): %s", entry.actor, entry.via, what,
        event="change", action=entry.action, actor=entry.actor, via=entry.via, target=entry.target,
        endpoint=entry.endpoint, error=entry.error,
    )  # fmt: skip
