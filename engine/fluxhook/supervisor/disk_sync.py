"""`durability: interval:<duration>`: what was accepted longer ago than that survives a power loss."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from fluxhook._native import shared
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.outage import Outage

__all__ = ["Syncer"]


class Syncer:
    """A thread that has the rings and the store's log written to disk, again and again.

    The kernel knows which pages are new, whichever process wrote them: syncing an unchanged file
    costs microseconds.
    """

    def __init__(self, datadir: DataDir, interval_s: float) -> None:
        self._datadir = datadir
        self._interval_s = interval_s
        self._outages: dict[Path, Outage] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fluxhook-sync", daemon=True)
        self._thread.start()

    @property
    def fails(self) -> bool:
        """Return whether a file could not be synced the last time."""
        return any(outage.under_way for outage in list(self._outages.values()))

    def close(self) -> None:
        """Sync once more and end."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(self._interval_s)
            self._sync()

    def _sync(self) -> None:
        store = self._datadir.store
        # Not the store itself: SQLite syncs that before it reuses its log, and to close a descriptor
        # of it would drop the locks that SQLite has in this process (fcntl(2)). A process that opened
        # the store then, and closed it, would take the log away, with all that is committed later.
        wal = store.with_name(f"{store.name}-wal")
        for path in (*self._datadir.path.glob("**/*.ring"), wal):
            outage = self._outages.setdefault(path, Outage(f"{path} is synced again"))
            try:
                if path == wal:
                    _sync_wal(wal)
                else:
                    shared.sync_file(str(path), again=outage.under_way)
            except FileNotFoundError:
                pass
            except (OSError, shared.LayoutMismatch) as e:
                reason = e.strerror if isinstance(e, OSError) else e
                outage.failed(
                    f"{path} cannot be synced ({reason}): what was accepted since the last time would "
                    "not survive a power loss; it is tried again"
                )
                continue
            outage.worked()


def _sync_wal(path: Path) -> None:
    fd = shared.open_own(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
