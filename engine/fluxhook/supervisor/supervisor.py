"""The supervisor process: prepares the data directory, keeps the workers running, runs the scheduler.

One thread, one epoll: the scheduler's doorbell, the workers' pidfds, signals, and the pipe of the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fluxhook._native import ring
from fluxhook.config import codec
from fluxhook.config.schema import Config
from fluxhook.config.twins import recognize
from fluxhook.config.units import Duration, Size
from fluxhook.config.workers import DEFAULT_WORKERS, processes
from fluxhook.errors import (
    ConfigError,
    EngineError,
    EngineNotRunning,
    EngineRunning,
    FluxhookError,
    LayoutError,
    Problem,
)
from fluxhook.policy import breaker, clock, rate
from fluxhook.policy.table import IllegalMove
from fluxhook.publisher.slot import recover_slot, repair_slot
from fluxhook.scheduler.scheduler import Scheduler
from fluxhook.store import DeliveryStore, StoreDamaged, StoreError
from fluxhook.supervisor.books import discrepancies, explain, summary
from fluxhook.supervisor.changes import Changes
from fluxhook.supervisor.control_server import Listener
from fluxhook.supervisor.disk_sync import Syncer
from fluxhook.supervisor.judge import Judge
from fluxhook.supervisor.subscriptions import Subscriptions
from fluxhook.transport import datadir as d
from fluxhook.transport.clock import EngineClock, read_clocks
from fluxhook.transport.files import FULL, replace_file
from fluxhook.transport.heartbeat import LOOK_S
from fluxhook.transport.holders import holders
from fluxhook.transport.process import Child, LockHeld, kill_holders, log, wait_for_lock
from fluxhook.transport.readiness import hear, tell
from fluxhook.transport.repair import Repair
from fluxhook.transport.snapshot import Snapshot
from fluxhook.transport.thresholds import Thresholds

__all__ = ["Supervisor", "embedded_main"]

#: between the death of a worker and its successor; doubled while it keeps dying young
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.05, 5.0
#: a worker that lived this long starts with the shortest backoff again
STEADY_S = 10.0
#: how often publishers that died are looked for
HOUSEKEEPING_S = 1.0
#: for workers of an engine that is dead to leave, which takes them a quarter of a second
PATIENCE_S = 10.0
#: how often the clock is saved, and after how long without a look at it the engine was away
SAVING_S = 60.0
AWAY_NS = 150_000_000_000
#: rings between worker and scheduler
CHANNEL_BYTES = 16 << 20
CHANNEL_RECORDS = 16_384
#: events of the largest size that one of them holds at least
EVENTS_IN_CHANNEL = 8
#: no endpoint has failed since before Fluxhook was written, 2026, unless the machine's clock says so
EARLIEST_NS = 1_735_689_600_000_000_000
#: for a report of which the first bytes are here
REPORT_S = 5.0
#: the index of the sidecar among the children
SIDECAR = -1
#: how often it is looked whether workers that leave have left
LEAVING_S = 0.05


@dataclass
class _Change:
    """Another number of workers, from when those have left that cannot stay as they are."""

    config: Config
    count: int
    leavers: set[int]
    #: when those that are still there are killed
    until: float


class Supervisor:
    """The engine of one data directory. Raises EngineRunning if there is one already.

    `reload` gives the configuration anew when SIGHUP asks for it.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        config: Config,
        *,
        reload: Callable[[], Config] | None = None,
        sidecar: str | None = None,
        accept_loss: bool = False,
    ) -> None:
        """`sidecar`: a module to be run beside the workers, as `python -P -m MODULE serve ALIVE_FD
        DATA_DIR REPORT_FD BEAT_FD`; the admin API is one. It ends like a worker, and is replaced like
        one, once it has served; an engine whose sidecar cannot start does not start either.
        `accept_loss`: a store that is missing or damaged is moved aside, and a new one made."""
        self.datadir = d.DataDir(data_dir)
        self._repair = Repair(self.datadir)
        self._reload = reload
        self._lock = self._take_lock()
        self._workers = worker_count(config)
        #: of an event that the rings between workers and scheduler take
        self._most_bytes = Size(max(CHANNEL_BYTES // 8, int(config.max_event_bytes)))
        try:
            self._open(config, sidecar, accept_loss=accept_loss)
        except BaseException as e:
            if isinstance(e, FluxhookError):
                for loss in self._repair.losses:
                    log.error("%s", loss)
            self._lock.release()
            if isinstance(e, OSError):
                raise EngineError(d.unusable(e, self.datadir.path)) from e
            raise

    def _open(self, config: Config, sidecar: str | None, *, accept_loss: bool) -> None:
        self._words = self._prepare(config)
        self._store = self._open_store(config, accept_loss=accept_loss)
        #: something changed that could not be published yet
        self._stale = False
        #: what is in force: at first what the engine before this one published
        self.snapshot = self._load_former()
        self._clock = self._begin_clock()
        self._next_saving = 0.0
        was_away = self._look_at_clocks()
        self._epoll = select.epoll()
        self._sidecar = sidecar
        #: workers by index, and the sidecar
        self._children: dict[int, Child] = {}
        self._backoff_s = dict.fromkeys((*range(self._workers), SIDECAR), MIN_BACKOFF_S)
        #: workers follow once the sidecar serves, so that a start which fails has sent nothing
        self._start_at: dict[int, float] = {} if sidecar is None else {SIDECAR: 0.0}
        self._serves = self._draining = False
        #: why it does not start
        self._failure: FluxhookError | None = None
        self._doorbell = d.open_doorbell(self.datadir.scheduler_doorbell)
        self._epoll.register(self._doorbell, select.EPOLLIN)
        self._judge = Judge()
        self._twins: dict[str, str] = {}
        self._moved = self.snapshot.workers != self._workers
        self._change: _Change | None = None
        config = self._recognized(self._fitted(config))
        self._subscriptions = Subscriptions(self._store, config, self._clock)
        #: endpoints that were disabled get another chance, which is not on the disk yet
        self._to_enable = True
        try:
            self._tidy()
        except StoreError as e:
            log.warning("%s; it is tried again every second", e)
        self._publish()
        self._clear_impossible_times()
        self._scheduler = Scheduler(
            self.datadir, self._store, self._words, self.snapshot, self._clock
        )
        if was_away:
            self._scheduler.spare()
        changes = Changes(
            self._subscriptions, self._store, self._scheduler, self._clock, self._republish
        )
        self._listener = Listener(self.datadir, changes.apply)
        self._epoll.register(self._listener.fd, select.EPOLLIN)
        interval = durability_interval(config.durability)
        self._syncer = Syncer(self.datadir, interval.seconds) if interval else None
        self._requests: set[int] = set()
        #: of a sidecar that has not reported yet
        self._report_fd = -1
        #: workers that ended by a fault of their own, and have no successor yet
        self._faulty: set[int] = set()
        self._next_housekeeping = 0.0
        self._next_look = 0.0
        #: the data directory is not there any more
        self._removed = False
        self._close_books()

    # ---- preparation -----------------------------------------------------------------------

    def _take_lock(self) -> d.FileLock:
        try:
            self.datadir.make()
            self._repair.regular(self.datadir.engine_lock)
            # `is_running` holds the lock for a moment to see whether it can.
            return wait_for_lock(self.datadir.engine_lock, 0.1)
        except LockHeld:
            pids = {holder.pid for holder in holders([self.datadir.engine_lock])}
            raise EngineRunning(
                f"an engine (pid {', '.join(map(str, pids)) or '?'}) runs on {self.datadir.path} "
                "already; attach to it with fluxhook.connect, stop it, or choose another data "
                "directory"
            ) from None
        except OSError as e:
            raise EngineError(d.unusable(e, self.datadir.path)) from e

    def _prepare(self, config: Config) -> ring.Words:
        """Creates what is missing, makes whole what is damaged, and repairs rings that were in use when
        the machine went down. Returns the shared words."""
        datadir = self.datadir
        try:
            with datadir.translated():
                words = self._prepare_words(config)
                self._prepare_files()
                workers = datadir.worker_folders(self._workers)
                until = time.monotonic() + PATIENCE_S
                locks = [self._outlive(folder, until - time.monotonic()) for folder in workers]
                for folder in workers:
                    self._prepare_worker(folder, config)
                for slot in datadir.publisher_slots():
                    repair_slot(self._repair, slot, config, self._workers)
                for folder in workers:
                    self._finish(folder)
                self._largest = min(self._enlarge(folder, config) for folder in workers)
                for lock in locks:
                    lock.release()
        except OSError as e:
            where = f": {e.filename}" if e.filename else ""
            raise EngineError(
                f"the data directory {datadir.path} cannot be prepared{where}: {e.strerror}"
            ) from e
        return words

    def _prepare_words(self, config: Config) -> ring.Words:
        """Those of breakers that cannot be are cleared: there is no checksum in a word."""
        words = self._repair.words(config.max_endpoints + 1)
        if words.rows != config.max_endpoints + 1:
            raise ConfigError(
                Problem(
                    "max_endpoints",
                    f"{self.datadir.path} was made for {words.rows - 1} endpoints, "
                    f"not {config.max_endpoints}",
                    f"keep {words.rows - 1}, or start with an empty data directory",
                )
            )
        for row in range(words.rows - 1):
            words.store(row, d.UNBUILT, 0)  # of the workers before: these ones build it anew
            try:
                breaker.unpack(words.load(row, d.BREAKER))
            except IllegalMove as e:
                log.warning("%s is damaged: %s; the breaker begins anew", self.datadir.words, e)
                words.store(row, d.BREAKER, 0)
        return words

    def _clear_impossible_times(self) -> None:
        """Those in words that nobody can have written would hold an endpoint, or disable it."""
        now_ns = self._clock.now_ns()
        earliest_ns = min(now_ns, EARLIEST_NS)
        for id, endpoint in self.snapshot.endpoints().items():
            limit, tat_ns = endpoint.rate_limit, self._words.load(id, d.RATE)
            if limit and not rate.is_possible(tat_ns, now_ns, limit.interval_ns, limit.burst):
                log.warning("endpoint %s: its rate limit would hold it for longer than it may; it "
                            "begins anew", endpoint.name)  # fmt: skip
                self._words.store(id, d.RATE, 0)
            failing_ns = self._words.load(id, d.FAILING)
            if failing_ns and not earliest_ns <= failing_ns <= now_ns:
                log.warning("endpoint %s: the time since which it has failed is damaged; it begins "
                            "anew", endpoint.name)  # fmt: skip
                self._words.store(id, d.FAILING, 0)

    def _prepare_files(self) -> None:
        """What stands in the directory itself."""
        repair, datadir = self._repair, self.datadir
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

    def _enlarge(self, own: Path, config: Config) -> int:
        """Make rings anew that were made for a smaller `max_event_bytes`; return how large an event may
        be, since one with reports in it, or on a full disk, keeps its size."""
        capacity = channel_bytes(config)
        for name, kept in (("inbox.ring", False), ("outbox.ring", True)):
            self._repair.enlarge(own / name, CHANNEL_RECORDS, capacity, kept=kept)
            capacity = min(capacity, ring.geometry(str(own / name))[1])
        return capacity // EVENTS_IN_CHANNEL

    def _open_store(self, config: Config, *, accept_loss: bool) -> DeliveryStore:
        """Raises StoreDamaged for a store that is not what this data directory was used with, unless
        that loss is accepted."""
        path, full_sync = self.datadir.store, config.durability == "power"
        ids = self._former_ids()
        used = bool(
            ids
            or self._words.load(self._words.rows - 1, d.VERSION)
            or self.datadir.publisher_slots()
        )
        try:
            store = DeliveryStore.open(path, full_sync=full_sync, create=not used)
        except StoreDamaged as e:
            stored = sum(self._words.load(row, d.STORED) for row in range(self._words.rows - 1))
            lost = (
                f"{stored} deliveries waited in it, and dead letters and webhooks are nowhere else"
            )
            if not accept_loss:
                raise StoreDamaged(f"{e.what}: {lost}") from None
            if ids is None and self.datadir.publisher_slots():
                raise LayoutError(
                    f"{e.what}, and {self.datadir.snapshot.name} is damaged too, so that nobody knows "
                    f"for which endpoints the events in the rings are: put a copy of one of them back, "
                    f"or move {self.datadir.path} aside"
                ) from None
            for damaged in (path, *self.datadir.store_logs):
                if damaged.exists():
                    self._repair.set_aside(damaged)
            store = DeliveryStore.open(path, full_sync=full_sync)
            self._repair.losses.append(f"{e.what}; a new one takes its place: {lost}")
        if adopted := store.adopt_endpoints(ids or {}):
            log.error(
                "%s did not know the endpoints %s: it is an older copy, or its log is damaged; what "
                "was created at run time among them has to be created again",
                path, ", ".join(adopted),
            )  # fmt: skip
        return store

    def _load_former(self) -> Snapshot:
        try:
            former = Snapshot.load(self.datadir)
        except (EngineNotRunning, LayoutError):
            return Snapshot(version=0, workers=self._workers, config=Config(), ids={})
        elsewhere = former.workers != self._workers or former.homes
        if elsewhere and self._rings_at_rest():  # nothing waits for whom a ring's worker was
            former = msgspec.structs.replace(former, workers=self._workers, homes={})
        return former

    def _rings_at_rest(self) -> bool:
        """Whether nothing is in the publishers' rings, and nobody can put anything there now."""
        slots = self.datadir.publisher_slots()
        if any(d.is_locked(slot / "lock") for slot in slots):
            return False
        return not any(ring.unsettled(str(path)) for s in slots for path in s.glob("*.ring"))

    def _former_ids(self) -> dict[str, int] | None:
        """The endpoints' ids as they were published last; empty where nothing was yet, None where it
        cannot be read."""
        try:
            return Snapshot.load(self.datadir).ids
        except EngineNotRunning:
            return {}
        except LayoutError:
            return None

    def _close_books(self) -> None:
        """Says what was lost: which file, and by the books how many events."""
        found = discrepancies(self.datadir.path)
        repair = self._repair
        for loss in (*repair.losses, *(repair.suspects if found else ())):
            log.error("%s; %s", loss, summary(found))
        for endpoint, n in found:
            log.error("endpoint %s: %s", endpoint.name, explain(endpoint, n))

    def _outlive(self, worker: Path, patience_s: float) -> d.FileLock:
        """Waits until a worker of the engine before this one has ended.

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

    def _finish(self, worker: Path) -> None:
        """Finishes what a killed worker had begun: in any ring, for with another number of workers it
        may be nobody's successor's."""
        counters = ring.Counters(str(worker / "counters"), writable=True)
        if counters.interrupted:
            outbox = ring.Producer(str(worker / "outbox.ring"))
            slots = self.datadir.publisher_slots()
            rings = [
                *(path for slot in slots for path in slot.glob("*.ring")),
                worker / "inbox.ring",
            ]
            counters.recover([ring.Consumer(str(path)) for path in rings], outbox)
        counters.close()

    def publish(self, config: Config) -> None:
        """Makes a configuration the one that every process uses from now on.

        Loading one is the operator's word that its endpoints are to be used: an endpoint whose
        receiver asked to be left alone (410) gets another chance.
        """
        before, twins = self._subscriptions.config, self._twins
        self._subscriptions.configure(self._recognized(self._fitted(config)))
        try:
            self._republish()
        except FluxhookError:
            self._subscriptions.configure(before)
            self._twins = twins
            raise
        if self._enable_all():
            self._republish()

    def _fitted(self, config: Config) -> Config:
        """Events that the rings between worker and scheduler could not take are refused by `emit`."""
        if config.max_event_bytes <= self._largest:
            return config
        log.warning(
            "max_event_bytes stays at %s until the next start: the rings of the workers have that size",
            Size(self._largest),
        )
        return msgspec.structs.replace(config, max_event_bytes=Size(self._largest))

    def _recognized(self, config: Config) -> Config:
        """The configuration with endpoints of the same name under the names that they had."""
        former = self.snapshot
        theirs = [e for e in former.config.endpoints if e.name not in former.created]
        endpoints, self._twins = recognize(config.endpoints, theirs, former.twins)
        return msgspec.structs.replace(config, endpoints=endpoints)

    def _tidy(self) -> bool:
        """Has the store forget what is over; True if there was any. Raises StoreError where the disk is
        full."""
        expired = self._subscriptions.expire(self._clock.now_ns())
        enabled = self._to_enable and self._enable_all()
        self._to_enable = False
        return expired or enabled

    def _enable_all(self) -> bool:
        """True if there was one to enable."""
        disabled = [row.id for row in self._store.endpoints() if row.disabled_ns is not None]
        for id in disabled:
            self._store.enable_endpoint(id)
            for word in (d.BREAKER, d.FAILING):  # or its first failure would disable it again
                self._words.store(id, word, 0)
        return bool(disabled)

    def _republish(self) -> Snapshot:
        """Raises StoreError where the disk fails; then it is tried again every second."""
        self._stale = True
        self._publish()
        self._scheduler.configure(self.snapshot)
        self._stale = False
        return self.snapshot

    def _publish(self) -> None:
        config = self._subscriptions.effective()
        ids = self._store.ensure_endpoints([endpoint.name for endpoint in config.endpoints])
        if ids and max(ids.values()) >= self._words.rows - 1:
            raise ConfigError(
                Problem(
                    "max_endpoints",
                    f"{len(ids)} endpoints do not fit in {self._words.rows - 1}",
                    "start a new data directory with a larger max_endpoints",
                )
            )
        self._judge.judge(config.endpoints, self._subscriptions.refused, time.monotonic())
        row = self._words.rows - 1
        rows = self._store.endpoints()
        snapshot = Snapshot(
            version=self._next_version(),
            workers=self._workers,
            config=config,
            ids=ids,
            disabled=frozenset(e.name for e in rows if e.disabled_ns is not None),
            created=self._subscriptions.created,
            held=self._judge.held,
            files=self._judge.files,
            known=max((e.id for e in rows), default=-1) + 1,
            clock=self._clock.known,
            twins=self._twins,
        ).at_home(self.snapshot)
        try:
            snapshot.save(self.datadir)
        except OSError as e:
            remedy = "; make room on its disk" if e.errno in FULL else ""
            raise StoreError(
                f"{self.datadir.snapshot} cannot be written: {e.strerror}{remedy}"
            ) from e
        self.snapshot = snapshot
        self._words.store(row, d.VERSION, snapshot.version)
        self._ring_doorbells()

    def _next_version(self) -> int:
        """One that nobody has seen. A supervisor that was killed before it stored the version of the
        file that it had written left the file ahead."""
        return max(self._words.load(self._words.rows - 1, d.VERSION), self.snapshot.version) + 1

    def _ring_doorbells(self) -> None:
        for index in range(self._workers):
            fd = d.open_doorbell(self.datadir.doorbell(index))
            with contextlib.suppress(BlockingIOError):
                os.write(fd, b"\0")
            os.close(fd)

    # ---- life ------------------------------------------------------------------------------

    def run(
        self,
        *,
        host_fd: int = -1,
        on_ready: Callable[[], None] = lambda: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Serves until SIGTERM (or SIGINT, or the host's death), then drains and returns. `on_ready` is
        called once it serves, `on_turn` after each turn, at least once in HOUSEKEEPING_S. Raises what
        keeps the sidecar from its first start."""
        self._take_signals()
        self._on_ready = on_ready
        if host_fd >= 0:
            self._epoll.register(host_fd, select.EPOLLIN)
        self._announce()
        self._catch_up()
        if self._sidecar is None:
            self._serve()
        draining_until: float | None = None
        while draining_until is None or self._children:
            now = time.monotonic()
            wake_ns = self._scheduler.step(self._clock.now_ns())
            if draining_until is None:
                self._advance_change(now)
                self._start_children()
                self._housekeep(now)
            elif now >= draining_until:
                self._kill_workers()
            self._look_at_children(now)
            wait_s = min(HOUSEKEEPING_S, max(0.0, (wake_ns - self._clock.now_ns()) / 1e9))
            if self._start_at:
                wait_s = min(wait_s, max(0.0, min(self._start_at.values()) - now))
            if self._change is not None:
                wait_s = min(wait_s, LEAVING_S)
            if draining_until is not None and now < draining_until:
                wait_s = min(wait_s, draining_until - now)
            asked = self._listener.busy
            busy = asked or self._scheduler.busy
            for fd, _ in self._epoll.poll(0.0 if busy else wait_s):
                if fd == self._doorbell:
                    d.quiet_doorbell(fd)
                elif fd == self._listener.fd:
                    asked = True
                elif fd == self._report_fd:
                    self._hear_companion()
                elif fd == host_fd:
                    self._epoll.unregister(fd)
                    self._requests.add(signal.SIGTERM)
                else:
                    self._child_ended(fd, restart=draining_until is None)
            if asked:
                self._listener.step()
            if signal.SIGHUP in self._requests and draining_until is None:
                self._reload_config()
            if self._requests & {signal.SIGTERM, signal.SIGINT} and draining_until is None:
                draining_until = time.monotonic() + self.snapshot.config.shutdown_timeout.seconds
                self._drain_workers()
            self._requests.clear()
            on_turn()
        self.close()
        if self._removed:
            raise EngineError(f"the data directory {self.datadir.path} was removed or replaced")
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        self._serves = True
        self._start_at |= dict.fromkeys(range(self._workers), 0.0)
        self._start_children()
        self._on_ready()

    def close(self) -> None:
        """Stores what the workers reported last, and lets the data directory go."""
        self._listener.close()
        self._scheduler.close()
        self._look_at_clocks()
        self._save_clock()
        if self._syncer is not None:
            self._syncer.close()
        self._store.close()
        if not self._removed:
            with contextlib.suppress(FileNotFoundError):
                self.datadir.engine_file.unlink()
        self._lock.release()

    def _take_signals(self) -> None:
        def note(number: int, _: object) -> None:
            self._requests.add(number)

        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, note)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, note)
        signal.set_wakeup_fd(self._doorbell, warn_on_full_buffer=False)

    def _announce(self) -> None:
        said = {
            "pid": os.getpid(),
            "started": time.time(),
            "workers": self._workers,
            "companion": self._sidecar,
        }
        try:
            replace_file(self.datadir.engine_file, json.dumps(said).encode(), sync=False)
        except OSError as e:  # it is for people and programs that look; deliveries need it not
            log.warning("%s cannot be written: %s", self.datadir.engine_file, e.strerror)

    # ---- the clock -------------------------------------------------------------------------

    def _begin_clock(self) -> EngineClock:
        known, newest_ns = self._store.clock(), self._store.newest_ns()
        if not known.boot_id:  # a new store, or one made anew beside older words
            known = self.snapshot.clock
        if not known.boot_id:  # of a version that went by the wall clock
            newest_ns = max(newest_ns, self._store.last_attempt_ns())
        return EngineClock(clock.begin(known, d.boot_id().hex(), *read_clocks(), newest_ns))

    def _look_at_clocks(self) -> bool:
        """Notes whether the wall clock was set; True if nobody was here to look for long, as the
        engine did not run or the machine slept."""
        before, (boot_ns, wall_ns) = self._clock.known, read_clocks()
        known = self._clock.known = clock.look(before, before.origin_ns + boot_ns, wall_ns)
        if known.offsets != before.offsets:
            step_s = (known.offset_ns - before.offset_ns) / 1e9
            log.warning(
                "the machine's clock was set %s by %.1f s; what waits here goes on as it was",
                "forward" if step_s > 0 else "back", abs(step_s),
            )  # fmt: skip
            self._next_saving = 0.0
            self._stale = True
        return known.seen_ns - before.seen_ns >= AWAY_NS

    def _save_clock(self) -> None:
        """So that an engine after a boot knows what time it was here at least."""
        with contextlib.suppress(StoreError):  # the next time will do
            self._store.save_clock(self._clock.known)
            self._next_saving = time.monotonic() + SAVING_S

    # ---- workers ---------------------------------------------------------------------------

    def _start_children(self) -> None:
        now = time.monotonic()
        for index, start_at in list(self._start_at.items()):
            if now >= start_at:
                if index != SIDECAR:
                    wary = str(int(index in self._faulty))
                    self._faulty.discard(index)
                    child = Child("worker", str(self.datadir.path), str(index), wary, beats=True)
                else:
                    assert self._sidecar is not None
                    child = Child(
                        "serve",
                        str(self.datadir.path),
                        module=self._sidecar,
                        reports=True,
                        beats=True,
                    )
                    self._report_fd = child.report_fd
                    self._epoll.register(child.report_fd, select.EPOLLIN)
                self._children[index] = child
                self._epoll.register(child.pidfd, select.EPOLLIN)
                del self._start_at[index]

    def _hear_companion(self) -> None:
        """Takes its report: that it serves, or why it is about to end."""
        self._epoll.unregister(self._report_fd)
        said = hear(self._report_fd, REPORT_S)
        self._report_fd = -1
        if isinstance(said, FluxhookError) and self._serves:
            log.error("%s cannot serve: %s", self._sidecar, said)
        elif isinstance(said, FluxhookError):
            self._failure = said
        elif said and not self._serves and not self._draining:
            self._serve()

    def _catch_up(self) -> None:
        """Apply what workers of an engine before this one reported, where their rings are others' now:
        what they handed to the store comes before what is still in their rings."""
        until = time.monotonic() + PATIENCE_S
        while self._moved and not self._scheduler.caught_up and time.monotonic() < until:
            self._scheduler.step(self._clock.now_ns())
            if not self._scheduler.busy:
                time.sleep(LEAVING_S)  # the disk fails

    def _child_ended(self, pidfd: int, *, restart: bool) -> None:
        index, child = next((i, c) for i, c in self._children.items() if c.pidfd == pidfd)
        self._epoll.unregister(pidfd)
        if index == SIDECAR and self._report_fd >= 0:
            self._hear_companion()
        status = child.reap()
        del self._children[index]
        if index != SIDECAR:
            fault = child.hung or by_own_fault(status)
            self._scheduler.worker_lost(index, by_own_fault=fault)
            if fault:
                self._faulty.add(index)
        if not restart or (self._change is not None and index in self._change.leavers):
            return
        if not self._serves:
            self._failure = self._failure or EngineError(
                f"{self._sidecar} ended with status {status} before it served; its log says why"
            )
            self._requests.add(signal.SIGTERM)
            return
        if time.monotonic() - child.started >= STEADY_S:
            self._backoff_s[index] = MIN_BACKOFF_S
        backoff_s = self._backoff_s[index]
        self._backoff_s[index] = min(2 * backoff_s, MAX_BACKOFF_S)
        self._start_at[index] = time.monotonic() + backoff_s
        log.warning(
            "%s (pid %d) ended with status %d; a new one starts in %.2f s",
            self._sidecar if index == SIDECAR else f"worker {index}",
            child.pid, status, backoff_s,
        )  # fmt: skip

    def _look_at_children(self, now: float) -> None:
        """A child that is alive and does nothing keeps its leases, probes and locks: it is replaced."""
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            for child in self._children.values():
                child.kill_if_stuck()

    def _drain_workers(self) -> None:
        self._draining = True
        self._scheduler.stop_feeding()
        self._start_at.clear()
        for child in self._children.values():
            child.drain()

    def _kill_workers(self) -> None:
        """The drain took too long. What a killed worker had in hand is delivered after the next
        start."""
        for child in self._children.values():
            log.warning("child (pid %d) did not drain in time; it is stopped", child.pid)
            child.process.kill()

    # ---- changes ---------------------------------------------------------------------------

    def _reload_config(self) -> None:
        try:
            if self._reload is None:
                log.info(
                    "SIGHUP: this engine has no configuration file; the TLS files are read again"
                )
                self._republish()
                return
            config = self._reload()
            if config.max_event_bytes > self._most_bytes:
                log.warning(
                    "max_event_bytes stays %s: what is more needs larger rings, with the next start",
                    self._most_bytes,
                )
                config = msgspec.structs.replace(config, max_event_bytes=self._most_bytes)
            if config.max_endpoints != self.snapshot.config.max_endpoints:
                log.warning("max_endpoints changes with the next start only")
                config = msgspec.structs.replace(config, max_endpoints=self._words.rows - 1)
            if worker_count(config) != self._workers or self._change is not None:
                self._begin_change(config)
                return
            self.publish(config)
        except FluxhookError as e:
            log.error("the configuration was not reloaded, the old one stays:\n%s", e)
            return
        log.info("configuration reloaded: version %d", self.snapshot.version)

    # ---- another number of workers -----------------------------------------------------------

    def _begin_change(self, config: Config) -> None:
        """Ask the workers to leave whose rings others will read. The configuration is in force once
        they have. Raises EngineError where the files of new workers cannot be made."""
        count = worker_count(config)
        self._prepare_new_workers(config, count)
        leavers = self._leavers(count)
        until = time.monotonic() + config.shutdown_timeout.seconds
        if self._change is not None:
            leavers |= self._change.leavers
            until = min(until, self._change.until)
        self._change = _Change(config, count, leavers, until)
        self._scheduler.spare_workers(leavers)
        for index in leavers:
            self._start_at.pop(index, None)
            if index in self._children:
                self._children[index].leave()
        log.info(
            "workers: %d from now on, instead of %d%s", count, self._workers,
            f"; {len(leavers)} of them finish what they have begun" if leavers else "",
        )  # fmt: skip

    def _prepare_new_workers(self, config: Config, count: int) -> None:
        # As large as those that there are, whatever the new configuration says.
        sized = msgspec.structs.replace(
            config, max_event_bytes=Size(self._largest), max_endpoints=self._words.rows - 1
        )
        known = self.datadir.worker_folders()
        try:
            with self.datadir.translated():
                for index in range(count):
                    folder = self.datadir.worker(index)
                    self._repair.folder(folder)
                    self._repair.doorbell(self.datadir.doorbell(index))
                    if folder not in known:
                        self._prepare_worker(folder, sized)
        except OSError as e:
            raise EngineError(
                f"{e.filename or self.datadir.workers} cannot be made: {e.strerror}"
            ) from e

    def _leavers(self, count: int) -> set[int]:
        """Workers that are no more among so many, and those with a ring that another one reads then."""
        now = self._workers
        found = (int(path.stem) + 1 for path in self.datadir.rings.glob("*/*.ring"))
        rings = range(max(self.snapshot.rings, max(found, default=0)))
        moved = {index % now for index in rings if index % count != index % now}
        return moved | set(range(count, now))

    def _advance_change(self, now: float) -> None:
        """Put a change in force once those have left that must, and all that they reported is
        stored."""
        change = self._change
        if change is None or not self._serves:
            return
        if left := change.leavers & self._children.keys():
            if now >= change.until:
                for index in left:
                    log.warning("worker %d did not leave in time; it is stopped", index)
                    self._children[index].process.kill()
                change.until = now + PATIENCE_S
            return
        for index in change.leavers:
            self._finish(self.datadir.worker(index))
        if not self._scheduler.applied(change.leavers):
            return
        self._change = None
        before, self._workers = self._workers, change.count
        try:
            self._scheduler.change_workers(change.count)
            self.publish(change.config)
        except (FluxhookError, OSError) as e:
            log.error("the configuration was not reloaded, the old one stays:\n%s", e)
            self._workers = before
            self._scheduler.change_workers(before)
        else:
            log.info("configuration reloaded: version %d", self.snapshot.version)
        for index in set(range(self._workers)) - self._children.keys():
            self._backoff_s[index] = MIN_BACKOFF_S
            self._start_at.setdefault(index, 0.0)
        self._announce()

    def _housekeep(self, now: float) -> None:
        if now < self._next_housekeeping:
            return
        self._next_housekeeping = now + HOUSEKEEPING_S
        if self._look_at_clocks():
            self._scheduler.spare()
        if now >= self._next_saving:
            self._save_clock()
        if not self._lock.is_at(self.datadir.engine_lock):
            self._notice_removal()
            return
        for slot in self.datadir.publisher_slots():
            try:
                recover_slot(slot)
            except (OSError, ring.LayoutMismatch) as e:
                log.error("%s; the next start saves what can be saved", e)
        try:
            tidied = self._tidy()
            disabled = self._scheduler.take_disabled()
            rebuilt = self._suspect_unbuilt(now) or self._judge.look(now)
            if disabled or tidied or rebuilt or self._stale:
                self._republish()
        except FluxhookError as e:
            self._stale = True
            log.error("the endpoints cannot be published anew, a second later again: %s", e)

    def _notice_removal(self) -> None:
        """The files are still mapped, so that what is in them can be delivered; then the engine ends.
        Publishers find out as they look for the configuration at their next event."""
        if not self._removed:
            self._removed = True
            log.error(
                "the data directory %s was removed or replaced under this engine: what its files hold "
                "is delivered as far as that goes now, the rest is lost, and the engine ends",
                self.datadir.path,
            )
            self._words.add(self._words.rows - 1, d.VERSION, 1)
            self._requests.add(signal.SIGTERM)

    def _suspect_unbuilt(self, now: float) -> bool:
        """Have the endpoints held that a worker could not build; True if there are some."""
        found = [name for name, id in self.snapshot.ids.items() if self._words.load(id, d.UNBUILT)]
        for name in found:
            self._words.store(self.snapshot.ids[name], d.UNBUILT, 0)
            self._judge.suspect(name, now)
        return bool(found)


def durability_interval(durability: str) -> Duration | None:
    """The interval of `interval:<duration>`."""
    kind, _, interval = durability.partition(":")
    return Duration.parse(interval) if kind == "interval" else None


def by_own_fault(status: int) -> bool:
    """Whether a worker ended by what it did: an error, or a signal that a program brings upon itself.
    One that was killed may have been killed by anybody."""
    return status > 0 or -status in _FAULTS


_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


def channel_bytes(config: Config) -> int:
    """The size of the rings between worker and scheduler."""
    return max(CHANNEL_BYTES, EVENTS_IN_CHANNEL * int(config.max_event_bytes))


def worker_count(config: Config) -> int:
    """Those for `workers`, or one for each core up to four: a worker fills a core, and a host needs
    some."""
    if config.workers is not None:
        return processes(config.workers)
    return min(DEFAULT_WORKERS, os.cpu_count() or 1)


def embedded_main(data_dir: str, host_fd: int, *, ready_fd: int) -> None:
    """A supervisor that a host process started: its configuration comes on standard input, and it
    reports on `ready_fd` that it serves or why it cannot."""
    try:
        config = codec.decode(sys.stdin.buffer.read(), Config)
        supervisor = Supervisor(data_dir, config)
    except FluxhookError as e:
        tell(ready_fd, e)
        raise SystemExit(1) from None
    try:
        supervisor.run(host_fd=host_fd, on_ready=lambda: tell(ready_fd))
    except FluxhookError as e:
        log.error("%s", e)
        raise SystemExit(1) from None
