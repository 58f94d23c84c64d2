"""The trace context of an event, from a host to its receiver."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace.span import NonRecordingSpan, SpanContext, TraceFlags

from fluxhook import EventError
from fluxhook.receiver import Behaviour
from support.rig import Rig, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SPAN = NonRecordingSpan(SpanContext(int(TRACE, 16), int(PARENT, 16), False, TraceFlags(1)))


def test_a_running_worker_sends_the_first_one(rig: Rig) -> None:
    """It has looked for none until then. Every attempt carries it, and the event before has none."""
    with rig.engine(rig.endpoint("a")) as engine:
        engine.emit("order.paid", {"n": 0})
        rig.receiver.wait_for(1, "/a")
        rig.receiver.behave(Behaviour(fail_first=2, fail_status=503), "/a")
        assert engine.emit("order.paid", {"n": 1}, traceparent=TRACEPARENT, tracestate="k=v") == 1
        assert engine.drain(60)
        requests = rig.receiver.requests("/a")
        found = [(r.headers.get("traceparent"), r.headers.get("tracestate")) for r in requests]
        assert found == [(None, None), *[(TRACEPARENT, "k=v")] * (len(found) - 1)]
        assert len(found) > 2


def test_many_share_one_and_the_current_one_is_the_default(rig: Rig) -> None:
    """Of the events of `emit_many`; within a span of OpenTelemetry an event needs none."""
    with rig.engine(rig.endpoint("a"), opentelemetry=True) as engine:
        engine.emit_many([("order.paid", {"n": 0})] * 2, traceparent=TRACEPARENT)
        with trace.use_span(SPAN):
            engine.emit("order.paid", {"n": 1})
        with pytest.raises(EventError, match="is not a traceparent"):
            engine.emit_many([("order.paid", {})], traceparent="x")
        assert engine.drain(60)
        requests = until(lambda: len(found := rig.receiver.requests("/a")) == 3 and found)
        assert {request.headers.get("traceparent") for request in requests} == {TRACEPARENT}
