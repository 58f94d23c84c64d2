"""How each kind of row is measured. An experiment sets up what it needs, and `repeat` measures once.

Whatever it measures against each other takes turns within one repeat, so that a machine that changes
its speed changes it for all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

import msgspec

from bench import contenders, filters
from bench.machine import ROOT, Cores, pin
from bench.measure import Figures, percentile
from bench.programs.host import event_type
from bench.receiver import CountingReceiver, Delay, FirstByte, Nginx, Receiver
from bench.rows import Load, Row
from bench.stage import Stage, configuration
from fluxhook import Config, Engine
from fluxhook._native.topics import Matcher
from fluxhook.transport.datadir import DataDir

__all__ = ["KINDS", "Experiment", "Scene", "make"]

#: of which the memory row takes a sample each
MEMORY_STEPS = 20
#: percentiles that the plots draw, of latencies that this process measured
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


class Scene(NamedTuple):
    """What all rows share."""

    cores: Cores
    nginx: Nginx
    directory: Path
    #: of the events of each row; less than 1 where there is little time
    scale: float = 1.0


class Experiment(Protocol):
    #: events in each repeat, as it turned out
    events: int
    #: contenders that could not take part, and why
    absent: dict[str, str]
    #: what is for plots
    series: dict[str, Any]

    def __init__(self, row: Row, scene: Scene, stack: ExitStack) -> None: ...
    def repeat(self) -> Figures: ...


class _Base:
    #: whether fewer events do where there is little time
    scaled = True

    def __init__(self, row: Row, scene: Scene, stack: ExitStack) -> None:
        self.row, self.scene = row, scene
        self.events = max(20, int(row.events * scene.scale)) if self.scaled else row.events
        self.absent: dict[str, str] = {}
        self.series: dict[str, Any] = {}
        self.prepare(stack)

    def prepare(self, stack: ExitStack) -> None:
        """Start what is to run."""

    def stage(self, load: Load, receiver: Receiver, stack: ExitStack) -> Stage:
        cores = self.scene.cores
        engine_cores = cores.host_apart()[1] if self.row.apart else None
        stage = Stage(load, cores, receiver, self.certificate, engine_cores)
        return stack.enter_context(stage)

    @property
    def certificate(self) -> Path | None:
        return self.scene.nginx.certificate if self.row.load.tls else None

    def receiver(self, stack: ExitStack) -> Receiver:
        load = self.row.load
        if load.slow or load.batch:
            counting = CountingReceiver(
                load.endpoints, slow=load.slow, certificate=self.certificate
            )
            return stack.enter_context(counting)
        return self.scene.nginx


class Deliveries(_Base):
    """Throughput and CPU of the engine beside the contenders of the row."""

    def prepare(self, stack: ExitStack) -> None:
        row = self.row
        self._receiver = self.receiver(stack)
        self._stages = {"engine": self.stage(row.load, self._receiver, stack)}
        if row.against is not None:
            self._stages["against"] = self.stage(row.against, self._receiver, stack)
        for stage in self._stages.values():
            stage.warm_up()
        self._turns = [*row.contenders, *(["against"] if row.against else [])]

    def repeat(self) -> Figures:
        figures: Figures = {}
        for name in self._turns:
            if name in self.absent:
                continue
            try:
                turn = self._turn(name)
            except contenders.Absent as absent:
                self.absent[name] = str(absent)
                continue
            figures |= {f"{name}.{key}": value for key, value in turn.items()}
        return figures | ratios(figures)

    def _turn(self, name: str) -> Figures:
        stage = self._stages.get(name)
        if stage is None:
            load, scene = self.row.load, self.scene
            return contenders.run(
                name, load, self._receiver, scene.cores, self.events, scene.directory
            )
        if not isinstance(self._receiver, CountingReceiver):
            return stage.deliver(self.events)
        seen = self._receiver.distinct()
        figures = stage.deliver(self.events)
        figures["lost"] += abs(self._receiver.distinct() - seen - self.events)
        return figures


def ratios(figures: Figures) -> Figures:
    """Return the CPU of each delivery, within one repeat: ours to the bare loop's, and others' to
    ours."""
    found: Figures = {}
    cpu = figures["engine.cpu"]
    for name in contenders.LABELS:
        if name != "engine" and f"{name}.cpu" in figures:
            found[f"times.{name}"] = figures[f"{name}.cpu"] / cpu
    if "bare.cpu" in figures:
        found["ratio.engine"] = cpu / figures["bare.cpu"]
        found["ratio.worker"] = figures["engine.worker"] / figures["bare.cpu"]
    if "against.cpu" in figures:
        found["ratio.against"] = cpu / figures["against.cpu"]
    return found


class Failures(_Base):
    """Every event goes through scheduler and store once."""

    def prepare(self, stack: ExitStack) -> None:
        self._stage = self.stage(self.row.load, self.scene.nginx, stack)
        self.scene.nginx.recover(True)
        self._stage.warm_up()

    def repeat(self) -> Figures:
        figures = self._stage.fail(self.events, self.scene.nginx)
        return {f"engine.{name}": value for name, value in figures.items()}


class Aggregated(_Base):
    """Every event goes into a window of its endpoint."""

    def prepare(self, stack: ExitStack) -> None:
        self._stage = self.stage(self.row.load, self.scene.nginx, stack)
        self._stage.warm_up()

    def repeat(self) -> Figures:
        figures = self._stage.aggregate(self.events)
        return {f"engine.{name}": value for name, value in figures.items()}


class Idle(_Base):
    """From `emit` in an engine that has nothing else to do to the first byte at the receiver."""

    PAUSE_S = 0.002

    def prepare(self, stack: ExitStack) -> None:
        self._receiver = FirstByte()
        stack.callback(self._receiver.close)
        data_dir = Path(tempfile.mkdtemp(prefix="fluxhook-bench-"))
        stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
        self._engine = Engine(self.configuration(), data_dir)
        pin(0, self.scene.cores.engine)
        try:
            self._engine.start()
        finally:
            pin(0, self.scene.cores.receiver)
        stack.callback(self._engine.close)
        self._delays_us: list[float] = []
        self._measure(20)

    def configuration(self) -> Config:
        return configuration(self.row.load, [self._receiver.url])

    def _measure(self, count: int) -> list[Delay]:
        delays = []
        for _ in range(count):
            time.sleep(self.PAUSE_S)
            delays.append(self._receiver.delay(self._emit))
        return delays

    def _emit(self) -> None:
        self._engine.emit(event_type(0), {"text": "x" * 400})

    def repeat(self) -> Figures:
        delays = sorted(delay.read_ns / 1000 for delay in self._measure(self.events))
        self._delays_us = sorted(self._delays_us + delays)
        self.series["first_byte_us"] = [
            (share * 100, percentile(self._delays_us, share)) for share in SHARES
        ]
        # One at a time, each waited for: what did not arrive would have ended the run.
        return {"p50": percentile(delays, 0.5), "p99": percentile(delays, 0.99), "engine.lost": 0}


class Ingest(Idle):
    """The same with and without clients that post events to the admin API as fast as it takes them,
    to another endpoint. The clients give way, since they stand for such as are not on this machine."""

    def prepare(self, stack: ExitStack) -> None:
        self._urls = self.scene.nginx.urls(self.row.load)
        super().prepare(stack)
        alive, self._end = os.pipe()
        stack.callback(os.close, self._end)
        pin(0, self.scene.cores.engine)
        try:
            admin = subprocess.Popen(
                [
                    *(sys.executable, "-m", "fluxhook.admin", "serve", str(alive)),
                    str(self._engine.data_dir),
                ],
                pass_fds=[alive],
                stderr=subprocess.DEVNULL,
            )
        finally:
            pin(0, self.scene.cores.receiver)
            os.close(alive)
        stack.callback(admin.wait)
        stack.callback(admin.terminate)
        self._admin = admin
        file = DataDir(self._engine.data_dir).admin_file
        _wait(file.exists, admin, "the admin API does not start")
        told = json.loads(file.read_text())
        self._token, self._port = told["token"], told["url"].rpartition(":")[2]

    def configuration(self) -> Config:
        config = configuration(self.row.load, [self._receiver.url, self._urls[1]])
        admin = msgspec.structs.replace(config.admin, listen="127.0.0.1:0", dashboard=False)
        return msgspec.structs.replace(config, admin=admin)

    def repeat(self) -> Figures:
        """Measure half of the events without load before those with it and half after: the machine
        changes its speed."""
        half = self.events // 2
        without = self._measure(half)
        clients = self._post()
        ingested, begun = self._ingested(), time.perf_counter()
        delays = self._measure(self.events)
        rate = (self._ingested() - ingested) / (time.perf_counter() - begun)
        clients.terminate()
        clients.wait()
        _wait(lambda: not self._engine.stats().pending, self._admin, "ingested events stay pending")
        without += self._measure(half)
        books = self._engine.stats().endpoints
        lost = sum(abs(endpoint.accepted - endpoint.delivered) for endpoint in books)
        figures: Figures = {"engine.lost": lost, "ingested": rate}
        for side, found in (("without", without), ("with", delays)):
            for end in ("arrived", "read"):
                us = sorted(getattr(delay, f"{end}_ns") / 1000 for delay in found)
                figures |= {
                    f"{side}.{end}.p{share * 100:g}": percentile(us, share) for share in (0.5, 0.99)
                }
        return figures | {
            name: figures[f"with.{name}"] / figures[f"without.{name}"]
            for name in ("arrived.p50", "arrived.p99", "read.p50", "read.p99")
        }

    def _ingested(self) -> int:
        return self._engine.stats().endpoints[1].accepted

    def _post(self) -> subprocess.Popen[bytes]:
        event = json.dumps({"type": event_type(1), "data": {"text": "x" * 400}})
        target = ("--post", "/v1/events", "--body", event, f"--token={self._token}")
        clients = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.programs.load", "--background"),
                *("--port", self._port, "--requests", "1000000", *target),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        flowing = self._ingested() + 500  # beyond its warming up
        _wait(lambda: self._ingested() >= flowing, clients, "nothing comes by way of the API")
        return clients


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes], failure: str) -> None:
    """Wait for a condition; end the benchmark if it does not come, or the process ends."""
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            sys.exit(f"bench: {failure}")
        time.sleep(0.02)


class HostImpact(_Base):
    """Two equal ASGI applications, one of which emits an event for each request."""

    def prepare(self, stack: ExitStack) -> None:
        load = self.row.load._replace(publishers=0)
        cores = self.scene.cores
        self._host_core, engine_cores = cores.host_apart()
        if self.row.shared:
            engine_cores = self._host_core
        self._stage = stack.enter_context(
            Stage(load, cores, self.scene.nginx, engine_cores=engine_cores)
        )
        self._turns = [
            ("with", self._start(stack, str(self._stage.data_dir))),
            ("without", self._start(stack)),
        ]
        self._requests = 0

    def _start(self, stack: ExitStack, *data_dir: str) -> int:
        pin(0, self._host_core)
        try:
            application = subprocess.Popen(
                [sys.executable, "-m", "bench.programs.asgi", *data_dir],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        finally:
            pin(0, self.scene.cores.receiver)
        stack.callback(application.communicate)
        stack.callback(application.terminate)
        assert application.stdout is not None
        line = application.stdout.readline()
        if not line:
            sys.exit("bench: the ASGI application does not start; what it said stands above")
        return int(json.loads(line)["port"])

    def repeat(self) -> Figures:
        figures: Figures = {}
        self._turns.reverse()  # so that neither always comes first
        for name, port in self._turns:
            self._inside(port)
            result = self._generate(port) | self._inside(port)
            figures |= {f"{name}.{key}": value for key, value in result.items()}
        self._requests += int(figures["with.requests"])
        books = self._stage.settled()
        books["lost"] += abs(self._stage.accepted() - self._requests)
        figures |= {f"engine.{key}": value for key, value in books.items()}
        for share in ("p50", "p99", "p99.9", "inside.p50", "inside.p99", "inside.p99.9"):
            figures[f"ratio.{share}"] = figures[f"with.{share}"] / figures[f"without.{share}"]
        return figures

    def _inside(self, port: int) -> Figures:
        """Return what the application measured since it was last asked."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/report", timeout=10) as answer:
            figures: Figures = json.load(answer)
        return figures

    def _generate(self, port: int) -> Figures:
        command = ["bench.programs.load", "--port", str(port), "--requests", str(self.events)]
        result = subprocess.run(
            [sys.executable, "-m", *command, "--rate", str(self.row.rate)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        if result.returncode:
            sys.exit("bench: the load generator failed; what it said stands above")
        figures: Figures = json.loads(result.stdout)
        return figures


class Memory(_Base):
    """Resident memory of each process while many events go by."""

    def prepare(self, stack: ExitStack) -> None:
        self._stage = self.stage(self.row.load, self.scene.nginx, stack)
        self._stage.warm_up()

    def repeat(self) -> Figures:
        step = self.events // MEMORY_STEPS
        self.events = step * MEMORY_STEPS
        samples: dict[str, list[tuple[int, float, float]]] = {}
        lost = surplus = 0.0
        for number in range(MEMORY_STEPS):
            delivered = self._stage.deliver(step)
            lost += delivered["lost"]
            surplus += delivered["surplus"]
            for role, mb in self._stage.memory().items():
                sample = ((number + 1) * step, mb["rss"], mb["own"])
                samples.setdefault(role, []).append(sample)
        self.series["memory_mb"] = samples
        figures: Figures = {"engine.lost": lost, "engine.surplus": surplus}
        for role, taken in samples.items():
            figures |= {f"{role}.rss": taken[-1][1], f"{role}.own": taken[-1][2]}
            # The first quarter fills pools and caches.
            if self.events >= self.row.events:  # else it says nothing of a million
                figures[f"{role}.growth"] = taken[-1][2] - taken[MEMORY_STEPS // 4][2]
        return figures


class Connections(_Base):
    """What one more open connection costs a worker."""

    scaled = False

    def prepare(self, stack: ExitStack) -> None:
        self._stage = self.stage(self.row.load, self.receiver(stack), stack)

    def repeat(self) -> Figures:
        books = self._stage.deliver(1)
        before, sockets = self._worker_mb(), self._stage.connections()
        for key, value in self._stage.deliver(4 * self.events).items():
            books[key] = books.get(key, 0.0) + value
        opened = self._stage.connections() - sockets
        own_mb = self._worker_mb()
        return {
            "engine.lost": books["lost"],
            "engine.surplus": books["surplus"],
            "opened": opened,
            "one": before,
            "many": own_mb,
            "connection": (own_mb - before) * 1024 / max(1, opened),
        }

    def _worker_mb(self) -> float:
        return self._stage.memory()["worker"]["own"]


class Matching(_Base):
    """One topic filter of 10 and of 10,000 matches; microseconds of a match."""

    scaled = False
    SIZES = (10, 100, 1_000, 10_000, 100_000)
    TOPICS = 1_000

    def prepare(self, stack: ExitStack) -> None:
        self._work = [
            (str(n), Matcher(filters.endpoints(n)), filters.topics(n, self.TOPICS))
            for n in self.SIZES
        ]

    def repeat(self) -> Figures:
        figures: Figures = {}
        with _pinned(self.scene.cores.engine, self.scene.cores.receiver):
            for name, matcher, topics in self._work:
                figures[name] = self._time_us(matcher.match, topics)
        figures["ratio"] = figures["10000"] / figures["10"]
        return figures

    def _time_us(self, match: Callable[[str, str], object], topics: list[str]) -> float:
        rounds, event = [], filters.EVENT
        for _ in range(self.events // self.TOPICS):
            begun = time.perf_counter_ns()
            for topic in topics:
                match(event, topic)
            rounds.append(time.perf_counter_ns() - begun)
        return median(rounds) / 1000 / len(topics)


class SystemCalls(_Base):
    """Counted in the kernel, by perf, for the worker."""

    EVENT = "raw_syscalls:sys_enter"

    def prepare(self, stack: ExitStack) -> None:
        self._stage = self.stage(self.row.load, self.scene.nginx, stack)
        self._stage.warm_up()

    def repeat(self) -> Figures:
        program = shutil.which("perf")
        if program is None:
            self.absent["engine"] = "perf is not installed: apt-get install linux-perf"
            return {}
        pid = str(self._stage.workers[0])
        perf = subprocess.Popen(
            [program, "stat", "-x", ",", "-e", self.EVENT, "-p", pid],
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.1)  # perf does not say when it has begun
        figures = self._stage.deliver(self.events)
        perf.send_signal(signal.SIGINT)
        _, output = perf.communicate()
        books = {f"engine.{key}": figures[key] for key in ("lost", "surplus")}
        count = next((line.split(",")[0] for line in output.splitlines() if self.EVENT in line), "")
        if not count.isdigit():
            self.absent["engine"] = f"perf may not count system calls here: {output.strip()[:100]}"
            return books
        return books | {"calls": int(count) / self.events}


#: by the names that rows have for them
KINDS: dict[str, type[Experiment]] = {
    kind.__name__: kind
    for kind in (
        Deliveries,
        Failures,
        Aggregated,
        Idle,
        Ingest,
        HostImpact,
        Memory,
        Connections,
        Matching,
        SystemCalls,
    )
}


def make(row: Row, scene: Scene, stack: ExitStack) -> Experiment:
    """Make an experiment; what it starts ends with the stack."""
    return KINDS[row.experiment](row, scene, stack)


@contextmanager
def _pinned(cores: frozenset[int], home: frozenset[int]) -> Any:
    pin(0, cores)
    try:
        yield
    finally:
        pin(0, home)
