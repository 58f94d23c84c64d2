"""A publisher's place in the data directory: one of `max_publishers` folders, locked while in use.

The folder outlives its publisher: its rings are drained by the workers, and the next publisher that
takes the slot goes on in the same rings and counters, after finishing what a killed one had begun.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from fluxhook._native import ring, shared
from fluxhook.config.schema import Config, DropPolicy
from fluxhook.errors import TooManyPublishers
from fluxhook.logs.log import Log
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.files import make_folder
from fluxhook.transport.holders import holders, named
from fluxhook.transport.repair import Repair
from fluxhook.transport.snapshot import Snapshot, ring_bytes, ring_queue_size

__all__ = ["Slot", "recover_slot", "repair_slot"]

log = Log("publisher")

#: `recover_slot` holds a slot for a moment, and a killed publisher's lock outlasts it by one
TAKE_ATTEMPTS, TAKE_INTERVAL_S = 3, 0.02


class _Rings(NamedTuple):
    """The rings of a publisher, and for each the doorbell of the worker that reads it."""

    producers: list[ring.Producer]
    doorbells: list[int]
    drop_policy: DropPolicy
    workers: int

    def close(self) -> None:
        """Close all; may be called again, also where it was interrupted."""
        for producer in self.producers:
            producer.close()
        while self.doorbells:
            os.close(self.doorbells.pop())


class Slot:
    """The first free slot, with its rings. Raises TooManyPublishers, LayoutMismatch and
    OSError."""

    def __init__(self, datadir: d.DataDir, snapshot: Snapshot, name: str | None = None) -> None:
        self._datadir = datadir
        #: whose it is: a forked child must not count in it
        self.pid = os.getpid()
        limit = snapshot.config.max_publishers
        self._rings = _Rings([], [], snapshot.config.drop_policy, snapshot.workers)
        self._retired: list[_Rings] = []
        self.path, self._lock = _take(datadir, [name] if name else list(map(str, range(limit))))
        try:
            self.counters = _open_counters(datadir, self.path, snapshot.config.max_endpoints)
            _finish(self.counters, self.path)
            self.open_rings(snapshot)
        except BaseException:
            self.close()
            raise

    @property
    def rings(self) -> list[ring.Producer]:
        return self._rings.producers

    def fits(self, snapshot: Snapshot) -> bool:
        """Return whether the rings are those that a configuration asks for, but for their size."""
        rings = self._rings
        return (
            len(rings.producers) >= snapshot.rings
            and rings.workers == snapshot.workers
            and rings.drop_policy == snapshot.config.drop_policy
        )

    def open_rings(self, snapshot: Snapshot) -> None:
        """Open a ring for each worker, and those that there were, and let the workers know of them. All
        of it or nothing: after an error the slot is as before.

        An empty ring of another size is replaced when the slot is taken; one that still holds
        records keeps its size.
        """
        rings = _Rings([], [], snapshot.config.drop_policy, snapshot.workers)
        try:
            self._open(rings, snapshot)
        except BaseException:
            rings.close()
            raise
        # Another thread may be about to put into a ring that it looked up before, so from now on
        # none is closed or replaced until `close`.
        self._retired.append(self._rings)
        self._rings = rings

    def _open(self, rings: _Rings, snapshot: Snapshot) -> None:
        fresh = not self.rings
        boot_id = d.boot_id()
        queue_size, ring_bytes = snapshot.ring_queue_size, snapshot.ring_bytes
        for index in range(max(snapshot.rings, len(self.rings))):
            path = str(self.path / f"{index}.ring")
            if fresh and os.path.exists(path):
                ring.repair_ring(path, boot_id)
                if ring.geometry(path) != (queue_size, ring_bytes) and not ring.unsettled(path):
                    try:
                        ring.create_ring(path, queue_size, ring_bytes, boot_id)
                    except OSError as e:  # of a full disk: the old one will do
                        log.warning("%s keeps its size: %s", path, e.strerror)
            if not os.path.exists(path):
                ring.create_ring(path, queue_size, ring_bytes, boot_id)
            rings.doorbells.append(
                d.open_doorbell(self._datadir.doorbell(index % snapshot.workers))
            )
            drop_oldest = rings.drop_policy == "oldest"
            rings.producers.append(
                ring.Producer(path, drop_oldest=drop_oldest, doorbell=rings.doorbells[-1])
            )
        # Even if none is new: who made them may have been killed before it could tell.
        words = EngineWords(self._datadir.open_words())
        words.add_ring()
        words.close()
        for doorbell in rings.doorbells:
            with contextlib.suppress(BlockingIOError):
                os.write(doorbell, b"\0")

    def close(self) -> None:
        """Give the slot back. What stands in its rings is delivered all the same. May be called
        again."""
        for rings in (self._rings, *self._retired):
            rings.close()
        self._lock.release()


def recover_slot(path: Path) -> None:
    """Finish what a killed publisher had begun, unless a living one has the slot."""
    if not (path / "counters").exists():
        return
    counters = _counters(path)
    try:
        if not counters.interrupted:
            return
        lock = d.FileLock(path / "lock")
        try:
            _finish(counters, path)
        finally:
            lock.release()
    except BlockingIOError:
        pass  # a publisher in the middle of an emit
    finally:
        counters.close()


def repair_slot(repair: Repair, path: Path, config: Config, workers: int) -> None:
    """Make the files of a slot whole while no worker runs, and finish what a killed publisher had
    begun. Where a living one has the slot, only its rings are looked through."""
    repair.regular(path / "lock")
    lock: d.FileLock | None = None
    with contextlib.suppress(BlockingIOError):
        lock = d.FileLock(path / "lock")
    try:
        if lock is not None:
            repair.counters(path / "counters", config.max_endpoints, d.PUBLISHER_FIELDS)
        size = ring_queue_size(config, workers), ring_bytes(config, workers)
        for ring_path in sorted(path.glob("*.ring")):
            repair.ring(ring_path, *size, alone=lock is not None)
        missing = (path / f"{worker}.ring" for worker in range(workers))
        repair.suspects += [f"{ring} is missing" for ring in missing if not ring.exists()]
        if lock is not None:
            counters = _counters(path)
            _finish(counters, path)
            counters.close()
    finally:
        if lock is not None:
            lock.release()


def _counters(path: Path) -> shared.Counters:
    return shared.Counters(str(path / "counters"), 0, d.PUBLISHER_FIELDS, writable=True)


def _finish(counters: shared.Counters, path: Path) -> None:
    """Finish what a killed publisher had begun, in whichever of its rings: it may have had more of
    them than its successor will, or one of another size."""
    if counters.interrupted:
        rings = [ring.Consumer(str(p)) for p in path.glob("*.ring")]
        ring.recover(counters, rings)
        for consumer in rings:
            consumer.close()


def _take(datadir: d.DataDir, names: list[str]) -> tuple[Path, d.FileLock]:
    for attempt in range(TAKE_ATTEMPTS):
        for name in names:
            path = datadir.rings / name
            make_folder(path)
            Repair(datadir).regular(path / "lock")
            with contextlib.suppress(BlockingIOError):
                return path, d.FileLock(path / "lock")
        if attempt < TAKE_ATTEMPTS - 1:
            time.sleep(TAKE_INTERVAL_S)
    raise TooManyPublishers(
        f"all {len(names)} publishers of {datadir.path} are in use, by "
        f"{named(holders([datadir.rings / name / 'lock' for name in names]))}; raise max_publishers"
    )


def _open_counters(datadir: d.DataDir, path: Path, max_endpoints: int) -> shared.Counters:
    repair = Repair(datadir)
    repair.counters(path / "counters", max_endpoints, d.PUBLISHER_FIELDS)
    for loss in repair.losses:
        log.error("%s", loss)
    return shared.Counters(str(path / "counters"), max_endpoints, d.PUBLISHER_FIELDS, writable=True)
