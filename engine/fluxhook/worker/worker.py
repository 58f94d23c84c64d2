"""A worker process: takes records from its rings, sends them, settles what came of it.

One thread, one loop. Each round: look for a new configuration, take records, start what may go, wait
for sockets or the doorbell, settle what finished. What is decided about a delivery is in
`dispatcher`.
"""

from __future__ import annotations

import gc
import os
import resource
import signal

from fluxhook._native.ring import Consumer, Producer, RingDelivery, recover
from fluxhook._native.shared import Counters, LayoutMismatch
from fluxhook.errors import EngineError
from fluxhook.logs import setup
from fluxhook.logs.log import Log
from fluxhook.policy.egress import EgressPolicy
from fluxhook.transport import datadir as d
from fluxhook.transport import process
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.heartbeat import Heartbeat
from fluxhook.transport.snapshot import Snapshot
from fluxhook.worker.adaptive_polling import LOOK_S, AdaptivePolling
from fluxhook.worker.dispatcher import BACKLOG, Dispatcher
from fluxhook.worker.reporter import Reporter
from fluxhook.worker.stage_timings import StageTimings

__all__ = ["Worker", "main"]

log = Log("worker")

#: records taken from one ring in one round; fewer, but for these, from one that has little room
TAKE_BATCH, TAKE_LEAST = 256, 32
#: the longest wait; it covers a publisher that was killed between publishing and ringing
IDLE_WAIT_S = 0.25
#: where what was taken keeps more than this share of a ring's queue from use, or more than this share
#: of the ring is full, what is held up leaves it for the store
PRESSURE = 0.5
#: new objects before the collector looks through the youngest
GARBAGE = 20_000
#: how often rings are looked at for that
RELIEF_INTERVAL_NS = 5_000_000


class Worker:
    """Everything a worker process holds. `control_fd` is a pipe whose other end the supervisor
    holds: it reads as ended when the supervisor is dead, and then the worker leaves at once, since
    whatever is unsettled stays in the files.

    `dispatcher` decides about the deliveries that are at hand. `reporter` hands them over to the
    scheduler, `inbox` has what that hands out, and `doorbell` is readable when either has rung.
    `lock` is held by the process that has this worker's part."""

    def __init__(
        self,
        path: str,
        index: int,
        control_fd: int,
        heartbeat: Heartbeat | None = None,
        *,
        wary: bool = False,
    ) -> None:
        """Open the rings; `wary`: the worker before ended by a fault of its own, perhaps at an event
        that it had."""
        self.index = index
        self._datadir = d.DataDir(path)
        own = self._datadir.worker(index)
        # An engine that started meanwhile has seen the lock free, and takes this worker's part itself.
        self.lock = process.wait_for_lock(own / "lock", alive_fd=control_fd)
        self._words = self._datadir.open_words()
        self._engine_row = EngineWords(self._words).engine_row
        self._counters = Counters(str(own / "counters"), 0, d.WORKER_FIELDS, writable=True)
        histograms = Counters(str(own / "stages"), 0, d.STAGE_FIELDS, writable=True)
        self._snapshot = Snapshot.load(self._datadir)
        outbox = Producer(
            str(own / "outbox.ring"),
            doorbell=d.open_doorbell(self._datadir.scheduler_doorbell),
            sync=self._snapshot.config.durability == "power",
        )
        self._clock = EngineClock(self._snapshot.clock)
        self.reporter = Reporter(outbox, self._counters, index, self._clock)
        self.inbox = Consumer(str(own / "inbox.ring"))
        self._rings: dict[str, Consumer] = {}
        self._polled: list[tuple[Consumer, AdaptivePolling]] = []
        self._rings_version = -1
        self._egress = EgressPolicy(self._snapshot.config.allow_networks)
        self.dispatcher = Dispatcher(
            self._words,
            self._counters,
            StageTimings(self._counters, histograms, self._clock),
            self.reporter,
            index,
            lambda a: self._egress.judge(a),
            self._clock,
        )
        self._senders = self.dispatcher.senders
        self._sender = self._senders.main
        self.doorbell = d.open_doorbell(self._datadir.doorbell(index))
        self._control_fd = control_fd
        self._heartbeat = heartbeat or Heartbeat()
        self._sender.watch(self.doorbell)
        self._sender.watch(control_fd)
        self._next_relief_ns = 0
        #: damaged records that were reported, by ring; the version of a snapshot that cannot be read
        self._told: dict[str, int] = {}
        self._unreadable = -1
        self._drain_marks: list[tuple[Consumer, int]] | None = None
        #: nothing more is begun: other workers go on with what is not
        self._leaving = False
        suspects = self._find_rings(first=True, wary=wary)
        self._configure()
        self.dispatcher.suspect(*suspects, self._clock.now_ns())

    def run(self) -> None:
        """Serve until a drain is done or the supervisor is gone."""
        dispatcher, sender, clock = self.dispatcher, self._sender, self._clock
        beat = self._heartbeat.beat
        self._serving = process.wait_for_lock(self._datadir.serving(self.index))
        while True:
            beat()
            self._refresh()
            now_ns = clock.now_ns()
            took = not self._leaving and self.take(now_ns)
            wake_ns = 0 if self._leaving else dispatcher.send(now_ns)
            if self._drained():
                return
            wait_s = 0.0 if took else self.wait_s(now_ns, wake_ns)
            finished = sender.step(self._senders.wait_s(wait_s))
            # Before anything else, or who leaves now would have these repeated.
            dispatcher.collect(finished, clock.now_ns())
            self.reporter.flush()
            for fd in sender.fired:
                if fd == self.doorbell:
                    d.quiet_doorbell(fd)
                elif fd == self._control_fd:
                    asked = os.read(fd, 1)
                    if not asked:
                        return
                    if asked == process.LEAVE:
                        self._leaving = True
                        dispatcher.abandon()
                    else:
                        self._drain()

    def _drain(self) -> None:
        """Have `run` return once what stands in the rings now is settled or stored."""
        self._find_rings()
        self.dispatcher.draining = True
        self._drain_marks = [(r, r.tail) for r in (self.inbox, *self._rings.values())]

    def close(self) -> None:
        self._senders.close()

    def _refresh(self) -> None:
        version = self._words.load(self._engine_row, d.VERSION)
        if version not in (self._snapshot.version, self._unreadable):
            self._reload(version)
        if self._words.load(self._engine_row, d.RINGS) != self._rings_version:
            self._find_rings()

    def _reload(self, version: int) -> None:
        allowed, workers = self._snapshot.config.allow_networks, self._snapshot.workers
        try:
            self._snapshot = Snapshot.load(self._datadir)
        except EngineError as e:  # what is at hand is sent as it would have been
            self._unreadable = version
            log.error("the former configuration stays: %s", e, event="config_refused")
        else:
            self._clock.known = self._snapshot.clock
            if self._snapshot.workers != workers:
                self._rings_version = -1  # it may have rings of others now
            if self._snapshot.config.allow_networks != allowed:
                self._egress = EgressPolicy(self._snapshot.config.allow_networks)
                self._senders.rejudge()
            self._configure()

    def _configure(self) -> None:
        snapshot = self._snapshot
        setup.choose(snapshot.config.log.format, snapshot.config.log.level)
        endpoints = snapshot.endpoints()
        for endpoint_id, endpoint in endpoints.items():
            name = endpoint.name
            self.dispatcher.configure(
                endpoint_id,
                endpoint,
                snapshot.share(endpoint, self.index),
                misconfigured=name in snapshot.held,
                files=snapshot.files.get(name, 0),
            )
        for endpoint_id in self.dispatcher.queues.keys() - endpoints.keys():
            self.dispatcher.remove(endpoint_id)
        self.dispatcher.retire_senders()
        # What is at hand must leave most of a ring to what waits, or it is under pressure for ever.
        self.dispatcher.backlog_limit = max(1, min(BACKLOG, snapshot.ring_queue_size // 4))

    def _find_rings(
        self, *, first: bool = False, wary: bool = False
    ) -> tuple[list[RingDelivery], list[RingDelivery]]:
        """Open the publishers' rings that are this worker's: those of its index, and of indices for
        which the engine has no worker any more. A fresh ring is rewound, since what an earlier
        worker had taken from it waits again.

        Return that, if this worker is `wary`: what came from publishers, and from the scheduler.
        """
        suspects: tuple[list[RingDelivery], list[RingDelivery]] = [], []
        self._rings_version = self._words.load(self._engine_row, d.RINGS)
        if self._words.load(self._engine_row, d.TRACES) == d.TRACED:
            self.dispatcher.carry_traces()
        # One whose file is gone is still mapped, and what is in it can be delivered.
        found = dict(self._rings)
        for slot in self._datadir.publisher_slots():
            for path in slot.glob("*.ring"):
                if int(path.stem) % self._snapshot.workers != self.index:
                    continue
                try:
                    ring = Consumer(str(path))
                except FileNotFoundError:
                    continue  # its publisher replaces it, and tells when it has
                except LayoutMismatch as e:
                    log.error("%s; the next start saves what can be saved", e)
                    continue
                known = self._rings.get(str(path))
                found[str(path)] = known if known and known.uid == ring.uid else ring
        fresh = [ring for path, ring in found.items() if self._rings.get(path) is not ring]
        if first:
            fresh.append(self.inbox)
            recover(self._counters, fresh, self.reporter.outbox)
        for ring in fresh:
            reached = ring.next
            ring.rewind()
            self._told.pop(ring.path, None)
            while wary and ring.next < reached and (taken := ring.take(1)):
                suspects[ring is self.inbox].extend(taken)
        self._rings = found
        self._polled = [(ring, AdaptivePolling()) for ring in found.values()]
        return suspects

    def take(self, now_ns: int) -> bool:
        """Move records from the rings to the queues; False if there was nothing to take."""
        dispatcher = self.dispatcher
        if now_ns >= self._next_relief_ns:
            self._next_relief_ns = now_ns + RELIEF_INTERVAL_NS
            rings = self._rings.values()
            if any(ring.corrupt for ring in rings):
                self._tell_of_damage()
            limit = self._snapshot.ring_queue_size * PRESSURE
            if any(ring.next - ring.head > limit for ring in rings):
                dispatcher.relieve(now_ns, urgent=True)
            elif any(ring.load > PRESSURE for ring in rings):
                dispatcher.relieve(now_ns, urgent=False)
        if not dispatcher.wants_more(now_ns):
            return False
        limit = max(TAKE_LEAST, min(TAKE_BATCH, dispatcher.backlog_limit))
        due = [] if self.reporter.stuck else self.inbox.take(limit)
        batches: list[list[RingDelivery]] = []
        if not self._past_marks():
            for ring, polling in self._polled:
                if taken := ring.take(limit):
                    polling.note(len(taken))
                    batches.append(taken)
        self._refresh()  # these may be for an endpoint of which their sender knew first
        for delivery in due:
            dispatcher.arrive_due(delivery, now_ns)
        if len(batches) > 1:  # one publisher's few do not wait until another's many are made ready
            batches.sort(key=len)
            dispatcher.arrive(batches.pop(0), now_ns)
            dispatcher.send(now_ns)
        for batch in batches:
            dispatcher.arrive(batch, now_ns)
        return bool(due or batches)

    def _tell_of_damage(self) -> None:
        for path, ring in self._rings.items():
            if new := ring.corrupt - self._told.get(path, 0):
                self._told[path] = ring.corrupt
                log.error("%s: %d damaged records in it are lost", path, new)

    def wait_s(self, now_ns: int, wake_ns: int) -> float:
        """Return how long the loop may sleep: not at all if a record came as it said that it sleeps."""
        # Nobody rings when there is room, and what comes while it leaves is not its to take.
        if self.dispatcher.backlog_full or self.reporter.stuck or self._leaving:
            return RELIEF_INTERVAL_NS / 1e9
        longest_s = IDLE_WAIT_S
        for ring, polling in self._polled:
            if polling.busy(now_ns):
                longest_s = LOOK_S
            elif not ring.arm():
                return 0.0
        if not self.inbox.arm():
            return 0.0
        if wake_ns:
            return min(longest_s, max(0.0, (wake_ns - now_ns) / 1e9))
        return longest_s

    def _past_marks(self) -> bool:
        """Return whether all that stood in the rings when the drain began is taken."""
        return self._drain_marks is not None and all(
            ring.next >= mark for ring, mark in self._drain_marks
        )

    def _drained(self) -> bool:
        if self._leaving:
            self.dispatcher.abandon()  # a batch that is to go in halves, say
            return self.dispatcher.idle
        return self._past_marks() and self.dispatcher.idle


def main(path: str, index: int, control_fd: int, wary: int = 0, beat_fd: int = -1) -> None:
    """Run a worker process. Signals are the supervisor's business: a service manager sends SIGTERM
    to all processes at once, and a worker that died of it would not have drained."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a socket for each request under way
    try:
        worker = Worker(path, index, control_fd, Heartbeat(beat_fd), wary=bool(wary))
    except process.Orphaned:
        return
    except (EngineError, LayoutMismatch, OSError) as e:
        log.error("this worker cannot start: %s", e, event="worker_refused")
        raise SystemExit(1) from None
    # What is there now stays, and deliveries are in no cycles: the collector has little to look for.
    gc.freeze()
    gc.set_threshold(GARBAGE)
    try:
        worker.run()
    finally:
        worker.close()
