"""What `fluxhook bench` does to an engine, and what it measures of it."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from fluxhook.cli.bench_receiver import Report, event_id
from fluxhook.cli.demo_receiver import percentiles
from fluxhook.config.schema import Config, Endpoint, LogOptions
from fluxhook.config.units import Duration
from fluxhook.engine import Engine
from fluxhook.stats import Stats, read_stats
from fluxhook.transport.datadir import DataDir

__all__ = ["Load", "Result", "Sink", "configuration", "measure"]

#: events that wait for the workers to start and to open their connections
WARM: Final = 64
#: events a second while latencies are measured, and for how long at most: few, so that none waits for
#: another
CALM_RATE, CALM_S = 100, 5.0
#: events that may wait in the rings: enough to keep every connection busy. What is more is refused.
QUEUE_SIZE: Final = 4096
#: events that may wait in all, the store included, and how often that is looked at
MOST_PENDING: Final = 4 * QUEUE_SIZE
LOOK_S: Final = 0.2
#: how long what was accepted may take to arrive in the end
SETTLE_S: Final = 30.0


class Sink(Protocol):
    """What counts arrivals: the built-in receiver."""

    def report(self) -> Report: ...


class Result(msgspec.Struct):
    """Figures of one run. Latencies are milliseconds from the call of `emit` until the receiver had the
    request, at CALM_RATE; of a URL they are those of the requests, without the way to the worker, and
    under the whole load."""

    seconds: float
    endpoints: int
    payload_bytes: int
    workers: int
    events_per_s: float
    #: microseconds in `emit` for each event that was accepted, and of the supervisor and its workers
    #: for each that was delivered; None where none was
    emit_cpu_us: float | None
    engine_cpu_us: float | None
    latency_ms: dict[str, float]
    accepted: int
    delivered: int
    failed_attempts: int
    dead: int
    dropped: int
    #: neither when the time was over: they failed, and would be tried again
    pending: int
    #: what is in none of these counts, or was delivered and never arrived
    lost: int
    #: requests beyond the first for an event; None without the built-in receiver
    duplicates: int | None


def configuration(
    url: str, endpoints: int, workers: int | None, networks: tuple[str, ...]
) -> Config:
    """Return a configuration in which each event goes to one of the endpoints, signed."""
    options: dict[str, Any] = {} if workers is None else {"workers": workers}
    return Config(
        log=LogOptions(level="error"),
        endpoints=tuple(
            Endpoint(name=f"bench-{i}", url=url, secrets=("benchmark",), events=(_type(i),))
            for i in range(endpoints)
        ),
        event_types=tuple(_type(i) for i in range(endpoints)),
        queue_size=QUEUE_SIZE,
        drop_policy="newest",
        shutdown_timeout=Duration.parse("5s"),
        allow_networks=networks,
        max_endpoints=max(64, endpoints),
        **options,
    )


def _type(endpoint: int) -> str:
    return f"bench.endpoint_{endpoint}"


class Load:
    """Emits to the endpoints in turn."""

    def __init__(self, engine: Engine, endpoints: int, payload_bytes: int) -> None:
        self.accepted = 0
        #: CPU seconds in `emit`
        self.cpu_s = 0.0
        self._engine = engine
        self._types = itertools.cycle([_type(i) for i in range(endpoints)])
        self._data = {"text": "x" * payload_bytes}
        self._sequence = itertools.count()

    def emit(self, n: int, *, timed: bool = False) -> bool:
        """Emit so many; False as soon as one is refused, because the queue is full."""
        emit, data, accepted = self._engine.emit, self._data, 0
        begun_s = time.thread_time()
        for type in itertools.islice(self._types, n):
            if not emit(type, data, event_id=event_id(next(self._sequence), timed=timed)):
                break
            accepted += 1
        if accepted:
            self.cpu_s += time.thread_time() - begun_s
            self.accepted += accepted
        return accepted == n


class _Moment(NamedTuple):
    at_s: float
    accepted: int
    delivered: int
    emit_cpu_s: float
    engine_cpu_s: float


def measure(
    engine: Engine, seconds: float, endpoints: int, payload_bytes: int, sink: Sink | None
) -> Result:
    """Warm up, measure latencies in a calm, throughput in a flood, and wait for what is on its way.

    The engine is closed then: while it runs, an event that moves may be in two counts.
    """
    load = Load(engine, endpoints, payload_bytes)
    load.emit(max(WARM, endpoints))
    _wait_until_delivered(engine)
    if sink is not None:
        _calm(load, min(CALM_S, seconds))
        _wait_until_delivered(engine)
    begin, end = _flood(engine, load, seconds)
    _wait_until_delivered(engine)
    workers = engine.stats().serving or 0
    engine.close()
    stats = read_stats(engine.data_dir)
    sums = _sums(stats)
    accepted, delivered = end.accepted - begin.accepted, end.delivered - begin.delivered
    report = sink.report() if sink is not None else None
    if report is None:
        latency_ms = _request_latency_ms(stats)
        arrived = sums["delivered"]
    else:
        latency_ms = percentiles(report.latencies_ms)
        arrived = min(report.events, sums["delivered"])
    return Result(
        seconds=end.at_s - begin.at_s,
        endpoints=endpoints,
        payload_bytes=payload_bytes,
        workers=workers,
        events_per_s=delivered / (end.at_s - begin.at_s),
        emit_cpu_us=_share_us(end.emit_cpu_s - begin.emit_cpu_s, accepted),
        engine_cpu_us=_share_us(end.engine_cpu_s - begin.engine_cpu_s, delivered),
        latency_ms={name: latency_ms[name] for name in ("p50", "p99") if name in latency_ms},
        accepted=load.accepted,
        delivered=sums["delivered"],
        failed_attempts=sums["failed_attempts"],
        dead=sums["dead"],
        dropped=sums["dropped"],
        pending=stats.pending,
        lost=load.accepted - arrived - sums["dead"] - sums["dropped"] - stats.pending,
        duplicates=None if report is None else report.requests - report.events,
    )


def _share_us(cpu_s: float, events: int) -> float | None:
    return cpu_s / events * 1e6 if events else None


def _calm(load: Load, seconds: float) -> None:
    begin_s = time.monotonic()
    for n in range(int(seconds * CALM_RATE)):
        time.sleep(max(0.0, begin_s + n / CALM_RATE - time.monotonic()))
        load.emit(1, timed=True)


def _flood(engine: Engine, load: Load, seconds: float) -> tuple[_Moment, _Moment]:
    begin = _moment(engine, load)
    now_s, ends_s, look_s = begin.at_s, begin.at_s + seconds, 0.0
    while now_s < ends_s:
        if now_s >= look_s:
            # What fails leaves the queue for the store, which would grow without end.
            while engine.stats().pending > MOST_PENDING and time.monotonic() < ends_s:
                time.sleep(0.01)
            look_s = time.monotonic() + LOOK_S
        if not load.emit(256):
            time.sleep(0.001)
        now_s = time.monotonic()
    return begin, _moment(engine, load)


def _wait_until_delivered(engine: Engine) -> None:
    ends_s = time.monotonic() + SETTLE_S
    while engine.stats().pending and time.monotonic() < ends_s:
        time.sleep(0.02)


def _moment(engine: Engine, load: Load) -> _Moment:
    delivered = _sums(engine.stats())["delivered"]
    return _Moment(time.monotonic(), load.accepted, delivered, load.cpu_s, _engine_cpu_s(engine))


def _sums(stats: Stats) -> dict[str, int]:
    """Return figures of all endpoints together."""
    of = list(stats.endpoints)
    return {
        "delivered": sum(e.delivered for e in of),
        "failed_attempts": sum(e.failed_attempts for e in of),
        "dead": sum(e.dead for e in of),
        "dropped": sum(sum(e.dropped.values()) for e in of),
    }


def _request_latency_ms(stats: Stats) -> dict[str, float]:
    """Return the slowest of the endpoints' percentiles."""
    found: dict[str, float] = {}
    for endpoint in stats.endpoints:
        for name, value in (endpoint.latency_ms or {}).items():
            found[name] = max(value, found.get(name, 0.0))
    return found


def _engine_cpu_s(engine: Engine) -> float:
    """Return the CPU seconds of the supervisor and its children (utime and stime in proc(5)), as long
    as none of them has ended."""
    supervisor = msgspec.json.decode(DataDir(engine.data_dir).engine_file.read_bytes())["pid"]
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = folder.joinpath("stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if str(supervisor) in (folder.name, fields[1]):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
