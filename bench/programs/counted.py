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

from bench import filters
from fluxhook import Publisher
from fluxhook._native.ring import Consumer, Counters
from fluxhook._native.signing import Signer
from fluxhook._native.topics import Matcher
from fluxhook.transport import datadir as d

WARM_UP, SHORT, LONG = 50, 200, 800
TYPE = "bench.counted"
DATA = {"invoice": "in_00000001", "amount": 12_345, "currency": "eur", "text": "x" * 400}
#: what a process costs that does nothing of ours, to compare builds of Python with each other
REFERENCE = "reference"
OPERATIONS = (REFERENCE, "emit", "match", "sign", "settle")

mark = os.getppid

#: runs an operation so many times
Operation = Callable[[int], None]


def reference() -> Operation:
    """A little of what the others are made of: calls, a dict, strings, bytes."""

    def run(count: int) -> None:
        for number in range(count):
            fields = {"id": f"evt_{number:020x}", "text": "x" * 100}
            ",".join(f"{key}={value}" for key, value in fields.items()).encode()

    return run


def emit(publisher: Publisher) -> Operation:
    call = publisher.emit

    def run(count: int) -> None:
        for _ in repeat(None, count):
            call(TYPE, DATA)

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


def settle(publisher: Publisher, datadir: d.DataDir) -> Operation:
    consumer = Consumer(str(datadir.publisher_slots()[0] / "0.ring"))
    path = datadir.worker(0) / "counters"
    counters = Counters(str(path), 0, d.WORKER_FIELDS, writable=True)
    while consumer.take(64):
        pass
    for _ in range(WARM_UP + SHORT + LONG):
        publisher.emit(TYPE, DATA)
    taken = []
    while some := consumer.take(64):
        taken += some

    def run(count: int) -> None:
        for delivery in taken[:count]:
            delivery.settle(counters, d.DELIVERED)
        del taken[:count]

    return run


def main() -> None:
    datadir = d.DataDir(sys.argv[1])
    publisher = Publisher(datadir.path)
    operations: dict[str, Callable[[], Operation]] = {
        REFERENCE: reference,
        "emit": lambda: emit(publisher),
        "match": match,
        "sign": sign,
        "settle": lambda: settle(publisher, datadir),
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
