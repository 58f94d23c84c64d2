"""Making a data directory ready: what is missing is made, what is damaged is repaired, and what the
processes before had begun is finished."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from fluxhook._native import ring, shared
from fluxhook.config.schema import Config
from fluxhook.config.units import Size
from fluxhook.errors import (
    ConfigError,
    EngineError,
    EngineNotRunning,
    EngineRunning,
    LayoutError,
    Problem,
)
from fluxhook.logs.log import Log
from fluxhook.policy import rate
from fluxhook.policy.table import IllegalMove
from fluxhook.publisher.slot import repair_slot
from fluxhook.store import DeliveryStore, StoreDamaged
from fluxhook.supervisor.reservation import CHANNEL_RECORDS, EVENTS_IN_CHANNEL, channel_bytes
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.holders import holders
from fluxhook.transport.process import LockHeld, kill_holders, wait_for_lock
from fluxhook.transport.repair import Repair
from fluxhook.transport.snapshot import Snapshot
from fluxhook.transport.thresholds import Thresholds

__all__ = [
    "PATIENCE_S",
    "Preparation",
    "clear_impossible_times",
    "lock_engine",
]

log = Log("store")

#: for workers of an engine that is dead to leave, which takes them a quarter of a second
PATIENCE_S = 10.0
#: no endpoint has failed since before Fluxhook was written, 2026, unless the machine's clock says so
EARLIEST_NS = 1_735_689_600_000_000_000


def lock_engine(datadir: d.DataDir, repair: Repair) -> d.FileLock:
    """Return the engine's lock. Raises EngineRunning if an engine has it already."""
    try:
        datadir.make()
        repair.regular(datadir.engine_lock)
        # `is_running` holds the lock for a moment to see whether it can.
        return wait_for_lock(datadir.engine_lock, 0.1)
    except LockHeld:
        pids = {holder.pid for holder in holders([datadir.engine_lock])}
        raise EngineRunning(
            f"an engine (pid {', '.join(map(str, pids)) or '?'}) runs on {datadir.path} "
            "already; attach to it with fluxhook.connect, stop it, or choose another data "
            "directory"
        ) from None
    except OSError as e:
        raise EngineError(d.unusable(e, datadir.path)) from e


class Preparation:
    """The files of one data directory, for a configuration and a number of workers.

    `words` are the shared words, `max_event_bytes` is the size of the largest event that all rings of
    the workers take.
    """

    def __init__(self, datadir: d.DataDir, repair: Repair, config: Config, workers: int) -> None:
        """Raise EngineError and ConfigError for a directory that cannot be used."""
        self._datadir = datadir
        self._repair = repair
        self._config = config
        self._workers = workers
        try:
            with datadir.translated():
                self.words = self._prepare_words()
                self._prepare_files()
                folders = datadir.worker_folders(workers)
                until = time.monotonic() + PATIENCE_S
                locks = [self._outlive(folder, until - time.monotonic()) for folder in folders]
                for folder in folders:
                    self._prepare_worker(folder, config)
                for slot in datadir.publisher_slots():
                    repair_slot(repair, slot, config, workers)
                for folder in folders:
                    self._finish(folder)
                self.max_event_bytes = min(self._enlarge(folder) for folder in folders)
                for lock in locks:
                    lock.release()
        except OSError as e:
            where = f": {e.filename}" if e.filename else ""
            raise EngineError(
                f"the data directory {datadir.path} cannot be prepared{where}: {e.strerror}"
            ) from e

    @property
    def max_endpoints(self) -> int:
        """Return how many endpoints the words have room for."""
        return self.words.max_endpoints

    # ---- what stands in the directory itself -----------------------------------------------

    def _prepare_words(self) -> EngineWords:
        """Return the words; those of breakers that cannot be are cleared: a word has no checksum."""
        most = self._config.max_endpoints
        words = EngineWords(self._repair.words(most))
        words.understand_traces()
        if words.max_endpoints != most:
            raise ConfigError(
                Problem(
                    "max_endpoints",
                    f"{self._datadir.path} was made for {words.max_endpoints} endpoints, not {most}",
                    f"keep {words.max_endpoints}, or start with an empty data directory",
                )
            )
        for id in range(words.max_endpoints):
            words.clear_unbuilt(id)  # of the workers before: these ones build it anew
            try:
                words.breaker(id)
            except IllegalMove as e:
                log.warning("%s is damaged: %s; the breaker begins anew", self._datadir.words, e)
                words.clear_breaker(id)
        return words

    def _prepare_files(self) -> None:
        repair, datadir = self._repair, self._datadir
        for path in (datadir.engine_file, datadir.admin_file, datadir.snapshot, datadir.thresholds):
            repair.regular(path)
        wal, shm = datadir.store_logs
        for path in (datadir.store, wal):
            repair.store(path)
        repair.regular(shm)
        repair.socket(datadir.control_socket)
        repair.doorbell(datadir.scheduler_doorbell)
        for path in (datadir.rings, datadir.workers, datadir.audit):
            repair.folder(path)
        for index in range(self._workers):
            repair.folder(datadir.worker(index))
            repair.doorbell(datadir.doorbell(index))
        Thresholds.make(datadir.thresholds)

    # ---- the files of a worker -------------------------------------------------------------

    def _outlive(self, worker: Path, patience_s: float) -> d.FileLock:
        """Wait until a worker of the engine before this one has ended; return its lock.

        One that does not leave within `patience_s` is stuck, and killed: its supervisor is dead, or
        this one had not got the engine's lock.
        """
        for name in ("lock", "serving"):
            self._repair.regular(worker / name)
        try:
            return wait_for_lock(worker / "lock", patience_s)
        except LockHeld:
            kill_holders(worker / "lock", f"fluxhook worker {worker.name} [")
            return wait_for_lock(worker / "lock", PATIENCE_S / 2)

    def _prepare_worker(self, own: Path, config: Config) -> None:
        repair = self._repair
        repair.counters(own / "counters", config.max_endpoints, d.WORKER_FIELDS)
        repair.histograms(own / "stages", config.max_endpoints)
        capacity = channel_bytes(config)
        repair.inbox(own / "inbox.ring", CHANNEL_RECORDS, capacity)
        # What is damaged in it is the scheduler's to settle, and to tell.
        repair.ring(own / "outbox.ring", CHANNEL_RECORDS, capacity, weed=False)
        for path in map(str, (own / "inbox.ring", own / "outbox.ring")):
            # One that an engine with a smaller max_event_bytes made takes no event of today's size.
            if ring.geometry(path)[1] < capacity and not ring.unsettled(path):
                ring.create_ring(path, CHANNEL_RECORDS, capacity, d.boot_id())

    def _enlarge(self, own: Path) -> int:
        """Make rings anew that were made for a smaller `max_event_bytes`; return how large an event may
        be, since one with reports in it, or on a full disk, keeps its size."""
        capacity = channel_bytes(self._config)
        for name, kept in (("inbox.ring", False), ("outbox.ring", True)):
            self._repair.enlarge(own / name, CHANNEL_RECORDS, capacity, kept=kept)
            capacity = min(capacity, ring.geometry(str(own / name))[1])
        return capacity // EVENTS_IN_CHANNEL

    def _finish(self, worker: Path) -> None:
        counters = shared.Counters(str(worker / "counters"), writable=True)
        if counters.interrupted:
            outbox = ring.Producer(str(worker / "outbox.ring"))
            slots = self._datadir.publisher_slots()
            rings = [
                *(path for slot in slots for path in slot.glob("*.ring")),
                worker / "inbox.ring",
            ]
            ring.recover(counters, [ring.Consumer(str(path)) for path in rings], outbox)
        counters.close()

    def finish(self, worker: int) -> None:
        """Finish what a worker that has ended had begun: in any ring, for with another number of
        workers it may be nobody's successor's."""
        self._finish(self._datadir.worker(worker))

    def prepare_workers(self, config: Config, count: int) -> None:
        """Make the files of workers that have none. Raises EngineError where that fails."""
        # As large as those that there are, whatever the new configuration says.
        sized = msgspec.structs.replace(
            config, max_event_bytes=Size(self.max_event_bytes), max_endpoints=self.max_endpoints
        )
        known = self._datadir.worker_folders()
        try:
            with self._datadir.translated():
                for index in range(count):
                    folder = self._datadir.worker(index)
                    self._repair.folder(folder)
                    self._repair.doorbell(self._datadir.doorbell(index))
                    if folder not in known:
                        self._prepare_worker(folder, sized)
        except OSError as e:
            raise EngineError(
                f"{e.filename or self._datadir.workers} cannot be made: {e.strerror}"
            ) from e

    # ---- what the engine before left -------------------------------------------------------

    def open_store(self, *, accept_loss: bool) -> DeliveryStore:
        """Return the store. Raises StoreDamaged for one that is not what this data directory was used
        with, unless that loss is accepted."""
        datadir, path = self._datadir, self._datadir.store
        full_sync = self._config.durability == "power"
        ids = self._former_ids()
        used = bool(ids or self.words.version or datadir.publisher_slots())
        try:
            store = DeliveryStore.open(path, full_sync=full_sync, create=not used)
        except StoreDamaged as e:
            stored = sum(map(self.words.stored, range(self.max_endpoints)))
            lost = (
                f"{stored} deliveries waited in it, and dead letters and webhooks are nowhere else"
            )
            if not accept_loss:
                raise StoreDamaged(f"{e.what}: {lost}") from None
            if ids is None and datadir.publisher_slots():
                raise LayoutError(
                    f"{e.what}, and {datadir.snapshot.name} is damaged too, so that nobody knows "
                    f"for which endpoints the events in the rings are: put a copy of one of them back, "
                    f"or move {datadir.path} aside"
                ) from None
            for damaged in (path, *datadir.store_logs):
                if damaged.exists():
                    self._repair.set_aside(damaged)
            store = DeliveryStore.open(path, full_sync=full_sync)
            self._repair.losses.append(f"{e.what}; a new one takes its place: {lost}")
        if restored := store.restore_endpoints(ids or {}):
            log.error(
                "%s did not know the endpoints %s: it is an older copy, or its log is damaged; what "
                "was created at run time among them has to be created again",
                path, ", ".join(restored),
            )  # fmt: skip
        return store

    def _former_ids(self) -> dict[str, int] | None:
        """Return the endpoints' ids as they were published last; none where nothing was yet, None where
        it cannot be read."""
        try:
            return Snapshot.load(self._datadir).ids
        except EngineNotRunning:
            return {}
        except LayoutError:
            return None

    def load_former(self) -> Snapshot:
        """Return what the engine before this one published last."""
        try:
            former = Snapshot.load(self._datadir)
        except (EngineNotRunning, LayoutError):
            return Snapshot(version=0, workers=self._workers, config=Config(), ids={})
        elsewhere = former.workers != self._workers or former.assigned_rings
        if elsewhere and self._rings_at_rest():  # nothing waits for whom a ring's worker was
            former = msgspec.structs.replace(former, workers=self._workers, assigned_rings={})
        return former

    def _rings_at_rest(self) -> bool:
        """Return whether nothing is in the publishers' rings, and nobody can put anything there now."""
        slots = self._datadir.publisher_slots()
        if any(d.is_locked(slot / "lock") for slot in slots):
            return False
        return not any(ring.unsettled(str(path)) for s in slots for path in s.glob("*.ring"))


def clear_impossible_times(words: EngineWords, snapshot: Snapshot, now_ns: int) -> None:
    """Clear times in words that nobody can have written: they would hold an endpoint, or disable it."""
    earliest_ns = min(now_ns, EARLIEST_NS)
    for id, endpoint in snapshot.endpoints().items():
        limit, tat_ns = endpoint.rate_limit, words.tat_ns(id)
        if limit and not rate.is_possible(tat_ns, now_ns, limit.interval_ns, limit.burst):
            log.warning("endpoint %s: its rate limit would hold it for longer than it may; it "
                        "begins anew", endpoint.name)  # fmt: skip
            words.clear_rate(id)
        failing_ns = words.failing_ns(id)
        if failing_ns and not earliest_ns <= failing_ns <= now_ns:
            log.warning("endpoint %s: the time since which it has failed is damaged; it begins "
                        "anew", endpoint.name)  # fmt: skip
            words.clear_failing(id)
        if words.died_ns(id) > now_ns:
            words.publish_died(id, 0)
