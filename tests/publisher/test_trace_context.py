"""The trace context of an event, from `emit` to the rings."""

from __future__ import annotations

import builtins
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace.span import NonRecordingSpan, SpanContext, TraceFlags

from fluxhook import Config, Endpoint, EventError, Publisher, Size
from fluxhook._native.ring import Consumer
from fluxhook.publisher.publisher import OwnPublisher
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.messages import EventHead

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT, STATE = f"00-{TRACE}-{PARENT}-01", "rojo=1"
SPAN = NonRecordingSpan(SpanContext(int(TRACE, 16), int(PARENT, 16), False, TraceFlags(1)))


def prepared(folder: Path, *endpoints: Endpoint, **options: Any) -> Path:
    """Return a data directory that was made ready, as an engine leaves it."""
    options = {"workers": 1, "ring_bytes": Size(2**20)} | options
    Supervisor(folder / "data", Config(endpoints=endpoints, **options)).close()
    return folder / "data"


ANY = Endpoint(name="any", url="http://192.0.2.1/", signature="none")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return prepared(tmp_path, ANY)


@pytest.fixture
def publisher(data_dir: Path) -> Iterator[Publisher]:
    with Publisher(data_dir) as publisher:
        yield publisher


def heads(data_dir: Path) -> list[bytes]:
    """Return the heads in the first publisher's ring."""
    ring = Consumer(str(data_dir / "rings/0/0.ring"))
    ring.rewind()
    found = [record.event for record in ring.take(1000)]
    ring.close()
    return found


def words(data_dir: Path) -> EngineWords:
    return EngineWords(d.DataDir(data_dir).open_words())


def test_an_event_without_one_has_the_bytes_that_it_always_had(
    publisher: Publisher, data_dir: Path
) -> None:
    """Four fields, by the short way and by the long one."""
    for n in range(2):
        publisher.emit("order.paid", {}, event_id=f"n{n}")
        publisher.emit("order.paid", {}, event_id=f"t{n}", topic="a/b")
    assert heads(data_dir) == [
        b"n0\0order.paid\0\0",
        b"t0\0order.paid\0a/b\0",
        b"n1\0order.paid\0\0",
        b"t1\0order.paid\0a/b\0",
    ]
    assert words(data_dir).traces == d.UNTRACED


def test_every_way_in_takes_one(publisher: Publisher, data_dir: Path) -> None:
    """emit, accept, emit_many, and prepare with put."""
    context: dict[str, Any] = {"traceparent": TRACEPARENT, "tracestate": STATE}
    publisher.emit("order.paid", {}, event_id="a")  # from here on there is a shorter way
    publisher.emit("order.paid", {}, event_id="b", **context)
    publisher.accept("order.paid", {}, event_id="c", **context)
    publisher.put(publisher.prepare("order.paid", {}, event_id="d", **context))
    publisher.emit_many([("order.paid", {}), ("order.paid", {}, "a/b")], **context)
    publisher.emit("order.paid", {}, event_id="e", traceparent=TRACEPARENT)
    publisher.emit("order.paid", {}, event_id="f")
    found = [EventHead.decode(head) for head in heads(data_dir)]
    assert [head.traceparent for head in found] == ["", *[TRACEPARENT] * 6, ""]
    assert [head.tracestate for head in found] == ["", *[STATE] * 5, "", ""]
    assert found[5].topic == "a/b"
    assert heads(data_dir)[-1] == b"f\0order.paid\0\0"


def test_a_bad_one_is_refused(publisher: Publisher, data_dir: Path) -> None:
    """As any other bad value, and nothing is accepted."""
    for _ in range(2):
        with pytest.raises(EventError, match=r"'00-x' is not a traceparent") as caught:
            publisher.emit("order.paid", {}, traceparent="00-x")
        assert caught.value.field == "traceparent"
        with pytest.raises(EventError, match="a tracestate needs a traceparent"):
            publisher.emit("order.paid", {}, tracestate=STATE)
        publisher.emit("order.paid", {}, event_id="good")
    assert len(heads(data_dir)) == 2


def test_workers_are_told_before_there_is_one(publisher: Publisher, data_dir: Path) -> None:
    """By a word that they look at when another word says that a ring was added."""
    before = words(data_dir).rings
    publisher.emit("order.paid", {})
    assert (words(data_dir).traces, words(data_dir).rings) == (d.UNTRACED, before)
    for _ in range(2):
        publisher.emit("order.paid", {}, traceparent=TRACEPARENT)
        assert (words(data_dir).traces, words(data_dir).rings) == (d.TRACED, before + 1)


def test_an_engine_of_an_earlier_version_gets_none(publisher: Publisher, data_dir: Path) -> None:
    """It could not read the event's head. The event is accepted without its context."""
    shared = words(data_dir)
    shared.matrix.store(shared.engine_row, d.TRACES, 0)
    assert publisher.emit("order.paid", {}, event_id="n", traceparent=TRACEPARENT) == 1
    assert heads(data_dir) == [b"n\0order.paid\0\0"]


def test_words_that_are_made_anew_say_that_there_may_be_some(data_dir: Path) -> None:
    """Events that wait in the rings may have a context, and nobody knows any more."""
    spoils: list[Callable[[Path], object]] = [Path.unlink, lambda path: path.write_bytes(b"x")]
    for spoil in spoils:
        shared = words(data_dir)
        shared.matrix.store(shared.engine_row, d.TRACES, d.UNTRACED)
        shared.close()
        spoil(data_dir / "words")
        Supervisor(data_dir, Config(endpoints=(ANY,), workers=1, ring_bytes=Size(2**20))).close()
        assert words(data_dir).traces == d.TRACED


# ---- OpenTelemetry ---------------------------------------------------------------------------


def test_the_current_context_is_not_looked_at_unless_asked_for(
    publisher: Publisher, data_dir: Path
) -> None:
    """The option is off by default."""
    with trace.use_span(SPAN):
        publisher.emit("order.paid", {}, event_id="n")
    assert heads(data_dir) == [b"n\0order.paid\0\0"]


def test_the_current_context_is_the_event_s(tmp_path: Path) -> None:
    """With `opentelemetry: true`: within a span that of the span, unless the host gives another;
    outside of one, none."""
    data_dir = prepared(tmp_path, ANY, opentelemetry=True)
    own = TRACEPARENT.replace(PARENT, "1" * 16)
    with Publisher(data_dir) as publisher:
        for _ in range(2):  # also once the type is known
            publisher.emit("order.paid", {})
            with trace.use_span(SPAN):
                publisher.emit("order.paid", {})
                publisher.emit("order.paid", {}, traceparent=own)
    found = [EventHead.decode(head).traceparent for head in heads(data_dir)]
    assert found == ["", TRACEPARENT, own] * 2


def test_programs_of_ours_have_no_trace(tmp_path: Path) -> None:
    """The admin process and the command line are not the host."""
    data_dir = prepared(tmp_path, ANY, opentelemetry=True)
    with OwnPublisher(data_dir) as publisher, trace.use_span(SPAN):
        publisher.emit("order.paid", {}, event_id="n")
    assert heads(data_dir) == [b"n\0order.paid\0\0"]


def test_a_host_without_opentelemetry_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In its log; events are accepted all the same."""
    there = builtins.__import__

    def absent(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(f"No module named {name!r}")
        return there(name, *rest, **options)

    data_dir = prepared(tmp_path, ANY, opentelemetry=True)
    monkeypatch.setattr(builtins, "__import__", absent)
    with caplog.at_level(logging.WARNING), Publisher(data_dir) as publisher:
        assert publisher.emit("order.paid", {}) == 1
    assert "opentelemetry-api" in caplog.text


def test_a_forked_child_goes_on(publisher: Publisher, data_dir: Path) -> None:
    """It attaches anew, and its events have their context."""
    pid = os.fork()
    if not pid:
        try:
            publisher.emit("order.paid", {}, traceparent=TRACEPARENT)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    ring = Consumer(str(data_dir / "rings/1/0.ring"))
    (record,) = ring.take(10)
    assert EventHead.decode(record.event).traceparent == TRACEPARENT
    ring.close()
