"""What bench.instructions runs under callgrind: each operation so many times, with marks between.

    python -m bench.programs.counted DATA_DIR

The data directory was made ready before. A mark is a call of getppid(2): callgrind writes what it has
counted whenever that function is entered, and nothing else here calls it. Each operation is run for
warming up, and then SHORT and LONG times; the difference is what the operations cost, the loop
included, and nothing else.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from itertools import repeat

import pycurl

from bench import filters
from fluxhook import Config, Endpoint, Publisher, Rate
from fluxhook._native.ring import Consumer, Producer, RingDelivery
from fluxhook._native.shared import Counters
from fluxhook._native.signing import Signer
from fluxhook._native.topics import Matcher
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import Attempt
from fluxhook.transport.snapshot import Snapshot
from fluxhook.worker.dispatcher import Dispatcher
from fluxhook.worker.reporter import Reporter
from fluxhook.worker.stage_timings import StageTimings

WARM_UP, SHORT, LONG = 50, 200, 800
#: for each, an endpoint: one of which nothing is to be asked, and one whose rate is limited
PLAIN, JUDGED = "bench.plain", "bench.judged"
DATA = {"invoice": "in_00000001", "amount": 12_345, "currency": "eur", "text": "x" * 400}
#: what a process costs that does nothing of ours, to compare builds of Python with each other
REFERENCE = "reference"
OPERATIONS = (
    *(REFERENCE, "emit", "match", "sign", "settle"),
    *("dispatch plain", "dispatch judged", "report"),
)
#: deliveries that a worker sends in one round
_ROUND = 50
_ATTEMPT = Attempt(1, 503, "server_error", first_byte_us=900, total_us=1000, answer=b"{}")

mark = os.getppid

#: runs an operation so many times
Operation = Callable[[int], None]


def reference() -> Operation:
    """Do a little of what the others are made of: calls, a dict, strings, bytes."""

    def run(count: int) -> None:
        for number in range(count):
            fields = {"id": f"evt_{number:020x}", "text": "x" * 100}
            ",".join(f"{key}={value}" for key, value in fields.items()).encode()

    return run


def emit(publisher: Publisher) -> Operation:
    call = publisher.emit

    def run(count: int) -> None:
        for _ in repeat(None, count):
            call(PLAIN, DATA)

    return run


def match() -> Operation:
    call = Matcher(filters.endpoints(1_000)).match
    topics = filters.topics(1_000, LONG)

    def run(count: int) -> None:
        for topic in topics[:count]:
            call(filters.EVENT, topic)

    return run


def sign() -> Operation:
    call, body = Signer(b"k" * 32).hex, b"x" * 572

    def run(count: int) -> None:
        for _ in repeat(None, count):
            call(b"1700000000.", body)

    return run


class Worker:
    """What a worker does with deliveries, by itself: no request leaves it."""

    def __init__(self, datadir: d.DataDir, publisher: Publisher) -> None:
        own, snapshot = datadir.worker(0), Snapshot.load(datadir)
        self._publisher = publisher
        self._consumer = Consumer(str(datadir.publisher_slots()[0] / "0.ring"))
        self._counters = Counters(str(own / "counters"), 0, d.WORKER_FIELDS, writable=True)
        histograms = Counters(str(own / "stages"), 0, d.STAGE_FIELDS, writable=True)
        self._clock = EngineClock(snapshot.clock)
        outbox = Producer(str(own / "outbox.ring"))
        self._reporter = Reporter(outbox, self._counters, 0, self._clock)
        stages = StageTimings(self._counters, histograms, self._clock)
        self._dispatcher = Dispatcher(
            datadir.open_words(),
            self._counters,
            stages,
            self._reporter,
            0,
            lambda _: None,
            self._clock,
        )
        for id, endpoint in enumerate(snapshot.config.endpoints):
            self._dispatcher.configure(id, endpoint, LONG)

    def settle(self) -> Operation:
        taken = self._take(PLAIN)

        def run(count: int) -> None:
            for delivery in taken[:count]:
                delivery.settle(self._counters, d.DELIVERED)
            del taken[:count]

        return run

    def dispatch(self, type: str) -> Operation:
        """Go from a ring to libcurl, which would begin with the next look at its sockets; the
        requests are taken back before it has one."""
        dispatcher, now_ns = self._dispatcher, self._clock.now_ns()
        sender = dispatcher.senders.main
        taken = self._take(type)
        started: list[pycurl.Curl] = []
        queue = dispatcher.queues[taken[0].endpoint]
        sender.add_handle = started.append  # type: ignore[assignment]  # takes any handle

        def run(count: int) -> None:
            for _ in range(0, count, _ROUND):
                dispatcher.arrive(taken[:_ROUND], now_ns)
                del taken[:_ROUND]
                dispatcher.send(now_ns)
                for curl in started:
                    sender.release(sender.transfers[curl])
                started.clear()
                queue.in_flight = sender.in_flight = 0

        return run

    def report(self) -> Operation:
        taken, call = self._take(PLAIN), self._reporter.report

        def run(count: int) -> None:
            for delivery in taken[:count]:
                call(delivery, "retry", "server_error", _ATTEMPT)
            del taken[:count]

        return run

    def _take(self, type: str) -> list[RingDelivery]:
        """Return fresh deliveries, enough for an operation."""
        while self._consumer.take(64):
            pass
        for _ in range(WARM_UP + SHORT + LONG):
            assert self._publisher.emit(type, DATA) == 1
        taken = []
        while some := self._consumer.take(64):
            taken += some
        return taken


def configuration() -> Config:
    """Return what the data directory has to be made ready with."""

    def endpoint(type: str, rate_limit: Rate | None = None) -> Endpoint:
        url, secrets = f"https://hooks.example.com/{type}", ("k" * 32,)
        return Endpoint(name=type, url=url, events=(type,), secrets=secrets, rate_limit=rate_limit)

    return Config(
        endpoints=(endpoint(PLAIN), endpoint(JUDGED, rate_limit=Rate.parse("1000000/s"))),
        event_types=(PLAIN, JUDGED),
        workers=1,
        drop_policy="newest",
    )


def main() -> None:
    datadir = d.DataDir(sys.argv[1])
    publisher = Publisher(datadir.path)
    worker = Worker(datadir, publisher)
    operations: dict[str, Callable[[], Operation]] = {
        REFERENCE: reference,
        "emit": lambda: emit(publisher),
        "match": match,
        "sign": sign,
        "settle": worker.settle,
        "dispatch plain": lambda: worker.dispatch(PLAIN),
        "dispatch judged": lambda: worker.dispatch(JUDGED),
        "report": worker.report,
    }
    for name in OPERATIONS:
        run = operations[name]()
        gc.collect()
        gc.freeze()
        run(WARM_UP)
        mark()
        run(SHORT)
        mark()
        run(LONG)
        mark()
    publisher.close()


if __name__ == "__main__":
    main()
