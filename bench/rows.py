"""The rows of the benchmark: who sends what to whom, and what is measured of it.

A row is a record. `experiments` knows how to measure one, `report` how to print one, and neither
knows a row by its name but for the targets and the plots that it belongs to.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args, get_type_hints

from fluxhook import Endpoint

__all__ = ["ROWS", "Load", "Row", "rows"]

Reply = Literal["/", "/body", "/flaky", "/one-percent"]


class Load(NamedTuple):
    """Publishers x workers x endpoints; events go to the endpoints in turn, each to one."""

    publishers: int = 1
    workers: int = 1
    endpoints: int = 1
    #: bytes of a body
    payload: int = 600
    #: requests at a time, over all endpoints; at least one for each of them
    in_flight: int = 32
    durability: str = "process"
    #: what the receiver does, as a path of nginx.conf
    reply: Reply = "/"
    #: answers come after 100 ms, give or take 50; from a receiver of our own
    slow: bool = False
    #: events in one request, at most; 0: one request for each
    batch: int = 0
    compression: str = "none"
    tls: bool = False
    http2: bool = False
    #: between an attempt that fails and the next
    retry_s: float = 3.0
    #: every event goes into a window that does not close meanwhile
    aggregate: bool = False

    @property
    def topology(self) -> str:
        return f"{self.publishers} x {self.workers} x {self.endpoints}"

    @property
    def protocol(self) -> str:
        return f"HTTP/{2 if self.http2 else 1.1}{' + TLS' if self.tls else ''}"

    @property
    def answer(self) -> str:
        """The answer of the receiver, for people."""
        if self.slow:
            return "204 after 100 ms"
        return {
            "/": "204",
            "/body": "200, 114 bytes",
            "/flaky": "503, then 204",
            "/one-percent": "1 % 503",
        }[self.reply]


class Row(NamedTuple):
    name: str
    title: str
    load: Load
    #: events in each repeat
    events: int
    #: which class of bench.experiments
    experiment: str = "Deliveries"
    #: in the order of their turns; "engine" is ours
    contenders: tuple[str, ...] = ("engine", "bare")
    #: a second load for the engine, interleaved, as "against"
    against: Load | None = None
    #: the figure whose spread decides whether the repeats were enough
    key: str = "ratio.engine"
    #: repeats that make no sense twice: the row runs once
    once: bool = False
    #: its share of the time, in about seconds
    weight: float = 6.0
    #: options of an endpoint without which the row is left out
    needs: tuple[str, ...] = ()
    #: of a host program: requests a second, 0 for as many as it can answer
    rate: int = 0
    #: of a host program of the experiment HostImpact: whether the engine runs on its own core
    shared: bool = False
    #: of any other: whether it does not
    apart: bool = False


def http2_option() -> dict[str, Any] | None:
    """Return the option by which an endpoint speaks HTTP/2; None while the engine has no such
    option."""
    hints = get_type_hints(Endpoint)
    if "http2" in hints:
        return {"http2": True}
    for choice in get_args(hints.get("http_version", str)):
        if isinstance(choice, str) and choice.startswith("2"):
            return {"http_version": choice}
    return None


MAIN = Load()
ALL = (
    *("engine", "bare", "wrk", "notifier", "notifier-200"),
    *("aiohttp", "pyreqwest", "threads", "httpx"),
)
ROWS = (
    Row("main", "All contenders", MAIN, 40_000, contenders=ALL, weight=33),
    Row(
        "apart",
        "The host on a core of its own",
        MAIN,
        30_000,
        contenders=("engine",),
        key="engine.emit.p50",
        apart=True,
        weight=5,
    ),
    Row("1x2x1", "Two workers", MAIN._replace(workers=2), 30_000),
    *(
        # All on one core: what more workers cost, not what more cores bring.
        Row(f"1x{n}x1", title, MAIN._replace(workers=n), 20_000, against=MAIN)
        for n, title in ((4, "Four workers, one core"), (8, "Eight workers, one core"))
    ),
    Row("4x2x4", "Four publishers", MAIN._replace(publishers=4, workers=2, endpoints=4), 30_000),
    Row(
        "1x2x1000",
        "1,000 endpoints",
        MAIN._replace(workers=2, endpoints=1000),
        20_000,
        against=MAIN._replace(workers=2),
        key="ratio.against",
        weight=9,
    ),
    Row("100B", "100-byte bodies", MAIN._replace(payload=100), 20_000),
    Row("4KiB", "4 KiB bodies", MAIN._replace(payload=4096), 20_000),
    Row("64KiB", "64 KiB bodies", MAIN._replace(payload=65_536), 5_000),
    Row("reply", "Reply with a body", MAIN._replace(reply="/body"), 20_000),
    Row("tls", "TLS", MAIN._replace(tls=True), 20_000),
    Row("http2", "HTTP/2", MAIN._replace(tls=True, http2=True), 20_000),
    *(
        # What bounds these is how many requests may be under way, not the core.
        Row(
            f"slow-{n}",
            f"Slow receiver, {n} x 32 in flight",
            MAIN._replace(slow=True, workers=n, endpoints=8, in_flight=32 * n),
            400 * n,
            contenders=("engine",),
            key="engine.rate",
            weight=4,
        )
        for n in (1, 2, 4, 8)
    ),
    Row(
        "slow",
        "Slow receiver",
        MAIN._replace(slow=True, endpoints=8, in_flight=256),
        3_000,
        weight=10,
    ),
    Row(
        "1%",
        "1 % failing",
        MAIN._replace(reply="/one-percent", retry_s=0.1),
        20_000,
        contenders=("engine",),
        key="engine.cpu",
    ),
    Row(
        "batch",
        "50 events a request",
        MAIN._replace(batch=50),
        60_000,
        contenders=("engine",),
        key="engine.cpu",
        needs=("batch",),
    ),
    Row(
        "gzip",
        "4 KiB bodies, gzip",
        MAIN._replace(payload=4096, compression="gzip"),
        10_000,
        contenders=("engine",),
        key="engine.cpu",
        weight=4,
        needs=("compression",),
    ),
    Row("interval", "durability: interval", MAIN._replace(durability="interval:100ms"), 20_000),
    Row("power", "durability: power", MAIN._replace(durability="power"), 1_000),
    *(
        Row(f"in-flight-{n}", f"{n} in flight", MAIN._replace(in_flight=n), events, weight=4)
        for n, events in ((1, 5_000), (4, 10_000), (8, 15_000), (128, 15_000))
    ),
    *(
        Row(f"endpoints-{n}", f"{n} endpoints", MAIN._replace(endpoints=n), 15_000, weight=4)
        for n in (10, 100)
    ),
    Row(
        "fail",
        "Every event fails once",
        MAIN._replace(reply="/flaky"),
        15_000,
        "Failures",
        contenders=("engine",),
        key="engine.rate",
        weight=18,
    ),
    Row(
        "aggregate",
        "Every event into a window",
        MAIN._replace(aggregate=True),
        20_000,
        "Aggregated",
        contenders=("engine",),
        key="engine.rate",
        weight=5,
        needs=("aggregate",),
    ),
    Row("idle", "Idle engine", MAIN, 400, "Idle", contenders=("engine",), key="p50", weight=5),
    Row(
        "ingest",
        "Idle engine, and clients that post to its API as fast as it takes them",
        MAIN._replace(endpoints=2),
        800,
        "Ingest",
        contenders=("engine",),
        key="with.arrived.p50",
        weight=9,
    ),
    *(
        Row(
            name,
            title,
            MAIN,
            events,
            "HostImpact",
            contenders=("engine",),
            key="with.p99",
            weight=15,
            rate=rate,
            shared=shared,
        )
        for name, title, events, rate, shared in (
            ("host", "1,500 requests/s", 3_000, 1_500, False),
            ("host-busy", "saturated, 32 connections", 10_000, 0, False),
            (
                "host-shared",
                "1,500 requests/s, the engine on the host's own core",
                3_000,
                1_500,
                True,
            ),
        )
    ),
    Row(
        "memory",
        "A million events",
        MAIN,
        1_000_000,
        "Memory",
        contenders=("engine",),
        key="worker.own",
        once=True,
        weight=32,
    ),
    *(
        Row(
            name,
            title,
            MAIN._replace(slow=True, in_flight=400, tls=tls),
            400,
            "Connections",
            contenders=("engine",),
            key="connection",
            once=True,
            weight=3,
        )
        for name, title, tls in (
            ("connections", "400 connections", False),
            ("connections-tls", "400 connections, TLS", True),
        )
    ),
    Row("match", "Topic filters", MAIN, 50_000, "Matching", (), key="10000", weight=1),
    Row("syscalls", "System calls", MAIN, 20_000, "SystemCalls", ("engine",), None, "calls"),
)


def rows() -> tuple[Row, ...]:
    """Return all rows that this engine can do."""
    options = get_type_hints(Endpoint)
    return tuple(
        row
        for row in ROWS
        if options.keys() >= set(row.needs) and (http2_option() or not row.load.http2)
    )
