"""A host program: emits as fast as the engine takes events, and times every `emit`.

    python -m bench.programs.host DATA_DIR ENDPOINTS PAYLOAD

It is spoken with in lines of JSON: `{"emit": n}` is answered when the last event is accepted,
`{"report": true}` afterwards with what it measured.
"""

from __future__ import annotations

import json
import sys
import time
from array import array
from typing import Any

from bench.measure import percentile
from fluxhook import QueueFull, connect
from fluxhook.events.factory import EventFactory

#: how long the host waits for room; the queue lasts for many times as long
PAUSE_S = 0.005
#: of `emit` latencies, the percentiles that it reports
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)
#: events that differ in their data; their ids differ always
POOL = 1024


def event_type(number: int) -> str:
    """Return the type to which endpoint `number` subscribes."""
    return f"bench.e{number:04d}"


def events(payload: int) -> list[dict[str, Any]]:
    """Return data for events whose bodies are `payload` bytes long, or as short as they can be."""

    def data(n: int, text: str) -> dict[str, Any]:
        return {
            "invoice": f"in_{n:08d}",
            "amount": 12_345,
            "currency": "eur",
            "customer": "cus_0123456789abcdef",
            "status": "paid",
            "description": text,
        }

    factory = EventFactory(gateway_node="bench", broker_id="bench")
    shortest = factory.encode("native", factory.make(event_type(0), data(0, "")))
    text = "x" * max(0, payload - len(shortest))
    return [data(n, text) for n in range(POOL)]


class Host:
    def __init__(self, data_dir: str, endpoints: int, payload: int) -> None:
        self._publisher = connect(data_dir)
        self._types = [event_type(n) for n in range(endpoints)]
        self._pool = events(payload)
        self._latencies = array("q")
        self._refused = 0
        self._cpu_ns = 0

    def emit(self, count: int) -> None:
        """Emit `count` events. A latency is the time from one accepted emit to the next within a row,
        so reading the clock once and the loop are in it. What is refused is emitted again."""
        latencies = array("q", bytes(8 * count))
        emit, clock = self._publisher.emit, time.perf_counter_ns
        types, pool, several, mask = self._types, self._pool, len(self._types), POOL - 1
        refused = i = 0
        cpu_ns = time.process_time_ns()
        while i < count:
            before = clock()
            try:
                while i < count:
                    emit(types[i % several], pool[i & mask], raise_on_full=True)
                    now = clock()
                    latencies[i] = now - before
                    before = now
                    i += 1
            except QueueFull:
                refused += 1
                time.sleep(PAUSE_S)
        self._cpu_ns = time.process_time_ns() - cpu_ns
        self._latencies, self._refused = latencies, refused

    def report(self) -> dict[str, Any]:
        ordered = sorted(self._latencies)
        return {
            "emitted": len(ordered),
            "refused": self._refused,
            "cpu_ns": self._cpu_ns,
            "emit_us": [percentile(ordered, share) / 1000 for share in SHARES],
        }


def main() -> None:
    data_dir, endpoints, payload = sys.argv[1:]
    host = Host(data_dir, int(endpoints), int(payload))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if "emit" in command:
            host.emit(command["emit"])
        else:
            answer = host.report()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
