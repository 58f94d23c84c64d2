"""What the API takes and answers, and what the dashboard shows.

Times are RFC 3339 in UTC with milliseconds; durations are written as in the YAML file. Secrets, the
values of headers, and what a URL may hide are `***`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Duration
from fluxhook.endpoint_state import StateName

__all__ = [
    "MAX_PAGE",
    "Accepted",
    "AcceptedEvents",
    "Attempt",
    "AttemptRecord",
    "CreatedWebhook",
    "DeadLetterFilter",
    "Delivery",
    "DeliveryDetail",
    "EventIn",
    "EventType",
    "Health",
    "History",
    "HistoryPoint",
    "LastError",
    "Page",
    "ProcessStatus",
    "Progress",
    "PurgeRequest",
    "ReplayRequest",
    "RetryRequest",
    "RotateRequest",
    "RotatedSecret",
    "SentRequest",
    "Status",
    "TestRequest",
    "TestSent",
    "Timings",
    "Totals",
    "Webhook",
    "WebhookState",
    "WebhookStatus",
]

T = TypeVar("T")

#: rows of a page at most; arbitrary
MAX_PAGE: Final = 500

WebhookState = StateName
DeliveryState = Literal["waiting", "blocked", "delivered", "dead", "dropped"]


Time = Annotated[
    str,
    Meta(examples=["2026-02-05T12:00:00.000Z"], extra_json_schema={"format": "date-time"}),
]
#: the id of a webhook, of a delivery, of an event
WebhookId = Annotated[str, Meta(examples=["wh_7"])]
DeliveryId = Annotated[str, Meta(examples=["dlv_0644f1b1ac5d0041"])]
EventId = Annotated[str, Meta(examples=["evt_7h3k9m2p"])]
TypeName = Annotated[str, Meta(examples=["route.error"])]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows, newest first."""

    items: Annotated[list[T], Meta(description="The rows of this page.")]
    next_cursor: Annotated[
        str | None, Meta(description="The cursor of the next page; null: nothing is left.")
    ] = None


_DEAD_BY_CAUSE: Final = (
    "The dead letters in the store by the cause of which they died; `unknown` are those of which no "
    "version has noted it."
)
_DEAD_CAUSE: Final = "The cause of which most of the dead letters died; empty where there are none."
_EVENT_SUCCESS_RATE: Final = (
    "The share of the events that were delivered, of those that were delivered, died or were dropped; "
    "null: none was."
)

# ---- webhooks --------------------------------------------------------------------------------


class Webhook(Endpoint, frozen=True, kw_only=True):
    """An endpoint as it is in force: its options with all defaults, and what became of it.

    `source` is file (the configuration's; it can be paused, resumed and tested) or api.
    """

    id: Annotated[WebhookId, Meta(description="The id of the webhook, which never changes.")]
    source: Annotated[
        Literal["file", "api"],
        Meta(description="The configuration file has it, or the API made it."),
    ]
    state: Annotated[WebhookState, Meta(description="What the webhook does at this moment.")]
    disabled_reason: Annotated[
        str, Meta(description="The reason why it was disabled; empty where it was not.")
    ] = ""
    misconfigured_reason: Annotated[
        str, Meta(description="The reason why nothing can be sent, so that events wait.")
    ] = ""
    created_at: Annotated[Time | None, Meta(description="The time when the API made it.")] = None
    updated_at: Annotated[
        Time | None, Meta(description="The time when the API changed it last.")
    ] = None
    expiring_secrets: Annotated[
        int, Meta(description="So many former secrets sign beside the present one.")
    ] = 0
    secrets_expire_at: Annotated[
        Time | None, Meta(description="The time until which former secrets sign.")
    ] = None
    notices: Annotated[
        tuple[str, ...], Meta(description="Remarks for the owner of the webhook.")
    ] = ()
    dead: Annotated[int, Meta(description="Dead letters in the store.")] = 0
    dead_by_cause: Annotated[dict[str, int], Meta(description=_DEAD_BY_CAUSE)] = msgspec.field(
        default_factory=dict
    )
    dead_cause: Annotated[str, Meta(description=_DEAD_CAUSE)] = ""
    event_success_rate: Annotated[float | None, Meta(description=_EVENT_SUCCESS_RATE)] = None


class CreatedWebhook(Webhook, frozen=True, kw_only=True):
    """`secret` is shown this once, and only if it was generated."""

    secret: Annotated[
        str | None, Meta(description="The secret that was generated; it is shown this once.")
    ] = None


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without a `secret` one is generated. The former one goes on signing for the `overlap`, 24 hours
    by default."""

    secret: Annotated[
        str | None, Meta(description="The new secret; without it one is generated.")
    ] = None
    overlap: Annotated[
        Duration | None,
        Meta(
            description="The former secret signs beside the new one for so long; 24 hours by default."
        ),
    ] = None


class RotatedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is shown this once, and only if it was generated."""

    secret: Annotated[
        str | None, Meta(description="The new secret, if it was generated; it is shown this once.")
    ]
    generated: Annotated[bool, Meta(description="The engine made the secret.")]
    former_expires_at: Annotated[
        Time, Meta(description="The time until which the former secret signs.")
    ]


class TestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The event to send, to this webhook only."""

    __test__ = False  # pytest takes the name for that of a test

    type: Annotated[TypeName, Meta(description="The type of the event.")] = "webhook.test"
    data: Annotated[
        dict[str, Any] | None,
        Meta(description="The data of the event; without it an example is sent."),
    ] = None


class TestSent(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look what became of it: /v1/deliveries/{delivery_id}."""

    __test__ = False

    event_id: Annotated[EventId, Meta(description="The id of the event.")]
    delivery_id: Annotated[DeliveryId, Meta(description="The id of its delivery.")]
    held_by: Annotated[
        Literal["breaker_open"] | None,
        Meta(description="What keeps it from being sent now; null: it is sent at once."),
    ] = None
    held_until: Annotated[
        Time | None, Meta(description="The time from which on it is attempted, if it is held.")
    ] = None


# ---- status ----------------------------------------------------------------------------------


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """The latest failed attempt, or the latest event that died without one."""

    at: Annotated[Time, Meta(description="The time when the attempt failed, or the event died.")]
    cause: Annotated[str, Meta(description="The cause of the failure.")]
    error: Annotated[str, Meta(description="The failure in words.")]


class WebhookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """accepted = delivered + dead + dropped + aggregated + pending; pending = queued + stored.

    `queued` stands in the rings, `stored` in the store. Latencies are of successful attempts;
    `success_rate` is the share of attempts that succeeded, `event_success_rate` that of the events
    that were delivered; `reuse` that of the requests which found a
    connection open. `stages_ms` says where the time of requests went: queue, sign, dns, connect, tls,
    first_byte, total, of samples.
    """

    id: Annotated[WebhookId, Meta(description="The id of the webhook.")]
    name: Annotated[str, Meta(description="The name of the webhook.")]
    url: Annotated[str, Meta(description="Deliveries are sent to this URL; its query is hidden.")]
    state: Annotated[WebhookState, Meta(description="What the webhook does at this moment.")]
    disabled_reason: Annotated[
        str, Meta(description="The reason why it was disabled; empty where it was not.")
    ]
    accepted: Annotated[int, Meta(description="Events that were accepted for it.")]
    delivered: Annotated[int, Meta(description="Events that its receiver took.")]
    dead: Annotated[int, Meta(description="Dead letters in the store.")]
    dropped: Annotated[
        dict[str, int], Meta(description="Events that a policy dropped, by the policy.")
    ]
    pending: Annotated[int, Meta(description="Events that are still owed: queued and stored.")]
    queued: Annotated[int, Meta(description="Events in the rings, on their way to a worker.")]
    stored: Annotated[int, Meta(description="Events that wait in the store.")]
    refused: Annotated[int, Meta(description="Events that were refused, as the queue was full.")]
    filtered: Annotated[int, Meta(description="Events that its filters left out.")]
    aggregated: Annotated[int, Meta(description="Events that went into notifications.")]
    skipped: Annotated[int, Meta(description="Deliveries that the open breaker held back.")]
    failed_attempts: Annotated[int, Meta(description="Attempts that failed.")]
    signature_rejections: Annotated[
        int, Meta(description="Attempts that the receiver answered with 401 or 403.")
    ]
    size_rejections: Annotated[
        int, Meta(description="Events that were too large for it, or for its receiver.")
    ]
    success_rate: Annotated[
        float | None,
        Meta(description="The share of the attempts that succeeded; null: there was none."),
    ]
    latency_ms: Annotated[
        dict[str, float] | None,
        Meta(description="Milliseconds of successful attempts: p50, p95 and p99."),
    ]
    stages_ms: Annotated[
        dict[str, dict[str, float]],
        Meta(
            description="Milliseconds of the stages of requests (queue, sign, dns, connect, tls, "
            "first_byte, total), of samples: p50, p95 and p99."
        ),
    ]
    reuse: Annotated[
        float | None, Meta(description="The share of the requests that found a connection open.")
    ]
    oldest_pending_at: Annotated[
        Time | None,
        Meta(description="The time when the oldest event that is pending was accepted."),
    ]
    next_retry_at: Annotated[Time | None, Meta(description="The time of the next retry.")]
    failing_since: Annotated[
        Time | None, Meta(description="Every attempt has failed since this time.")
    ]
    last_error: Annotated[
        LastError | None,
        Meta(description="The latest failed attempt, or the latest event that died without one."),
    ]
    misconfigured_reason: Annotated[
        str,
        Meta(description="The reason why nothing can be sent, so that events wait."),
    ] = ""
    paused: Annotated[bool, Meta(description="It is paused, whatever its state is besides.")] = (
        False
    )
    faults: Annotated[
        int, Meta(description="Attempts and reports that an error of the engine's own ended.")
    ] = 0
    next_probe_at: Annotated[
        Time | None,
        Meta(description="The time when an open breaker lets a request go; null: it may already."),
    ] = None
    dead_by_cause: Annotated[dict[str, int], Meta(description=_DEAD_BY_CAUSE)] = {}
    dead_cause: Annotated[str, Meta(description=_DEAD_CAUSE)] = ""
    died_by_cause: Annotated[
        dict[str, int],
        Meta(
            description="All deaths of events that there ever were, by cause: these never go down, and "
            "one that was replayed and died again counts twice."
        ),
    ] = {}
    event_success_rate: Annotated[float | None, Meta(description=_EVENT_SUCCESS_RATE)] = None
    past_due_s: Annotated[
        float,
        Meta(
            description="The seconds for which the delivery in the store has been due that is the most "
            "late; 0: none is late, or nothing is to be sent now."
        ),
    ] = 0.0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over all webhooks, those included that were removed."""

    accepted: Annotated[int, Meta(description="Events that were accepted.")]
    delivered: Annotated[int, Meta(description="Events that receivers took.")]
    dead: Annotated[int, Meta(description="Dead letters in the store.")]
    dropped: Annotated[int, Meta(description="Events that a policy dropped.")]
    aggregated: Annotated[int, Meta(description="Events that went into notifications.")]
    pending: Annotated[int, Meta(description="Events that are still owed.")]
    failed_attempts: Annotated[int, Meta(description="Attempts that failed.")]
    refused: Annotated[int, Meta(description="Events that were refused, as a queue was full.")]
    skipped: Annotated[int, Meta(description="Deliveries that an open breaker held back.")]
    signature_rejections: Annotated[
        int, Meta(description="Attempts that were answered with 401 or 403.")
    ]
    size_rejections: Annotated[int, Meta(description="Events that were too large.")]


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A publisher's slot, which counts events, or a worker, which counts attempts; both since the data
    directory was made."""

    role: Annotated[
        Literal["publisher", "worker"],
        Meta(description="A publisher's slot counts events, a worker counts attempts."),
    ]
    name: Annotated[str, Meta(description="The name of the process's folder.")]
    accepted: Annotated[int, Meta(description="Events that the publisher accepted.")]
    refused: Annotated[int, Meta(description="Events that the publisher refused.")]
    filtered: Annotated[int, Meta(description="Events that filters left out.")]
    succeeded: Annotated[int, Meta(description="Attempts of the worker that succeeded.")]
    failed: Annotated[int, Meta(description="Attempts of the worker that failed.")]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A whole engine; `version` counts its configurations, `serving` its workers that take and send
    events."""

    at: Annotated[Time, Meta(description="The time of these figures.")]
    running: Annotated[bool, Meta(description="The engine runs.")]
    version: Annotated[
        int,
        Meta(description="The number of the configuration in force; each change makes a new one."),
    ]
    webhooks: Annotated[list[WebhookStatus], Meta(description="The figures of each webhook.")]
    totals: Annotated[Totals, Meta(description="Sums over all webhooks.")]
    processes: Annotated[list[ProcessStatus], Meta(description="The figures of each process.")]
    serving: Annotated[
        int | None, Meta(description="So many workers take and send events; null: not known.")
    ] = None


class HistoryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in the seconds before `at`, and how things stood then; null: it is not known, as
    where the engine or the admin process was down before.

    Rates are per second.
    """

    at: Annotated[Time, Meta(description="The end of these seconds.")]
    accepted: Annotated[float | None, Meta(description="Events accepted, per second.")]
    delivered: Annotated[float | None, Meta(description="Events delivered, per second.")]
    failed: Annotated[float | None, Meta(description="Attempts that failed, per second.")]
    dead: Annotated[float | None, Meta(description="Events that became dead letters, per second.")]
    pending: Annotated[
        int | None, Meta(description="Deliveries accepted and not ended, at this time.")
    ]
    past_due_s: Annotated[
        float | None,
        Meta(description="So long ago the latest due delivery was to be made, in seconds."),
    ]
    p50_ms: Annotated[
        float | None, Meta(description="Half of the delivered attempts took no longer.")
    ]
    p95_ms: Annotated[float | None, Meta(description="95 % of them took no longer.")]
    p99_ms: Annotated[float | None, Meta(description="99 % of them took no longer.")]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The last hour of one webhook, or of all together."""

    webhook: Annotated[str | None, Meta(description="Its name; null: all together.")]
    interval_s: Annotated[float, Meta(description="The seconds between two points.")]
    points: Annotated[
        list[HistoryPoint],
        Meta(
            description="The points, the earliest first; where more than two intervals lie between two "
            "of them, nothing is known of that time."
        ),
    ]


class Health(msgspec.Struct, frozen=True):
    """The process is there."""

    status: Annotated[Literal["ok"], Meta(description="The process answers.")] = "ok"


# ---- deliveries ------------------------------------------------------------------------------


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the beginning of an attempt to the end of each stage; None: it did not
    happen, or not by itself."""

    dns_ms: Annotated[float | None, Meta(description="The name was resolved.")]
    connect_ms: Annotated[float | None, Meta(description="The connection was open.")]
    tls_ms: Annotated[float | None, Meta(description="The TLS handshake was done.")]
    first_byte_ms: Annotated[float | None, Meta(description="The first byte of the answer came.")]
    total_ms: Annotated[float, Meta(description="The attempt was over.")]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `outcome` is delivered or the cause of the failure; `answer` its first bytes."""

    n: Annotated[int, Meta(description="The number of the attempt, from 1.")]
    started_at: Annotated[Time, Meta(description="The time when the attempt began.")]
    outcome: Annotated[str, Meta(description="`delivered`, or the cause of the failure.")]
    status: Annotated[
        int | None, Meta(description="The status code of the answer; null: there was none.")
    ]
    error: Annotated[str, Meta(description="The failure in words.")]
    worker: Annotated[int, Meta(description="The number of the worker that made the attempt.")]
    retry_after_s: Annotated[
        int | None, Meta(description="The seconds that the receiver asked for (Retry-After).")
    ]
    timings: Annotated[Timings, Meta(description="Where the time of the attempt went.")]
    answer: Annotated[str, Meta(description="The first bytes of the answer.")]


class AttemptRecord(Attempt, frozen=True, kw_only=True):
    """An attempt, and of what."""

    delivery_id: Annotated[DeliveryId, Meta(description="The id of the delivery.")]
    endpoint: Annotated[str, Meta(description="The name of the webhook.")]
    endpoint_id: Annotated[WebhookId, Meta(description="The id of the webhook.")]
    event_id: Annotated[EventId, Meta(description="The id of the event.")]
    type: Annotated[TypeName, Meta(description="The type of the event.")]


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook. `attempts` counts since it was accepted or replayed."""

    id: Annotated[DeliveryId, Meta(description="The id of the delivery.")]
    endpoint: Annotated[str, Meta(description="The name of the webhook.")]
    endpoint_id: Annotated[WebhookId, Meta(description="The id of the webhook.")]
    event_id: Annotated[EventId, Meta(description="The id of the event.")]
    type: Annotated[TypeName, Meta(description="The type of the event.")]
    topic: Annotated[str | None, Meta(description="The topic of the event.")]
    order_key: Annotated[str | None, Meta(description="The value by which the order is kept.")]
    traceparent: Annotated[str | None, Meta(description="The trace of the event (W3C).")]
    tracestate: Annotated[str | None, Meta(description="What tracing systems add to that.")]
    state: Annotated[DeliveryState, Meta(description="What became of the delivery so far.")]
    attempts: Annotated[int, Meta(description="Attempts since it was accepted or replayed.")]
    accepted_at: Annotated[Time, Meta(description="The time when the event was accepted.")]
    first_failed_at: Annotated[Time | None, Meta(description="The time of its first failure.")]
    due_at: Annotated[Time | None, Meta(description="The time of the next attempt.")]
    ended_at: Annotated[Time | None, Meta(description="The time when the delivery ended.")]
    cause: Annotated[
        str, Meta(description="The cause of the last failure, or the reason why it waits.")
    ]
    error: Annotated[str, Meta(description="The last failure in words.")]


class SentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the present configuration makes it; its signatures are not shown.

    `body` is text, or base64 where `encoding` says so.
    """

    method: Annotated[Literal["POST"], Meta(description="The method of the request.")] = "POST"
    url: Annotated[str, Meta(description="The URL of the request; its query is hidden.")]
    headers: Annotated[
        dict[str, str], Meta(description="The headers of the request; secrets are hidden.")
    ]
    body: Annotated[str, Meta(description="The body of the request.")]
    encoding: Annotated[
        Literal["utf-8", "base64"], Meta(description="`base64` where the body is no text.")
    ] = "utf-8"


class DeliveryDetail(Delivery, frozen=True, kw_only=True):
    """A delivery with every attempt, the oldest first. `request` is None once its body is erased."""

    history: Annotated[list[Attempt], Meta(description="Every attempt, the oldest first.")]
    request: Annotated[
        SentRequest | None, Meta(description="The request; null once the body is erased.")
    ]


class DeadLetterFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters: all that are given must hold. Times are when they died.

    `since` and `until` take a time, or a duration such as "15m" for that long ago.
    """

    endpoint: Annotated[str | None, Meta(description="The name or the id of a webhook.")] = None
    type: Annotated[TypeName | None, Meta(description="A type of events.")] = None
    cause: Annotated[str | None, Meta(description="The cause of the last failure.")] = None
    since: Annotated[
        str | None,
        Meta(
            description="Dead from this time on: a time, or a duration such as 15m for that long ago."
        ),
    ] = None
    until: Annotated[str | None, Meta(description="Dead before this time.")] = None
    limit: Annotated[int | None, Meta(description="So many at most, in this request.")] = None
    cursor: Annotated[
        str | None, Meta(description="The `next_cursor` of the answer before, to go on.")
    ] = None


class ReplayRequest(DeadLetterFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to deliver again."""


class PurgeRequest(DeadLetterFilter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to erase. Without any filter it takes `all`: true."""

    all: Annotated[bool, Meta(description="Without any filter: take every dead letter.")] = False


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many to attempt now, and from where on."""

    limit: Annotated[int | None, Meta(description="So many at most, in this request.")] = None
    cursor: Annotated[
        str | None, Meta(description="The `next_cursor` of the answer before, to go on.")
    ] = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How many were done. With a `next_cursor` there are more: send it with the same filter."""

    done: Annotated[int, Meta(description="So many were done.")]
    next_cursor: Annotated[
        str | None, Meta(description="There are more: send this cursor with the same filter.")
    ] = None


# ---- events ----------------------------------------------------------------------------------


class EventIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event to accept. `id` is for hosts with ids of their own."""

    type: Annotated[TypeName, Meta(description="The type of the event.")]
    data: Annotated[dict[str, Any] | None, Meta(description="The data of the event.")] = None
    topic: Annotated[
        str | None, Meta(description="The topic of the event, which topic filters match.")
    ] = None
    id: Annotated[EventId | None, Meta(description="An own id; by default a new one.")] = None
    traceparent: Annotated[str | None, Meta(description="Its trace; else the request's.")] = None
    tracestate: Annotated[str | None, Meta(description="What tracing systems add.")] = None


class Accepted(msgspec.Struct, frozen=True):
    """For how many endpoints an event was accepted; 0: none subscribed, or filters hold it back."""

    id: Annotated[EventId, Meta(description="The id of the event.")]
    endpoints: Annotated[
        int,
        Meta(description="Accepted for so many endpoints; 0: none subscribed, or all filter it."),
    ]


class AcceptedEvents(msgspec.Struct, frozen=True):
    """One entry for each event, in their order."""

    events: Annotated[list[Accepted], Meta(description="One entry for each event, in their order.")]


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A type, and the JSON schema of its data; None: any object. `topic` tells whether topic filters
    bind it. `version` is that of the schema, and `dataschema` what CloudEvents say of it; both are None
    for the host's own types."""

    type: Annotated[TypeName, Meta(description="The name of the type.")]
    catalog: Annotated[
        Literal["gateway", "broker", "host"],
        Meta(description="The catalog that has the type; `host` are the types of event_types."),
    ]
    topic: Annotated[bool, Meta(description="Topic filters bind events of this type.")]
    version: Annotated[
        str | None, Meta(description="The version of the schema; null for the host's own types.")
    ] = None
    dataschema: Annotated[
        str | None,
        Meta(description="The schema's name in CloudEvents; null for the host's own types."),
    ] = None
    schema: Annotated[
        dict[str, Any] | None, Meta(description="The JSON schema of the data; null: any object.")
    ]
