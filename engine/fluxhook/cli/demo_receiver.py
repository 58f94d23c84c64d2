"""A receiver of the demo, in a process of its own, so that it takes no time from the host that emits.

    python -P -m fluxhook.cli.demo_receiver SECRET

It answers each line that it reads with a line: a behaviour to take on, or an empty one, with a
report. When there is nothing more to read, it writes a last report and ends.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Literal, cast, get_args

import msgspec

from fluxhook.errors import EngineError
from fluxhook.receiver import Behaviour, Received, Receiver
from fluxhook.transport.process import python

__all__ = ["Phase", "ReceiverProcess", "Report", "Timing", "event_id", "percentiles"]

#: warm: until the workers have started; not measured
Phase = Literal["warm", "steady", "burst"]


class Timing(msgspec.Struct):
    """Of the events of one phase: from the call of `emit` until they had arrived."""

    events: int
    first_emitted_ns: int
    last_arrived_ns: int
    #: p50, p95, p99
    latency_ms: dict[str, float]


class Report(msgspec.Struct):
    """What a receiver saw. An event is an id; it may come several times."""

    url: str = ""
    requests: int = 0
    bad_signatures: int = 0
    #: answered with success at least once
    accepted_events: int = 0
    #: only in the last report
    timings: dict[Phase, Timing] = {}


def event_id(phase: Phase, sequence: int) -> str:
    """Return an id that tells when its event was emitted: envelopes have no finer time than seconds."""
    return f"{phase}-{time.time_ns():x}-{sequence}"


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99, by the nearest rank."""
    ranked = sorted(values)
    return {
        name: ranked[math.ceil(share * len(ranked)) - 1]
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
        if ranked
    }


class ReceiverProcess:
    """The demo's side; read `url` first. Raises EngineError where the receiver ended by itself."""

    def __init__(self, secret: str) -> None:
        self._process = subprocess.Popen(
            python("fluxhook.cli.demo_receiver", secret),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo, which ends its receivers
        )

    @functools.cached_property
    def url(self) -> str:
        """The address at which it listens, once it does."""
        return self._read().url

    def behave(self, behaviour: Behaviour) -> None:
        self._ask(msgspec.json.encode(behaviour))

    def report(self) -> Report:
        return self._ask(b"")

    def stop(self) -> Report:
        """End the receiver and return its last report."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        last = self._read()
        self._process.wait()
        return last

    def kill(self) -> None:
        """End the receiver if it was not stopped."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, line: bytes) -> Report:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Report:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError("a receiver of the demo ended before its time")
        return msgspec.json.decode(line, type=Report)


# ---- in the process of its own -------------------------------------------------------------


class _Arrivals:
    """Counts what arrives."""

    def __init__(self) -> None:
        self.report = Report()
        self._accepted: set[str] = set()
        #: (when emitted, when arrived), both in nanoseconds
        self._times: dict[Phase, list[tuple[int, int]]] = {phase: [] for phase in get_args(Phase)}

    def receive(self, received: Received) -> None:
        self.report.requests += 1
        if not received.verified:
            self.report.bad_signatures += 1
            return
        if received.status != 204:
            return
        envelope = msgspec.json.decode(received.body, type=dict[str, msgspec.Raw])
        raw = envelope.get("id") or envelope["event_id"]
        text = msgspec.json.decode(raw, type=str)
        if text in self._accepted:
            return
        self._accepted.add(text)
        phase, emitted, _ = text.split("-")
        self._times[cast(Phase, phase)].append((int(emitted, 16), received.at_ns))
        self.report.accepted_events += 1

    def finish(self) -> Report:
        for phase, times in self._times.items():
            if times:
                self.report.timings[phase] = Timing(
                    len(times),
                    min(emitted for emitted, _ in times),
                    max(arrived for _, arrived in times),
                    percentiles([(arrived - emitted) / 1e6 for emitted, arrived in times]),
                )
        return self.report


async def _serve(secret: str) -> None:
    arrivals = _Arrivals()
    receiver = Receiver(secrets=[secret], on_delivery=arrivals.receive)
    await receiver.start()
    arrivals.report.url = receiver.url
    ended = asyncio.Event()
    rest = b""

    def read() -> None:
        nonlocal rest
        chunk = os.read(0, 65536)
        if not chunk:
            ended.set()
            return
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                receiver.behave(msgspec.json.decode(line, type=Behaviour))
            _say(arrivals.report)

    _say(arrivals.report)
    loop = asyncio.get_running_loop()
    loop.add_reader(0, read)
    await ended.wait()
    loop.remove_reader(0)
    await receiver.stop()
    _say(arrivals.finish())


def _say(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
