"""An engine with host programs beside it, and what a load costs each of its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from bench.e2e.host import event_type
from bench.e2e.machine import ROOT, Cores, children, cpu_ns, memory_mb, pin
from bench.e2e.receiver import FirstByte, Nginx

from fluxhook import Breaker, Config, Duration, Endpoint, Engine, Retry, Stats
from fluxhook._native.ring import Counters
from fluxhook.runtime.snapshot import Snapshot
from fluxhook.store import ReadStore
from fluxhook.transport import datadir as d

#: how long nothing at all may happen
STALL_S = 20.0
POLL_S = 0.005
#: how often the store is asked what was delivered by way of it
STORE_POLL_S = 0.1
#: events before the first that counts: connections, caches, the ring's pages
WARM_UP = 5000
#: between an attempt that fails and the next; longer than it takes to fail them all
RETRY_S = 3.0

#: what a run measured, by the names of report.py
Figures = dict[str, float]


class Load(NamedTuple):
    """Who sends what to whom. Events go to the endpoints in turn, each to one."""

    publishers: int
    workers: int
    endpoints: int
    payload: int
    in_flight: int
    durability: str

    def __str__(self) -> str:
        return (
            f"{self.publishers} x {self.workers} x {self.endpoints} (publishers x workers x "
            f"endpoints), {self.payload}-byte bodies, HTTP/1.1 keep-alive, {self.in_flight} in "
            f"flight, durability: {self.durability}"
        )


def configuration(load: Load, urls: list[str]) -> Config:
    """Everything at its default but what the load asks for. `newest`, so that a full queue refuses
    the host, which waits then, and nothing is ever dropped."""
    types = tuple(event_type(n) for n in range(load.endpoints))
    pause = Duration(int(RETRY_S * 1e9))
    return Config(
        endpoints=tuple(
            Endpoint(
                name=f"endpoint {n}",
                url=urls[n],
                events=(types[n],),
                secrets=("k" * 32,),
                concurrency=max(1, load.in_flight // load.endpoints),
                retry=Retry(initial_interval=pause, max_interval=pause, max_attempts=1000),
                circuit_breaker=Breaker(failure_threshold=1_000_000),
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


class _Host:
    """A process of bench.e2e.host."""

    def __init__(self, data_dir: Path, load: Load) -> None:
        command = [sys.executable, "-m", "bench.e2e.host", str(data_dir)]
        self.process = subprocess.Popen(
            [*command, str(load.endpoints), str(load.payload)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self.hear()

    def tell(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench: a host program ended; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:  # it still waits for room
            self.process.kill()
            self.process.communicate()


class Stage:
    """One engine on a fresh data directory, and `publishers` hosts that are attached to it."""

    def __init__(self, load: Load, cores: Cores, nginx: Nginx, path: str = "/") -> None:
        self.load, self._nginx = load, nginx
        self.data_dir = Path(tempfile.mkdtemp(prefix="fluxhook-bench-"))
        self._datadir = d.DataDir(self.data_dir)
        self._hosts: list[_Host] = []
        self._store: ReadStore | None = None
        self._engine = Engine(
            configuration(load, [url + path for url in nginx.urls]), self.data_dir
        )
        pin(0, cores.engine)  # what is started now inherits it
        try:
            self._engine.start()
            self._hosts = [_Host(self.data_dir, load) for _ in range(load.publishers)]
        except BaseException:
            self.close()
            raise
        finally:
            pin(0, cores.receiver)
        self._supervisor = json.loads(self._datadir.engine_file.read_text())["pid"]
        _until(lambda: len(children(self._supervisor)) == load.workers)
        self._workers = children(self._supervisor)
        self._ids = sorted(Snapshot.load(self._datadir).ids.values())
        self._words = self._datadir.open_words()
        folders = self._datadir.worker_folders()
        self._counters = [Counters(str(f / "counters"), writable=False) for f in folders]
        self._store = ReadStore.open(self._datadir.store)
        self._ask_store_at = 0.0

    # ---- loads -----------------------------------------------------------------------------

    def deliver(self, count: int) -> Figures:
        """Events that are all delivered at once."""
        accepted, requests = self._accepted(), self._nginx.requests()
        stored, target = self._by_store(), self._delivered() + count
        spent = self._spent()
        begun = time.perf_counter()
        self._emit(count)
        _until(lambda: self._delivered() == target, self._delivered)
        seconds = time.perf_counter() - begun
        figures = self._cost(spent, count) | self._reports(count)
        figures["rate"] = count / seconds
        figures["by store"] = (self._by_store() - stored) / count * 100
        figures |= self._books(accepted + count, requests + count)
        return figures

    def fail(self, count: int) -> Figures:
        """Events that fail once, wait in the store, and are delivered by their second attempt."""
        self._nginx.recover(False)
        accepted, requests = self._accepted(), self._nginx.requests()
        failed = self._sum(d.FAILED)
        spent = self._spent()
        begun = time.perf_counter()
        self._emit(count)
        # Some may be spilled to the store before their first attempt; they count when they failed.
        _until(
            lambda: self._sum(d.FAILED) - failed >= count and self._stored() == count,
            lambda: (self._sum(d.FAILED), self._stored()),
        )
        ended = time.perf_counter()
        figures = self._cost(spent, count) | self._reports(count)
        figures["rate"] = count / (ended - begun)
        self._nginx.recover(True)
        os.kill(self._supervisor, signal.SIGSTOP)  # until all are due: else the clock sets the pace
        try:
            time.sleep(RETRY_S)
        finally:
            os.kill(self._supervisor, signal.SIGCONT)
        spent = self._spent()
        begun = time.perf_counter()
        _until(lambda: self._stored() == 0, self._stored)
        figures["retry.rate"] = count / (time.perf_counter() - begun)
        figures |= {f"retry.{name}": value for name, value in self._cost(spent, count).items()}
        attempts = count + self._sum(d.FAILED) - failed
        figures["attempts"] = attempts / count
        figures |= self._books(accepted + count, requests + attempts)
        return figures

    def warm_up(self) -> None:
        self.deliver(WARM_UP)

    # ---- what was measured -----------------------------------------------------------------

    def stats(self) -> Stats:
        return self._engine.stats()

    def memory(self) -> dict[str, dict[str, float]]:
        """Megabytes of each process; of several of a kind the largest."""
        roles = {
            "host": [host.pid for host in self._hosts],
            "worker": self._workers,
            "keeper": [self._supervisor],
        }
        return {
            role: max((memory_mb(pid) for pid in pids), key=lambda mb: mb["rss"])
            for role, pids in roles.items()
        }

    def _emit(self, count: int) -> None:
        share, rest = divmod(count, len(self._hosts))
        for n, host in enumerate(self._hosts):
            host.tell(emit=share + (n < rest))

    def _reports(self, count: int) -> Figures:
        """What the hosts measured; the slowest of several counts. To be asked for when all is
        delivered: sorting a million latencies costs the workers' core a second."""
        reports = []
        for host in self._hosts:
            host.hear()
            host.tell(report=True)
            reports.append(host.hear())
        figures = {
            f"emit.{name}": max(report["emit_us"][name] for report in reports)
            for name in reports[0]["emit_us"]
        }
        figures["cpu.host"] = sum(report["cpu_ns"] for report in reports) / 1000 / count
        return figures

    def _spent(self) -> dict[str, int]:
        return {
            "cpu.worker": sum(map(cpu_ns, self._workers)),
            "cpu.keeper": cpu_ns(self._supervisor),
            "cpu.receiver": cpu_ns(self._nginx.pid),
        }

    def _cost(self, before: dict[str, int], count: int) -> Figures:
        """CPU microseconds for each of `count` deliveries since `before`."""
        return {name: (ns - before[name]) / 1000 / count for name, ns in self._spent().items()}

    def _books(self, accepted: int, requests: int) -> Figures:
        """Whether every accepted event was delivered, and every request is one of ours."""
        endpoints = self.stats().endpoints
        delivered = sum(endpoint.delivered for endpoint in endpoints)
        ended = sum(endpoint.dead + sum(endpoint.dropped.values()) for endpoint in endpoints)
        return {
            "lost": accepted - delivered,
            "given up": ended,
            "surplus requests": self._nginx.requests() - requests,
        }

    def _accepted(self) -> int:
        return sum(endpoint.accepted for endpoint in self.stats().endpoints)

    def _sum(self, field: int) -> int:
        return sum(counters.get(id, field) for counters in self._counters for id in self._ids)

    def _delivered(self) -> int:
        """Counted by the workers, and by the keeper, which is asked less often."""
        if time.monotonic() >= self._ask_store_at:
            self._by_store()
        return self._sum(d.DELIVERED) + self._delivered_by_store

    def _by_store(self) -> int:
        """Delivered after they were spilled: under pressure the store relieves the ring."""
        self._ask_store_at = time.monotonic() + STORE_POLL_S
        counted = self._store.counters().values()
        self._delivered_by_store = sum(c.get("delivered", 0) for c in counted)
        return self._delivered_by_store

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


def first_byte(load: Load, cores: Cores, count: int) -> Figures:
    """From `emit` in an engine that has nothing else to do to the first byte at the receiver."""
    load = load._replace(publishers=1, endpoints=1)
    receiver = FirstByte()
    data_dir = Path(tempfile.mkdtemp(prefix="fluxhook-bench-"))
    engine = Engine(configuration(load, [receiver.url]), data_dir)
    pin(0, cores.engine)
    try:
        engine.start()
        pin(0, cores.receiver)
        delays = []
        for n in range(count + 20):
            time.sleep(0.002)
            delay_ns = receiver.time_ns(lambda: engine.emit(event_type(0), {"text": "x" * 400}))
            if n >= 20:
                delays.append(delay_ns / 1000)
    finally:
        engine.close()
        receiver.close()
        shutil.rmtree(data_dir, ignore_errors=True)
    delays.sort()
    return {"p50": delays[count // 2], "p99": delays[count * 99 // 100]}


def _until(condition: Callable[[], bool], progress: Callable[[], object] = lambda: None) -> None:
    """Waits for a condition; ends the benchmark if nothing happens at all for STALL_S."""
    seen, since = progress(), time.monotonic()
    while not condition():
        time.sleep(POLL_S)
        now = progress()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALL_S:
            sys.exit(f"bench: nothing happened for {STALL_S:g} s at {seen}; something was lost")
