"""Deliveries, their attempts and their requests, as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fluxhook.admin.models import Attempt, Delivery, DeliveryDetail, SentRequest, Timings
from fluxhook.cli.output import facts, number, plural, safe, table

__all__ = ["attempts", "delivery_facts", "delivery_line", "delivery_list", "sent_request"]

_STYLES: Final = {
    "waiting": "yellow",
    "blocked": "yellow",
    "delivered": "green",
    "dead": "red",
    "dropped": "red",
}
#: the stages of a request in their order: the field that has their end, and how they are drawn
_STAGES: Final = (
    ("dns_ms", "dns", "·", "cyan"),
    ("connect_ms", "connect", "░", "blue"),
    ("tls_ms", "tls", "▒", "magenta"),
    ("first_byte_ms", "first byte", "▓", "yellow"),
    ("total_ms", "total", "█", "green"),
)
#: columns of the longest attempt's bar
BAR: Final = 48
#: characters of an answer and of a body that are shown
SHOWN_ANSWER, SHOWN_BODY = 500, 2000
#: columns below which a table would fold every cell, and from which one has room for errors
NARROW, WIDE = 120, 180


def delivery_list(
    rows: Iterable[Delivery], console: Console, *, ended: bool = False
) -> RenderableType:
    """Return a line of a table for each, or two lines where the console is narrow; `ended`: dead
    letters, whose state is no news."""
    if console.width < NARROW:
        return Group(*(_two_lines(row, ended) for row in rows))
    wide = console.width >= WIDE
    columns = ["id", "died at" if ended else "accepted at", "webhook", "type"]
    columns += [] if ended else ["state"]
    columns += ["attempts", "cause", *(["event", "error"] if wide else [])]
    made = table(*columns, right=("attempts",))
    made.columns[0].no_wrap = made.columns[1].no_wrap = True
    for row in rows:
        at = row.ended_at if ended else row.accepted_at
        cells: list[RenderableType] = [row.id, at or "", safe(row.endpoint), safe(row.type)]
        cells += [] if ended else [_state(row)]
        cells += [number(row.attempts), safe(row.cause)]
        cells += [safe(row.event_id), safe(row.error, 200)] if wide else []
        made.add_row(*cells)
    return made


def delivery_line(row: Delivery) -> Text:
    """Return one delivery on one line."""
    start = (f"{row.accepted_at}  ", (row.id, "dim"), "  ", _state(row))
    return Text.assemble(*start, f"  {_what(row, error=True)}")


def delivery_facts(row: Delivery) -> Table:
    return facts(
        {
            "webhook": f"{row.endpoint} ({row.endpoint_id})",
            "type": row.type,
            "event": row.event_id,
            "topic": row.topic or "",
            "order key": row.order_key or "",
            "traceparent": row.traceparent or "",
            "tracestate": row.tracestate or "",
            "state": _state(row),
            "accepted at": row.accepted_at,
            "first failed at": row.first_failed_at or "",
            "next attempt at": row.due_at or "",
            "ended at": row.ended_at or "",
            "cause": row.cause,
            "error": row.error,
        }
    )


def attempts(detail: DeliveryDetail) -> Iterator[RenderableType]:
    """Yield each attempt with its outcome, its timings as a bar, and what was answered."""
    longest = max((attempt.timings.total_ms for attempt in detail.history), default=0.0)
    for attempt in detail.history:
        yield _attempt_line(attempt)
        yield Text.assemble("    ", _bar(attempt.timings, longest))
        yield Text(f"    {_figures(attempt.timings)}", style="dim")
        if attempt.error:
            yield Text(f"    {safe(attempt.error)}")
        if attempt.answer:
            yield Text(f"    answer: {safe(attempt.answer, SHOWN_ANSWER)}")


def sent_request(request: SentRequest) -> Iterator[RenderableType]:
    """Yield line and headers, and the first of the body."""
    yield Text(f"  {request.method} {safe(request.url)}")
    for name, value in request.headers.items():
        yield Text(f"  {safe(name)}: {safe(value)}")
    encoding = f" ({request.encoding})" if request.encoding != "utf-8" else ""
    yield Text(f"  body{encoding}: {safe(request.body, SHOWN_BODY)}")


def _two_lines(row: Delivery, ended: bool) -> Text:
    at = row.ended_at if ended else row.accepted_at
    start = (row.id, f"  {at}  ", _state(row))
    return Text.assemble(*start, f"\n  {_what(row, error=False)}")


def _what(row: Delivery, *, error: bool) -> str:
    """Return a description such as `shop route.error 2 attempts, timeout: ...`."""
    said = plural(row.attempts, "attempt")
    why = (row.cause, row.error) if error else (row.cause,)
    if row.state != "delivered" and row.cause:
        said += ", " + ": ".join(safe(text, 120) for text in why if text)
    return f"{safe(row.endpoint)}  {safe(row.type)}  {said}"


def _state(row: Delivery) -> Text:
    return Text(row.state, style=_STYLES[row.state])


def _attempt_line(attempt: Attempt) -> Text:
    good = attempt.outcome == "delivered"
    status = "" if attempt.status is None else f"  {attempt.status}"
    later = "" if attempt.retry_after_s is None else f"  Retry-After {attempt.retry_after_s} s"
    return Text.assemble(
        ("  ✓ " if good else "  ✗ ", "green" if good else "red"),
        f"{attempt.n}  {attempt.started_at}",
        (f"{status}  {safe(attempt.outcome)}", "green" if good else "red"),
        f"  {_ms(attempt.timings.total_ms)} ms{later}  worker {attempt.worker}",
    )


def _bar(timings: Timings, longest_ms: float) -> Text:
    """Draw each stage as long as it took, the longest attempt BAR columns."""
    bar, drawn = Text(), 0
    for field, _, glyph, style in _STAGES:
        end_ms = getattr(timings, field)
        if end_ms is None or not longest_ms:
            continue
        end = max(drawn, round(end_ms / longest_ms * BAR))
        bar.append(glyph * (end - drawn), style)
        drawn = end
    return bar


def _figures(timings: Timings) -> str:
    """Return when each stage had ended."""
    ends = ((glyph, name, getattr(timings, field)) for field, name, glyph, _ in _STAGES)
    return "  ".join(
        f"{glyph} {name} {_ms(end)} ms" for glyph, name, end in ends if end is not None
    )


def _ms(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
