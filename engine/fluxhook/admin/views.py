"""The store's rows and the counters as the API's models, without what must not be shown."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from fluxhook.admin.history import INTERVAL_S, Point
from fluxhook.admin.models import (
    Attempt,
    AttemptRecord,
    Delivery,
    DeliveryState,
    History,
    HistoryPoint,
    LastError,
    ProcessStatus,
    SentRequest,
    Status,
    Timings,
    Totals,
    WebhookStatus,
)
from fluxhook.config.headers import event_content_type
from fluxhook.config.schema import Endpoint
from fluxhook.config.shown import HIDDEN
from fluxhook.config.url import shown_url
from fluxhook.endpoint_state import EndpointState
from fluxhook.errors import FluxhookError
from fluxhook.events.trace_context import TraceContext
from fluxhook.policy.clock import Clock
from fluxhook.policy.signature import make_profile
from fluxhook.stats import EndpointStats, Stats
from fluxhook.store.audit import timestamp
from fluxhook.store.delivery_id import shown_id
from fluxhook.store.queries import AttemptRow
from fluxhook.store.rows import DeliveryRow, PastAttempt, State
from fluxhook.text import decoded
from fluxhook.transport.sender import USER_AGENT

__all__ = [
    "attempt_record",
    "attempt_view",
    "delivery_view",
    "history_view",
    "sent_request",
    "status_view",
    "timestamp_or_none",
]

#: Shorter values are no secrets, and occur in any text by chance.
_MIN_SECRET: Final = 4
#: the signatures in the headers of all profiles (policy/signature.py)
_SIGNATURES: Final = re.compile(r"(v1a?[=,]|sha256=)[^\s,]+")


def timestamp_or_none(ns: int | None) -> str | None:
    return None if ns is None else timestamp(ns)


def delivery_view(
    row: DeliveryRow, name: str, clock: Clock, ahead: EndpointState, now_ns: int
) -> Delivery:
    """Return a delivery as it is shown; `clock` turns what is waited for into wall time; `ahead` is
    of the endpoint, and `now_ns` engine time."""
    first_ns, due_ns = row.first_failed_ns, None
    if row.state == State.WAITING:
        due_ns = ahead.next_ns(row.due_ns, now_ns)
    if row.state == State.DELIVERED and row.attempts == 1:  # which earlier versions noted too
        first_ns = None
    return Delivery(
        id=shown_id(row.id),
        endpoint=name,
        endpoint_id=f"wh_{row.endpoint}",
        event_id=row.event_id,
        type=row.type,
        topic=row.topic or None,
        order_key=row.order_key or None,
        traceparent=row.traceparent or None,
        tracestate=row.tracestate or None,
        state=cast(DeliveryState, State(row.state).name.lower()),
        attempts=row.attempts,
        accepted_at=timestamp(row.accepted_ns),
        first_failed_at=None if first_ns is None else timestamp(clock.wall_ns(first_ns)),
        due_at=None if due_ns is None else timestamp(clock.wall_ns(due_ns)),
        ended_at=timestamp_or_none(row.ended_ns),
        cause=row.cause,
        error=row.error,
    )


def attempt_view(past: PastAttempt, endpoint: Endpoint | None) -> Attempt:
    """Return an attempt as it is shown; `endpoint` is None where it was removed."""
    made = past.attempt
    return Attempt(
        n=past.n,
        started_at=timestamp(made.started_ns),
        outcome=made.cause,
        status=made.status or None,
        error=_without_secrets(made.error, endpoint),
        worker=made.worker,
        retry_after_s=made.retry_after_s,
        timings=Timings(
            dns_ms=_ms(made.dns_us),
            connect_ms=_ms(made.connect_us),
            tls_ms=_ms(made.tls_us),
            first_byte_ms=_ms(made.first_byte_us),
            total_ms=made.total_us / 1000,
        ),
        answer=_without_secrets(decoded(made.answer), endpoint),
    )


def attempt_record(row: AttemptRow, name: str, endpoint: Endpoint | None) -> AttemptRecord:
    return AttemptRecord(
        **msgspec.structs.asdict(attempt_view(row.past, endpoint)),
        delivery_id=shown_id(row.delivery),
        endpoint=name,
        endpoint_id=f"wh_{row.endpoint}",
        event_id=row.event_id,
        type=row.type,
    )


def sent_request(
    row: DeliveryRow, past: list[PastAttempt], body: bytes, endpoint: Endpoint | None
) -> SentRequest:
    """Return the request of the latest attempt, or of the first where none was made yet; the event
    by itself, not compressed."""
    headers: dict[str, str] = {}
    context = row.event.trace
    trace = {} if context is None else {k: v for k, v in context._asdict().items() if v}
    own = {"content-type", *(TraceContext._fields if context else ())}
    if endpoint is not None:
        at_ns = past[-1].attempt.started_ns if past else row.accepted_ns
        headers = {
            "User-Agent": USER_AGENT,
            "Content-Type": event_content_type(endpoint),
            "Content-Length": str(len(body)),
            **{h: HIDDEN for h in endpoint.headers if h.lower() not in own},
            **trace,
        }
        with contextlib.suppress(FluxhookError):  # it cannot sign: its status says why
            profile = make_profile(endpoint.signature, endpoint.secrets)
            for line in profile.headers(row.event_id, at_ns // 1_000_000_000, body):
                name, _, value = line.decode().partition(": ")
                headers[name] = _SIGNATURES.sub(rf"\1{HIDDEN}", value)
    url = shown_url(endpoint.url) if endpoint is not None else ""
    try:
        return SentRequest(url=url, headers=headers, body=body.decode())
    except UnicodeDecodeError:
        text = base64.b64encode(body).decode()
        return SentRequest(url=url, headers=headers, body=text, encoding="base64")


def history_view(webhook: str | None, points: Sequence[Point]) -> History:
    return History(
        webhook=webhook,
        interval_s=INTERVAL_S,
        points=[
            HistoryPoint(
                at=timestamp(int(point.at_s * 1e9)),
                accepted=point.accepted,
                delivered=point.delivered,
                failed=point.failed,
                dead=point.dead,
                pending=point.pending,
                past_due_s=point.past_due_s,
                p50_ms=point.p50,
                p95_ms=point.p95,
                p99_ms=point.p99,
            )
            for point in points
        ],
    )


def status_view(stats: Stats, now_ns: int) -> Status:
    every = stats.endpoints
    return Status(
        at=timestamp(now_ns),
        running=stats.running,
        serving=stats.serving,
        version=stats.version,
        webhooks=[_webhook_status(one) for one in every if one.state != "removed"],
        totals=Totals(
            **{name: sum(getattr(e, name) for e in every) for name in _SUMMED},
            dropped=sum(sum(e.dropped.values()) for e in every),
        ),
        processes=[
            msgspec.convert(one, ProcessStatus, from_attributes=True) for one in stats.processes
        ],
    )


_SUMMED: Final = [name for name in Totals.__struct_fields__ if name != "dropped"]
_CHANGED: Final = frozenset(("id", "url", "state", "last_error"))
#: figures that both have under the same name
_COPIED: Final = [
    name
    for name in WebhookStatus.__struct_fields__
    if hasattr(EndpointStats, name) and name not in _CHANGED
]


def _webhook_status(one: EndpointStats) -> WebhookStatus:
    last = one.last_error
    return WebhookStatus(
        **{name: getattr(one, name) for name in _COPIED},
        id=f"wh_{one.id}",
        url=shown_url(one.url),
        state=one.state,
        stages_ms=one.stages,
        oldest_pending_at=timestamp_or_none(one.oldest_pending_ns),
        next_retry_at=timestamp_or_none(one.next_retry_ns),
        next_probe_at=timestamp_or_none(one.next_probe_ns),
        past_due_s=one.past_due_ns / 1e9,
        failing_since=timestamp_or_none(one.failing_since_ns),
        last_error=None
        if last is None
        else LastError(at=timestamp(last.at_ns), cause=last.cause, error=last.error),
    )


def _ms(us: int) -> float | None:
    return us / 1000 if us else None


def _without_secrets(text: str, endpoint: Endpoint | None) -> str:
    """Hide our secrets: a receiver may echo what we sent."""
    if endpoint is not None:
        for secret in (*endpoint.secrets, *endpoint.headers.values()):
            if len(secret) >= _MIN_SECRET:
                text = text.replace(secret, HIDDEN)
    return text
