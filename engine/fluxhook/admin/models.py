"""What the API takes and answers, and what the dashboard shows.

Times are RFC 3339 in UTC with milliseconds; durations are written as in the YAML file. Secrets, the
values of headers, and what a URL may hide are `***`.
"""

from __future__ import annotations

from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Duration

__all__ = [
    "HIDDEN",
    "MAX_PAGE",
    "Accepted",
    "AcceptedEvents",
    "Attempt",
    "AttemptRecord",
    "CreatedWebhook",
    "Delivery",
    "DeliveryDetail",
    "EventIn",
    "EventType",
    "Filter",
    "Health",
    "LastError",
    "Page",
    "ProcessStatus",
    "Progress",
    "PurgeRequest",
    "ReplayRequest",
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

#: stands for a value that is not shown
HIDDEN: Final = "***"
#: rows of a page at most; arbitrary
MAX_PAGE: Final = 500

WebhookState = Literal[
    "active", "misconfigured", "paused", "disabled", "open", "half-open", "removed"
]
DeliveryState = Literal["waiting", "blocked", "delivered", "dead", "dropped"]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows, newest first, and the cursor for the rest; None: nothing is left."""

    items: list[T]
    next_cursor: str | None = None


# ---- webhooks --------------------------------------------------------------------------------


class Webhook(Endpoint, frozen=True, kw_only=True):
    """An endpoint as it is in force: its options with all defaults, and what became of it.

    `source` is file (the configuration's; it can be paused, resumed and tested) or api.
    """

    id: str
    source: Literal["file", "api"]
    state: WebhookState
    disabled_reason: str = ""
    #: why nothing can be sent, so that events wait
    misconfigured_reason: str = ""
    created_at: str | None = None
    updated_at: str | None = None
    #: how many former secrets sign beside the present one, and until when
    expiring_secrets: int = 0
    secrets_expire_at: str | None = None
    #: what its owner should know
    notices: tuple[str, ...] = ()


class CreatedWebhook(Webhook, frozen=True, kw_only=True):
    """`secret` is shown this once, and only if it was generated."""

    secret: str | None = None


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Without a `secret` one is generated. The former one goes on signing for the `overlap`, 24 hours
    by default."""

    secret: str | None = None
    overlap: Duration | None = None


class RotatedSecret(msgspec.Struct, frozen=True, kw_only=True):
    """`secret` is shown this once, and only if it was generated."""

    secret: str | None
    generated: bool
    former_expires_at: str


class TestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The event to send, to this webhook only."""

    __test__ = False  # pytest takes the name for that of a test

    type: str = "webhook.test"
    data: dict[str, Any] | None = None


class TestSent(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look what became of it: /v1/deliveries/{delivery_id}."""

    __test__ = False

    event_id: str
    delivery_id: str


# ---- status ----------------------------------------------------------------------------------


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """The latest failed attempt."""

    at: str
    cause: str
    error: str


class WebhookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """accepted = delivered + dead + dropped + aggregated + pending; pending = queued + stored.

    `queued` stands in the rings, `stored` in the store. Latencies are of successful attempts;
    `success_rate` is the share of attempts that succeeded; `reuse` that of the requests which found a
    connection open. `stages_ms` says where the time of requests went: queue, sign, dns, connect, tls,
    first_byte, total, of samples.
    """

    id: str
    name: str
    url: str
    state: WebhookState
    disabled_reason: str
    accepted: int
    delivered: int
    dead: int
    dropped: dict[str, int]
    pending: int
    queued: int
    stored: int
    refused: int
    filtered: int
    aggregated: int
    skipped: int
    failed_attempts: int
    signature_rejections: int
    size_rejections: int
    success_rate: float | None
    latency_ms: dict[str, float] | None
    stages_ms: dict[str, dict[str, float]]
    reuse: float | None
    oldest_pending_at: str | None
    next_retry_at: str | None
    failing_since: str | None
    last_error: LastError | None
    #: why nothing can be sent, so that events wait; of the state misconfigured
    misconfigured_reason: str = ""
    #: it is paused, whatever its state is besides
    paused: bool = False
    #: attempts and reports that an error of the engine's own ended
    faults: int = 0
    #: when an open breaker lets its next request go; null where it may already
    next_probe_at: str | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over all webhooks, those included that were removed."""

    accepted: int
    delivered: int
    dead: int
    dropped: int
    aggregated: int
    pending: int
    failed_attempts: int
    refused: int
    skipped: int
    signature_rejections: int
    size_rejections: int


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A publisher's slot, which counts events, or a worker, which counts attempts; both since the data
    directory was made."""

    role: Literal["publisher", "worker"]
    name: str
    accepted: int
    refused: int
    filtered: int
    succeeded: int
    failed: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A whole engine; `version` counts its configurations, `serving` its workers that take and send
    events."""

    at: str
    running: bool
    version: int
    webhooks: list[WebhookStatus]
    totals: Totals
    processes: list[ProcessStatus]
    serving: int | None = None


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok"] = "ok"


# ---- deliveries ------------------------------------------------------------------------------


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the beginning of an attempt to the end of each stage; None: it did not
    happen, or not by itself."""

    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `outcome` is delivered or the cause of the failure; `answer` its first bytes."""

    n: int
    started_at: str
    outcome: str
    status: int | None
    error: str
    worker: int
    retry_after_s: int | None
    timings: Timings
    answer: str


class AttemptRecord(Attempt, frozen=True, kw_only=True):
    """An attempt, and of what."""

    delivery_id: str
    endpoint: str
    endpoint_id: str
    event_id: str
    type: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook. `attempts` counts since it was accepted or replayed."""

    id: str
    endpoint: str
    endpoint_id: str
    event_id: str
    type: str
    topic: str | None
    order_key: str | None
    state: DeliveryState
    attempts: int
    accepted_at: str
    first_failed_at: str | None
    due_at: str | None
    ended_at: str | None
    cause: str
    error: str


class SentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the present configuration makes it; its signatures are not shown.

    `body` is text, or base64 where `encoding` says so.
    """

    method: Literal["POST"] = "POST"
    url: str
    headers: dict[str, str]
    body: str
    encoding: Literal["utf-8", "base64"] = "utf-8"


class DeliveryDetail(Delivery, frozen=True, kw_only=True):
    """A delivery with every attempt, the oldest first. `request` is None once its body is erased."""

    history: list[Attempt]
    request: SentRequest | None


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters: all that are given must hold. Times are when they died.

    `since` and `until` take a time, or a duration such as "15m" for that long ago.
    """

    endpoint: str | None = None
    type: str | None = None
    cause: str | None = None
    since: str | None = None
    until: str | None = None
    #: how many at most, in this request
    limit: int | None = None
    #: of the answer before, to go on
    cursor: str | None = None


class ReplayRequest(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to deliver again."""


class PurgeRequest(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters to erase. Without any filter it takes `all`: true."""

    all: bool = False


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How many were done. With a `next_cursor` there are more: send it with the same filter."""

    done: int
    next_cursor: str | None = None


# ---- events ----------------------------------------------------------------------------------


class EventIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event to accept. `id` is for hosts with ids of their own."""

    type: str
    data: dict[str, Any] | None = None
    topic: str | None = None
    id: str | None = None


class Accepted(msgspec.Struct, frozen=True):
    """For how many endpoints an event was accepted; 0: none subscribed to it."""

    id: str
    endpoints: int


class AcceptedEvents(msgspec.Struct, frozen=True):
    """One entry for each event, in their order."""

    events: list[Accepted]


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A type, and the JSON schema of its data; None: any object. `topic` tells whether topic filters
    bind it. `version` is that of the schema, and `dataschema` what CloudEvents say of it; both are None
    for the host's own types."""

    type: str
    catalog: Literal["gateway", "broker", "host"]
    topic: bool
    version: str | None = None
    dataschema: str | None = None
    schema: dict[str, Any] | None
