"""W3C Trace Context: what is one, what is passed on of it, and what is ignored."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.trace.span import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from fluxhook import EventError
from fluxhook.events.trace_context import (
    MAX_TRACESTATE,
    TraceContext,
    common,
    from_headers,
    given,
    opentelemetry_context,
)

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"

#: section 3.2.2
NO_PARENTS = [
    "",
    TRACEPARENT[:-1],
    f"{TRACEPARENT}0",
    f"{TRACEPARENT}-",
    f"{TRACEPARENT}-extra",
    f" {TRACEPARENT}",
    f"{TRACEPARENT}\n",
    TRACEPARENT.upper(),
    f"ff-{TRACE}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-{PARENT}-0g",
    f"00_{TRACE}_{PARENT}_01",
    f"01-{TRACE}-{PARENT}-01extra",
    f"0-{TRACE}-{PARENT}-01",
    f"00-{TRACE[1:]}-{PARENT}-01",
    f"00-{TRACE}-{PARENT}\N{FULLWIDTH DIGIT ZERO}-01",
]
#: section 3.3.1
NO_STATES = [
    "rojo",
    "=1",
    "rojo=",
    "Rojo=1",
    "rojo=1;congo=2",
    "rojo =1",
    "rojo=a=b",
    "rojo=\x01",
    "rojo=1\r\nx: y",
    "rojo=\u00e9",
    "_a=1",
    f"{'k' * 257}=1",
    f"k={'v' * 257}",
    ",".join(f"k{n}=1" for n in range(33)),
]


@pytest.mark.parametrize("text", NO_PARENTS)
def test_a_bad_traceparent_is_refused(text: str) -> None:
    """The error of `emit` names the field and the value, and shows how one is written; a request's
    header is ignored, and its tracestate with it."""
    with pytest.raises(EventError, match="is not a traceparent; it is written as") as caught:
        given(text, STATE)
    assert caught.value.field == "traceparent"
    assert repr(text)[:80] in str(caught.value)
    assert from_headers([text.strip("\n") + "x"], [STATE]) == (None, 1)


@pytest.mark.parametrize("text", NO_STATES)
def test_a_bad_tracestate_is_refused(text: str) -> None:
    """`emit` says so; a request keeps its traceparent (section 4.3)."""
    with pytest.raises(EventError, match="is not a tracestate; it is written as") as caught:
        given(TRACEPARENT, text)
    assert caught.value.field == "tracestate"
    assert from_headers([TRACEPARENT], [text]) == (TraceContext(TRACEPARENT), 1)


@pytest.mark.parametrize("value", [7, b"00", [TRACEPARENT], True])
def test_what_is_no_text_is_refused(value: object) -> None:
    """With the same words as a text that is none."""
    with pytest.raises(EventError, match="is not a traceparent"):
        given(value, None)  # type: ignore[arg-type]  # what hosts do
    with pytest.raises(EventError, match="is not a tracestate"):
        given(TRACEPARENT, value)  # type: ignore[arg-type]


def test_a_tracestate_needs_a_traceparent() -> None:
    """Alone it says nothing: `emit` refuses it, a request's is passed over as the standard has it."""
    with pytest.raises(EventError, match="a tracestate needs a traceparent"):
        given(None, STATE)
    assert from_headers([], [STATE]) == (None, 0)
    assert given(None, None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRACEPARENT, TRACEPARENT),
        (TRACEPARENT[:-2] + "00", TRACEPARENT[:-2] + "00"),
        (TRACEPARENT[:-2] + "03", TRACEPARENT[:-2] + "03"),
        (f"01-{TRACE}-{PARENT}-01", TRACEPARENT),
        (f"cc-{TRACE}-{PARENT}-03-what-the-future-brings", TRACEPARENT),
    ],
)
def test_a_traceparent_is_passed_on(text: str, expected: str) -> None:
    """As it is; of a later version what is known of it (section 3.2.4)."""
    assert given(text, None) == from_headers([text], [])[0] == TraceContext(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STATE, STATE),
        ("", ""),
        (" rojo=1 ,, \tcongo=2,", "rojo=1,congo=2"),
        ("a=1,a=2", "a=1,a=2"),
        ("1t@v=\x20~", "1t@v=\x20~"),
        (f"{'k' * 256}=1", f"{'k' * 256}=1"),
    ],
)
def test_a_tracestate_is_passed_on(text: str, expected: str) -> None:
    """In its order, without empty members and the space around them."""
    assert given(TRACEPARENT, text) == TraceContext(TRACEPARENT, expected)


def test_headers_of_several_lines_are_one() -> None:
    """Of tracestate (RFC 9110 section 5.3); there is one traceparent or none."""
    assert from_headers([TRACEPARENT], ["rojo=1", "congo=2"]) == (
        TraceContext(TRACEPARENT, "rojo=1,congo=2"),
        0,
    )
    assert from_headers([TRACEPARENT, TRACEPARENT], [STATE]) == (None, 1)


def test_a_long_tracestate_is_shortened() -> None:
    """Long members go first, then the last ones, until the rest fits (section 3.3.1.5)."""
    long, short = f"long={'x' * 150}", [f"k{n}={'y' * 100}" for n in range(6)]
    made = given(TRACEPARENT, ",".join([long, *short]))
    assert made is not None
    assert made.tracestate == ",".join(short[:4])
    assert len(made.tracestate) <= MAX_TRACESTATE < len(",".join(short[:5]))
    fits = ",".join([long, *short[:3]])
    assert given(TRACEPARENT, fits) == TraceContext(TRACEPARENT, fits)


def test_what_several_have_in_common() -> None:
    """All or nothing: one without a context, or with another, is none of the trace."""
    one, other = TraceContext(TRACEPARENT), TraceContext(TRACEPARENT, STATE)
    assert common([one, one]) == common([one]) == one
    assert common([one, other]) is common([one, None]) is common([None, None]) is None


def test_the_current_context_of_opentelemetry() -> None:
    """None outside of a span; within, that of the span."""
    current = opentelemetry_context()
    assert current() is None
    span = NonRecordingSpan(
        SpanContext(
            int(TRACE, 16), int(PARENT, 16), True, TraceFlags(1), TraceState([("rojo", "1")])
        )
    )
    with trace.use_span(span):
        assert current() == TraceContext(TRACEPARENT, "rojo=1")
    assert current() is None
