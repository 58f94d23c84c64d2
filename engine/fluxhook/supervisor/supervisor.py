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
from pathlib import Path

from fluxhook._native import shared
from fluxhook.config import codec
from fluxhook.config.schema import Config
from fluxhook.config.units import Duration
from fluxhook.errors import EngineError, FluxhookError
from fluxhook.logs import setup
from fluxhook.logs.log import Log
from fluxhook.publisher.slot import recover_slot
from fluxhook.scheduler.scheduler import Scheduler
from fluxhook.supervisor import books
from fluxhook.supervisor.change_log import ENGINE, ChangeLog
from fluxhook.supervisor.changes import Changes
from fluxhook.supervisor.children import SIDECAR, Children, worker_count
from fluxhook.supervisor.clock_watch import ClockWatch
from fluxhook.supervisor.control_server import Listener
from fluxhook.supervisor.disk_sync import Syncer
from fluxhook.supervisor.live_config import LiveConfig
from fluxhook.supervisor.preparation import (
    PATIENCE_S,
    Preparation,
    clear_impossible_times,
    lock_engine,
)
from fluxhook.supervisor.queue_watch import QueueWatch
from fluxhook.supervisor.reloading import Reloading
from fluxhook.supervisor.reservation import check_room, reservation
from fluxhook.transport import datadir as d
from fluxhook.transport.files import replace_file
from fluxhook.transport.host_channel import DeadLetter, EndpointStateChange, HostChannel
from fluxhook.transport.outage import Outage
from fluxhook.transport.readiness import tell
from fluxhook.transport.repair import Repair
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Supervisor", "embedded_main"]

log = Log("engine")

#: how often publishers that died are looked for
HOUSEKEEPING_S = 1.0
#: how often it is looked whether workers that leave have left, and whether the first one serves
LEAVING_S = 0.05
#: how long the end waits for a host that is slow to read what was said; arbitrary
HOST_S = 5.0


class Supervisor:
    """The engine of one data directory. Raises EngineRunning if there is one already.

    `reload` gives the configuration anew when SIGHUP asks for it. Its parts share `store`, the
    deliveries; `words`, what the processes tell each other; and `clock`, the engine's time.
    """

    #: what cannot be written now, as the words say; None: they are of the engine before
    _outages: set[str] | None = None

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        config: Config,
        *,
        reload: Callable[[], Config] | None = None,
        sidecar: str | None = None,
        accept_loss: bool = False,
        host: HostChannel | None = None,
    ) -> None:
        """Prepare the data directory. `sidecar`: a module to be run beside the workers, as `python
        -P -m MODULE serve ALIVE_FD DATA_DIR REPORT_FD BEAT_FD`; the admin API is one. It ends like a
        worker, and is replaced like one, once it has served; an engine whose sidecar cannot start
        does not start either. `accept_loss`: a store that is missing or damaged is moved aside, and
        a new one made. `host` hears of dead letters and states."""
        #: the channel to the program that embeds this engine
        self.host = host
        setup.choose(config.log.format, config.log.level)
        self.datadir = d.DataDir(data_dir)
        self._next_housekeeping = 0.0
        #: publishers' folders that cannot be read
        self._slots: dict[Path, Outage] = {}
        #: signals that came, and what else ends the engine
        self._requests: set[int] = set()
        #: workers were started: a sidecar serves before that, so that a start which fails sends nothing
        self._serves = False
        #: one of the workers serves
        self._ready = False
        #: it was Ctrl-C that ended it
        self.interrupted = False
        #: when the drain, once it has begun, is over
        self._draining_until: float | None = None
        #: the data directory is not there any more
        self._removed = False
        #: why it does not start
        self._failure: FluxhookError | None = None
        with self.datadir.usable():
            if self.datadir.is_new:
                wanted = reservation(config)
                check_room(self.datadir, wanted)
                log.info("the data directory %s takes %s", self.datadir.path, wanted)
        repair = Repair(self.datadir)
        self._lock = lock_engine(self.datadir, repair)
        undo = contextlib.ExitStack()
        undo.callback(self._lock.release)
        try:
            prepared = Preparation(self.datadir, repair, config, worker_count(config))
            self.store = prepared.open_store(accept_loss=accept_loss)
            undo.callback(self.store.close)
            self._open(prepared, config, reload, sidecar)
            books.close(self.datadir.path, repair)
        except BaseException as e:
            if isinstance(e, FluxhookError):
                for loss in repair.losses:
                    log.error("%s", loss)
            undo.close()
            if isinstance(e, OSError):
                raise EngineError(d.unusable(e, self.datadir.path)) from e
            raise

    def _open(
        self,
        prepared: Preparation,
        config: Config,
        reload: Callable[[], Config] | None,
        sidecar: str | None,
    ) -> None:
        datadir, workers, host = self.datadir, worker_count(config), self.host
        self.words = prepared.words
        former = prepared.load_former()
        #: rings are read by other workers than under the engine before this one
        self._moved = former.workers != workers
        self.clock_watch = ClockWatch(self.store, former.clock)
        self.clock = self.clock_watch.clock
        was_away = self.clock_watch.look().away
        self._epoll = select.epoll()
        self._doorbell = d.open_doorbell(datadir.scheduler_doorbell)
        self._epoll.register(self._doorbell, select.EPOLLIN)
        self._children = Children(
            datadir, self._epoll, sidecar, host.fd if host is not None else -1
        )
        self.change_log = ChangeLog(datadir.audit, config, self.clock)
        self.live = LiveConfig(
            datadir,
            self.words,
            self.store,
            self.clock,
            config,
            former,
            self.change_log,
            workers=workers,
            max_event_bytes=prepared.max_event_bytes,
        )
        self.live.start()
        clear_impossible_times(self.words, self.snapshot, self.clock.now_ns())
        self.scheduler = Scheduler(
            datadir, self.store, self.words, self.snapshot, self.clock, self._tell_host
        )
        self.live.on_publish = self.scheduler.configure
        if was_away:
            self.scheduler.spare()
        self.reloading = Reloading(
            reload, datadir, prepared, self.live, self.scheduler, self._children
        )
        changes = Changes(
            self.live.subscriptions,
            self.store,
            self.scheduler,
            self.clock,
            self.live.publish,
            self.change_log,
        )
        self.scheduler.disabling.on_disabled = self._note_disabled
        self.listener = Listener(datadir, changes.apply)
        self._epoll.register(self.listener.fd, select.EPOLLIN)
        self.queue_watch = QueueWatch(datadir)
        self.queue_watch.look(self.snapshot, time.monotonic())
        interval = durability_interval(config.durability)
        self._syncer = Syncer(datadir, interval.seconds) if interval else None

    @property
    def snapshot(self) -> Snapshot:
        """Return the configuration in force."""
        return self.live.snapshot

    # ---- life ------------------------------------------------------------------------------

    def run(
        self,
        *,
        host_fd: int = -1,
        on_start: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve until SIGTERM (or SIGINT, or the host's death), then drain and return. `on_start` is
        called once the sidecar serves and the workers are started, `on_ready` once one of them serves,
        `on_turn` after each turn, at least once in HOUSEKEEPING_S. Raises what keeps the sidecar from
        its first start."""
        self._take_signals()
        self._host_fd, self._on_start, self._on_ready = host_fd, on_start, on_ready
        if host_fd >= 0:
            self._epoll.register(host_fd, select.EPOLLIN)
        self._announce()
        self._catch_up()
        if self._children.sidecar is None:
            self._serve()
        else:
            self._children.want([SIDECAR])
        while self._draining_until is None or self._children.running:
            self._step()
            on_turn()
        self.close()
        if self._removed:
            raise EngineError(f"the data directory {self.datadir.path} was removed or replaced")
        if self._failure is not None:
            raise self._failure

    def _step(self) -> None:
        """Do what is to be done now, then wait for something to happen."""
        now = time.monotonic()
        wake_ns = self.scheduler.step(self.clock.now_ns())
        self.publish_outages()
        if self.host is not None:
            self.host.flush()
        if self._draining_until is None:
            if self._serves and self.reloading.advance(now):
                self._announce()
            self._children.start_due()
            self._look_whether_ready()
            self.housekeep(now)
        elif now >= self._draining_until:
            self._children.kill_all()
        self._children.kill_stuck(now)
        asked = self.listener.busy
        wait_s = 0.0 if asked or self.scheduler.busy else self._wait_s(now, wake_ns)
        for fd, _ in self._epoll.poll(wait_s):
            asked = asked or fd == self.listener.fd
            self._attend(fd)
        if asked:
            self.listener.step()
        self._obey()

    def publish_outages(self) -> None:
        """Say in the shared words what cannot be written now."""
        found = self.scheduler.outages
        if self._syncer is not None and self._syncer.fails:
            found.add("sync")
        if self.change_log.fails:
            found.add("audit")
        if found != self._outages:
            self._outages = found
            self.words.publish_outages(found)

    def _wait_s(self, now: float, wake_ns: int) -> float:
        """Return how long nothing is to be done unless something happens."""
        wait_s = min(HOUSEKEEPING_S, max(0.0, (wake_ns - self.clock.now_ns()) / 1e9))
        wait_s = self._children.wait_s(wait_s, now)
        if self.host is not None and self.host.waits:
            wait_s = min(wait_s, LEAVING_S)
        if self.reloading.under_way or (self._serves and not self._ready):
            wait_s = min(wait_s, LEAVING_S)
        if self._draining_until is not None and now < self._draining_until:
            wait_s = min(wait_s, self._draining_until - now)
        return wait_s

    def _attend(self, fd: int) -> None:
        """Take what has arrived at a descriptor."""
        if fd == self._doorbell:
            d.quiet_doorbell(fd)
        elif fd == self._children.report_fd:
            self._hear_sidecar()
        elif fd == self._host_fd:
            self._epoll.unregister(fd)
            self._requests.add(signal.SIGTERM)
        elif fd != self.listener.fd:
            self._child_ended(fd)

    def _obey(self) -> None:
        """Do what signals have asked for, unless the engine is about to end."""
        # What comes from here on is for the next time.
        requests, self._requests = self._requests, set()
        if self._draining_until is not None:
            return
        if signal.SIGHUP in requests:
            self.reloading.reload()
        if requests & {signal.SIGTERM, signal.SIGINT}:
            timeout_s = self.snapshot.config.shutdown_timeout.seconds
            self._draining_until = time.monotonic() + timeout_s
            self.interrupted = signal.SIGINT in requests
            self.scheduler.stop_feeding()
            self._children.drain()

    def close(self) -> None:
        """Store what the workers reported last, and let the data directory go."""
        self.listener.close()
        self.scheduler.close()
        self.clock_watch.look()
        self.clock_watch.save()
        self.change_log.flush()
        if self._syncer is not None:
            self._syncer.close()
        self.store.close()
        if not self._removed:
            with contextlib.suppress(FileNotFoundError):
                self.datadir.engine_file.unlink()
        self._lock.release()
        if self.host is not None:
            self.host.finish(HOST_S)

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
            "workers": self.live.workers,
            "companion": self._children.sidecar,
        }
        try:
            replace_file(self.datadir.engine_file, json.dumps(said).encode(), sync=False)
        except OSError as e:  # it is for people and programs that look; deliveries need it not
            log.warning("%s cannot be written: %s", self.datadir.engine_file, e.strerror)

    def _tell_host(self, message: DeadLetter | EndpointStateChange) -> None:
        if self.host is not None:
            self.host.send(message)

    def _catch_up(self) -> None:
        """Apply what workers of an engine before this one reported, where their rings are others' now:
        what they handed to the store comes before what is still in their rings."""
        until = time.monotonic() + PATIENCE_S
        while self._moved and not self.scheduler.caught_up and time.monotonic() < until:
            self.scheduler.step(self.clock.now_ns())
            if not self.scheduler.busy:
                time.sleep(LEAVING_S)  # the disk fails

    # ---- children --------------------------------------------------------------------------

    def _serve(self) -> None:
        self._serves = True
        self._children.want(range(self.live.workers))
        self._children.start_due()
        self._on_start()

    def _look_whether_ready(self) -> None:
        if self._serves and not self._ready:
            locks = map(self.datadir.serving, range(self.live.workers))
            self._ready = any(map(d.is_locked, locks))
            if self._ready:
                self._on_ready()

    def _hear_sidecar(self) -> None:
        said = self._children.hear_sidecar()
        if isinstance(said, FluxhookError) and self._serves:
            log.error("%s cannot serve: %s", self._children.sidecar, said)
        elif isinstance(said, FluxhookError):
            self._failure = said
        elif said and not self._serves and self._draining_until is None:
            self._serve()

    def _child_ended(self, pidfd: int) -> None:
        if self._children.index(pidfd) == SIDECAR and self._children.report_fd >= 0:
            self._hear_sidecar()
        end = self._children.end(pidfd)
        if end.index != SIDECAR:
            self.scheduler.worker_lost(end.index, by_own_fault=end.by_own_fault)
        if self._draining_until is not None or end.index in self.reloading.leavers:
            return
        if self._serves:
            self._children.replace(end)
            if end.index != SIDECAR:
                self.words.count_restart()
            return
        self._failure = self._failure or EngineError(
            f"{self._children.sidecar} ended with status {end.status} before it served; its log "
            "says why"
        )
        self._requests.add(signal.SIGTERM)

    # ---- housekeeping ----------------------------------------------------------------------

    def housekeep(self, now: float) -> None:
        """Do what is due every HOUSEKEEPING_S; `now` is in seconds of the monotonic clock."""
        if now < self._next_housekeeping:
            return
        self._next_housekeeping = now + HOUSEKEEPING_S
        look = self.clock_watch.look()
        if look.stepped:
            self.live.stale = True
        if look.away:
            self.scheduler.spare()
        if now >= self.clock_watch.save_at:
            self.clock_watch.save()
        if not self._lock.is_at(self.datadir.engine_lock):
            self._notice_removal()
            return
        for slot in self.datadir.publisher_slots():
            outage = self._slots.setdefault(slot, Outage(f"{slot} can be read again"))
            try:
                recover_slot(slot)
            except (OSError, shared.LayoutMismatch) as e:
                outage.failed(f"{e}; the next start saves what can be saved")
            else:
                outage.worked()
        self.queue_watch.look(self.snapshot, now)
        self.live.refresh(now, disabled=self.scheduler.take_disabled())
        self.change_log.flush()

    def _note_disabled(self, name: str, reason: str) -> None:
        self.change_log.note(
            ENGINE, "webhook.disable", target=name, endpoint=name,
            before={"disabled": False}, after={"disabled": reason},
        )  # fmt: skip

    def _notice_removal(self) -> None:
        """End the engine if its directory was removed. The files are still mapped, so that what is
        in them can be delivered. Publishers find out as they look for the configuration at their
        next event."""
        if not self._removed:
            self._removed = True
            log.error(
                "the data directory %s was removed or replaced under this engine: what its files hold "
                "is delivered as far as that goes now, the rest is lost, and the engine ends",
                self.datadir.path,
            )
            self.words.spoil_version()
            self._requests.add(signal.SIGTERM)


def durability_interval(durability: str) -> Duration | None:
    """Return the interval of `interval:<duration>`."""
    kind, _, interval = durability.partition(":")
    return Duration.parse(interval) if kind == "interval" else None


def embedded_main(
    data_dir: str, host_fd: int, *, ready_fd: int, host: HostChannel | None = None
) -> None:
    """Run a supervisor that a host process started: its configuration comes on standard input, and it
    reports on `ready_fd` that it serves or why it cannot."""
    try:
        config = codec.decode(sys.stdin.buffer.read(), Config)
        supervisor = Supervisor(data_dir, config, host=host)
    except FluxhookError as e:
        tell(ready_fd, e)
        raise SystemExit(1) from None
    try:
        supervisor.run(host_fd=host_fd, on_start=lambda: tell(ready_fd))
    except FluxhookError as e:
        log.error("%s", e)
        raise SystemExit(1) from None
