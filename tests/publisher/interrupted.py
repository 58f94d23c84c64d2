"""A host whose publisher is interrupted at every line of its work; run by test_interruptions.py.

    python interrupted.py DATA_DIR WORK INTERRUPTION

It does a piece of work again and again, interrupted at its first line, its second, and so on up to its
last, and ends with a count of lines, or with a traceback. The test that started it kills it if it
hangs.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from fluxhook import EngineError, Publisher
from fluxhook.transport import datadir as d
from fluxhook.transport.snapshot import Snapshot

#: the code that is interrupted
FILES = ("publisher.py", "slot.py", "routing.py", "event_filter.py", "snapshot.py", "datadir.py")


class Stopped(BaseException):
    """As KeyboardInterrupt is."""


class Host:
    def __init__(self, path: str) -> None:
        self.datadir = d.DataDir(path)
        self.publisher = Publisher(path)
        #: what was accepted for certain, and what may have been: an emit that was ended
        self.accepted = self.uncertain = 0

    def emit(self, type: str = "order.paid") -> None:
        self.uncertain += 1
        n = self.publisher.emit(type, {"n": 1})
        self.uncertain -= 1
        self.accepted += n

    def publish(self, **changes: Any) -> None:
        """As the supervisor does it for a change."""
        snapshot = Snapshot.load(self.datadir)
        config = msgspec.structs.replace(snapshot.config, **changes)
        version = snapshot.version + 1
        msgspec.structs.replace(snapshot, version=version, config=config).save(self.datadir)
        words = self.datadir.open_words()
        words.store(words.rows - 1, d.VERSION, version)
        words.close()

    # ---- work: each prepares, and returns what is interrupted

    def plain(self) -> Callable[[], None]:
        return self.emit

    def filtered(self) -> Callable[[], None]:
        return lambda: self.emit("order.filtered")

    def reconfigured(self) -> Callable[[], None]:
        self.publish()
        return self.emit

    def other_rings(self) -> Callable[[], None]:
        policy = Snapshot.load(self.datadir).config.drop_policy
        self.publish(drop_policy="oldest" if policy == "newest" else "newest")
        return self.emit

    def batch(self) -> Callable[[], None]:
        def work() -> None:
            self.uncertain += 2
            n = self.publisher.emit_many([("order.paid", {}), ("order.filtered", {"n": 1})])
            self.uncertain -= 2
            self.accepted += n

        return work

    def closed(self) -> Callable[[], None]:
        self.publisher.close()
        self.publisher = Publisher(self.datadir.path)
        return self.publisher.close


WORK = ("plain", "filtered", "reconfigured", "other_rings", "batch", "closed", "forked")


def interrupted_at(line: int, work: Callable[[], None], interrupt: Callable[[], None]) -> bool:
    """Return whether the work had so many lines."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                interrupt()
        return trace

    sys.settrace(trace)
    try:
        work()
    except Stopped:
        pass
    finally:
        sys.settrace(None)
    return left <= 0


def interruption(host: Host, kind: str) -> Callable[[], None]:
    """By a signal whose handler emits, or raises; by a finalizer, or a weak reference's callback."""

    def emit(*_: object) -> None:
        try:
            host.emit()
        except EngineError as error:
            host.uncertain -= 1
            if "closed" not in str(error) and "attaches anew" not in str(error):
                raise

    def stop(*_: object) -> None:
        raise Stopped

    if kind in ("handler", "raises"):
        signal.signal(signal.SIGUSR1, emit if kind == "handler" else stop)
        return lambda: signal.raise_signal(signal.SIGUSR1)

    class Cycle:
        def __init__(self) -> None:
            self.me = self
            if kind == "callback":
                weakref.finalize(self, emit)

        if kind == "finalizer":
            __del__ = emit

    def collect() -> None:
        Cycle()
        gc.collect()

    return collect


def in_a_child(host: Host, line: int, interrupt: Callable[[], None]) -> bool:
    """The same for the first emit after a fork, which the child alone does."""
    child = os.fork()
    if child == 0:
        try:
            more = interrupted_at(line, host.emit, interrupt)
            host.emit()
            os._exit(0 if more else 3)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, 3):
        raise RuntimeError(f"the child that was interrupted at line {line} ended with {status}")
    return status == 0


def main(path: str, work: str, kind: str) -> None:
    host = Host(path)
    interrupt = interruption(host, kind)
    host.emit()
    line = more = 1
    while more:
        if work == "forked":
            more = in_a_child(host, line, interrupt)
        else:
            more = interrupted_at(line, getattr(host, work)(), interrupt)
            if work == "closed":
                host.publisher.close()
                host.publisher = Publisher(path)
            host.emit()  # whatever happened, the next one works
        line += 1
    host.publisher.close()
    others = [Publisher(path) for _ in range(Snapshot.load(host.datadir).config.max_publishers)]
    for other in others:  # no slot is left locked
        other.close()
    print(line, host.accepted, host.uncertain)


if __name__ == "__main__":
    main(*sys.argv[1:])
