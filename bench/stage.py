"""An engine with host programs beside it, and what a load costs each of its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self, get_type_hints

from bench.machine import Cores, children, cpu_ns, memory_mb, pin, sockets
from bench.measure import Figures
from bench.programs.host import SHARES, event_type
from bench.receiver import Nginx, Program, Receiver
from bench.rows import Load, http2_option
from fluxhook import Aggregate, Breaker, Config, Duration, Endpoint, Engine, Retry, Tls
from fluxhook._native.shared import Counters
from fluxhook.store import ReadStore
from fluxhook.transport import datadir as d
from fluxhook.transport.snapshot import Snapshot

#: how long nothing at all may happen
STALL_S = 20.0
POLL_S = 0.005
#: how often the store is asked what was delivered by way of it
STORE_POLL_S = 0.1
A_DAY = Duration.parse("24h")
#: events before the first that counts: connections, caches, the ring's pages
WARM_UP = 4000


def configuration(load: Load, urls: list[str], ca: Path | None = None) -> Config:
    """Return a configuration with everything at its default but what the load asks for. `newest`, so
    that a full queue refuses the host, which waits then, and nothing is ever dropped."""
    types = tuple(event_type(n) for n in range(load.endpoints))
    pause = Duration(int(load.retry_s * 1e9))
    options = (http2_option() or {}) if load.http2 else {}
    if load.batch:
        options["batch"] = get_type_hints(Endpoint)["batch"](max_events=load.batch)
    if load.compression != "none":
        options["compression"] = load.compression
    return Config(
        endpoints=tuple(
            Endpoint(
                name=f"endpoint {n}",
                url=urls[n],
                events=(types[n],),
                secrets=("k" * 32,),
                concurrency=max(1, load.in_flight // load.endpoints),
                timeout=Duration.parse("20s"),
                retry=Retry(initial_interval=pause, max_interval=pause, max_attempts=1000),
                circuit_breaker=Breaker(failure_threshold=1_000_000),
                tls=Tls(ca=str(ca)) if load.tls else Tls(),
                # By default an endpoint aggregates the gateway's failures, and nothing here is one.
                aggregate=Aggregate(window=A_DAY, types=types) if load.aggregate else Aggregate(),
                **options,
            )
            for n in range(load.endpoints)
        ),
        workers=load.workers,
        drop_policy="newest",
        durability=load.durability,
        event_types=types,
        gateway_node="bench",
        allow_networks=("127.0.0.0/8",),
    )


class Stage:
    """One engine on a fresh data directory, and `publishers` hosts that are attached to it."""

    def __init__(
        self,
        load: Load,
        cores: Cores,
        receiver: Receiver,
        ca: Path | None = None,
        engine_cores: frozenset[int] | None = None,
    ) -> None:
        """Start an engine. `engine_cores`: for the engine alone, where it is not to run beside the
        hosts."""
        host_cores = cores.engine - (engine_cores or frozenset()) or cores.engine
        self.load, self._receiver = load, receiver
        self.data_dir = Path(tempfile.mkdtemp(prefix="fluxhook-bench-"))
        self._datadir = d.DataDir(self.data_dir)
        self._hosts: list[Program] = []
        self._store: ReadStore | None = None
        self._engine = Engine(configuration(load, receiver.urls(load), ca), self.data_dir)
        pin(0, engine_cores or cores.engine)  # what is started now inherits it
        try:
            self._engine.start()
            pin(0, host_cores)
            host = str(self.data_dir), str(load.endpoints), str(load.payload)
            for _ in range(load.publishers):
                self._hosts.append(Program("host", *host))
        except BaseException:
            self.close()
            raise
        finally:
            pin(0, cores.receiver)
        self._supervisor = json.loads(self._datadir.engine_file.read_text())["pid"]
        _until(lambda: len(children(self._supervisor)) == load.workers)
        self.workers = children(self._supervisor)
        self._ids = sorted(Snapshot.load(self._datadir).ids.values())
        self._words = self._datadir.open_words()
        folders = self._datadir.worker_folders()
        self._counters = [Counters(str(f / "counters"), writable=False) for f in folders]
        self._store = ReadStore.open(self._datadir.store)
        self._ask_store_at = 0.0
        self._requests_before = receiver.requests()

    # ---- loads -----------------------------------------------------------------------------

    def deliver(self, count: int) -> Figures:
        """Emit events that are all delivered, failed attempts and retries included."""
        accepted, requests, failed = self.accepted(), self._receiver.requests(), self.failed()
        stored, target = self._by_store(), self._delivered() + count
        spent = self._spent()
        begun = time.perf_counter()
        self._emit(count)
        _until(lambda: self._delivered() == target, self._delivered)
        seconds = time.perf_counter() - begun
        figures = self._cost(spent, count) | self._reports(count)
        figures["cpu"] = figures["host"] + figures["worker"] + figures["scheduler"]
        figures["rate"] = count / seconds
        figures["by store"] = (self._by_store() - stored) / count * 100
        attempts = count + self.failed() - failed
        figures["attempts"] = attempts / count
        return figures | self._books(accepted + count, requests + attempts)

    def fail(self, count: int, nginx: Nginx) -> Figures:
        """Emit events that fail once, wait in the store, and are delivered by their second attempt."""
        nginx.recover(False)
        accepted, requests, failed = self.accepted(), nginx.requests(), self.failed()
        spent, size = self._spent(), self._store_bytes()
        begun = time.perf_counter()
        self._emit(count)
        # Some may be spilled to the store before their first attempt; they count when they failed.
        _until(
            lambda: self.failed() - failed >= count and self._stored() == count,
            lambda: (self.failed(), self._stored()),
        )
        ended = time.perf_counter()
        figures = self._cost(spent, count) | self._reports(count)
        figures["rate"] = count / (ended - begun)
        figures["stored_bytes"] = (self._store_bytes() - size) / count
        nginx.recover(True)
        os.kill(self._supervisor, signal.SIGSTOP)  # until all are due: else the clock sets the pace
        try:
            time.sleep(self.load.retry_s)
        finally:
            os.kill(self._supervisor, signal.SIGCONT)
        spent = self._spent()
        begun = time.perf_counter()
        _until(lambda: self._stored() == 0, self._stored)
        figures["retry.rate"] = count / (time.perf_counter() - begun)
        figures |= {f"retry.{name}": value for name, value in self._cost(spent, count).items()}
        attempts = count + self.failed() - failed
        figures["attempts"] = attempts / count
        return figures | self._books(accepted + count, requests + attempts)

    def aggregate(self, count: int) -> Figures:
        """Emit events that go into a window by way of scheduler and store, and are never sent."""
        aggregated = self._aggregated() + count
        spent = self._spent()
        begun = time.perf_counter()
        self._emit(count)
        _until(lambda: self._aggregated() == aggregated, self._aggregated)
        seconds = time.perf_counter() - begun
        figures = self._cost(spent, count) | self._reports(count)
        figures["rate"] = count / seconds
        endpoints = self._engine.stats().endpoints
        figures["lost"] = sum(abs(e.balance) + e.delivered + e.dead for e in endpoints)
        figures["surplus"] = abs(self._receiver.requests() - self._requests_before)
        return figures

    def warm_up(self) -> None:
        width = max(self.load.in_flight, self.load.endpoints)
        if self.load.aggregate:
            self.aggregate(WARM_UP)
        elif self.load.slow:
            self.deliver(2 * width)
        elif self.load.durability == "power":  # each event waits for the disk
            self.deliver(10 * width)
        else:
            self.deliver(max(WARM_UP, 4 * width))

    def settled(self) -> Figures:
        """Wait until nothing is pending of any host, and balance the books of all that this engine
        ever accepted."""
        _until(lambda: self._engine.stats().pending == 0, self._delivered)
        accepted = self.accepted()
        return self._books(accepted, accepted + self.failed() + self._requests_before)

    # ---- what was measured -----------------------------------------------------------------

    def connections(self) -> int:
        """Return the number of sockets that the workers have open."""
        return sum(map(sockets, self.workers))

    def failed(self) -> int:
        """Return the number of attempts that failed."""
        return self._sum(d.FAILED)

    def processes(self) -> dict[str, list[int]]:
        return {
            **({"host": [host.pid for host in self._hosts]} if self._hosts else {}),
            "worker": self.workers,
            "scheduler": [self._supervisor],
        }

    def memory(self) -> dict[str, dict[str, float]]:
        """Return the megabytes of each process; of several of a kind the largest."""
        return {
            role: max((memory_mb(pid) for pid in pids), key=lambda mb: mb["rss"])
            for role, pids in self.processes().items()
        }

    def _emit(self, count: int) -> None:
        share, rest = divmod(count, len(self._hosts))
        for n, host in enumerate(self._hosts):
            host.tell(emit=share + (n < rest))

    def _reports(self, count: int) -> Figures:
        """Return what the hosts measured; the slowest of several counts. To be asked for when all is
        delivered: sorting a million latencies costs the workers' core a second."""
        reports = []
        for host in self._hosts:
            host.hear()
            host.tell(report=True)
            reports.append(host.hear())
        latencies: list[list[float]] = [report["emit_us"] for report in reports]
        figures = {
            f"emit.p{share * 100:g}": max(each)
            for share, *each in zip(SHARES, *latencies, strict=True)
        }
        figures["host"] = sum(report["cpu_ns"] for report in reports) / 1000 / count
        return figures

    def _spent(self) -> dict[str, int]:
        return {
            "worker": sum(map(cpu_ns, self.workers)),
            "scheduler": cpu_ns(self._supervisor),
            "receiver": cpu_ns(self._receiver.pid),
        }

    def _cost(self, before: dict[str, int], count: int) -> Figures:
        """Return CPU microseconds for each of `count` deliveries since `before`."""
        return {name: (ns - before[name]) / 1000 / count for name, ns in self._spent().items()}

    def _books(self, accepted: int, requests: int) -> Figures:
        """Return what must be 0: events that were accepted and not delivered, or given up; and
        requests that the receiver had beyond those that were made, or lacks."""
        endpoints = self._engine.stats().endpoints
        delivered = sum(endpoint.delivered for endpoint in endpoints)
        ended = sum(endpoint.dead + sum(endpoint.dropped.values()) for endpoint in endpoints)
        return {
            "lost": abs(accepted - delivered) + ended,
            "surplus": abs(self._receiver.requests() - requests),
        }

    def accepted(self) -> int:
        return sum(endpoint.accepted for endpoint in self._engine.stats().endpoints)

    def _sum(self, field: int) -> int:
        return sum(counters.get(id, field) for counters in self._counters for id in self._ids)

    def _delivered(self) -> int:
        """Return what was counted by the workers, and by the scheduler, which is asked less often."""
        if time.monotonic() >= self._ask_store_at:
            self._by_store()
        return self._sum(d.DELIVERED) + self._delivered_by_store

    def _by_store(self) -> int:
        """Return what was delivered after it was spilled: under pressure the store relieves the
        ring."""
        self._ask_store_at = time.monotonic() + STORE_POLL_S
        assert self._store is not None
        counted = self._store.counters().values()
        self._delivered_by_store = sum(c.get("delivered", 0) for c in counted)
        return self._delivered_by_store

    def _aggregated(self) -> int:
        assert self._store is not None
        return sum(c.get("aggregated", 0) for c in self._store.counters().values())

    def _store_bytes(self) -> int:
        """Return the size of the pages of the database that are in use."""
        with closing(sqlite3.connect(f"file:{self._datadir.store}?mode=ro", uri=True)) as db:
            used, free, size = (
                db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((used - free) * size)

    def _stored(self) -> int:
        return sum(self._words.load(id, d.STORED) for id in self._ids)

    # ---- life ------------------------------------------------------------------------------

    def close(self) -> None:
        for host in self._hosts:
            host.close()
        self._engine.close()
        if self._store is not None:
            self._store.close()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _until(condition: Callable[[], bool], progress: Callable[[], object] = lambda: None) -> None:
    """Wait for a condition; end the benchmark if nothing happens at all for STALL_S."""
    seen, since = progress(), time.monotonic()
    while not condition():
        time.sleep(POLL_S)
        now = progress()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALL_S:
            sys.exit(f"bench: nothing happened for {STALL_S:g} s at {seen}; something was lost")
