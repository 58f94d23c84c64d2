"""An endpoint as frozen structs, with every default filled in: FluxGate's.

Durations are `Duration` values ("250ms", "3s", "2m", "1h30m"), sizes are `Size` values (1024,
"64KiB"). Each option is declared here, once, with all that is said of it (`config/option.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from fluxhook.config.option import Limit, option, size_limit, span_limit
from fluxhook.config.pem import has_private_key
from fluxhook.config.secret import Secret
from fluxhook.config.units import Duration, Rate, Size, Threshold
from fluxhook.events.envelope import EnvelopeStyle

__all__ = [
    "Aggregate",
    "Batch",
    "BatchFormat",
    "Breaker",
    "Compression",
    "Endpoint",
    "EnvelopeStyle",
    "Retry",
    "SignatureProfile",
    "Tls",
    "hide",
]

SignatureProfile = Literal["fluxgate", "standard", "stripe", "github", "none"]
BatchFormat = Literal["json", "ndjson", "cloudevents"]
Compression = Literal["none", "gzip", "zstd"]


def hide(value: str) -> str:
    """Return a text that is a secret; a value of another type is left alone, for the check to name."""
    return Secret(value) if isinstance(value, str) else value


_set = msgspec.structs.force_setattr


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a failed attempt is repeated.

    With a `schedule` its delays hold. Without it the delays grow exponentially: the first is
    `initial_interval`, and each further one is `multiplier` times the one before, up to `max_interval`.
    """

    schedule: Annotated[
        tuple[Duration, ...] | None,
        option(
            "The delays after the first failure, in ascending order.",
            title="Retry schedule",
            example=["15s", "2m", "10m", "1h"],
            entries=100,
            flag="--retry-schedule",
            metavar="DELAYS",
        ),
    ] = None
    max_attempts: Annotated[
        int | None,
        option(
            "At most so many attempts, the first included. With a schedule the default is one more "
            "than it has delays.",
            title="Attempts at most",
            example=5,
            limit=Limit(1, 10_000),
            flag="--max-attempts",
        ),
    ] = None
    # Without a pause a failing receiver would be hammered.
    initial_interval: Annotated[
        Duration,
        option(
            "The delay before the first retry. A schedule replaces it.",
            title="First delay",
            example="1s",
            limit=span_limit("1ms", "720h"),
        ),
    ] = Duration.parse("1s")
    max_interval: Annotated[
        Duration,
        option(
            "No delay is longer than this. A schedule replaces it.",
            title="Longest delay",
            example="30s",
            limit=span_limit("1ms", "720h"),
        ),
    ] = Duration.parse("30s")
    multiplier: Annotated[
        float,
        option(
            "Each delay is so many times the one before. A schedule replaces it.",
            title="Growth of delays",
            example=2,
            limit=Limit(1.0, 1000.0),
        ),
    ] = 2.0
    jitter: Annotated[
        float,
        option(
            "Each delay is shortened at random, by up to this share of it.",
            title="Jitter of delays",
            example=0.1,
            limit=Limit(0.0, 1.0),
        ),
    ] = 0.0
    retry_on: Annotated[
        tuple[str, ...],
        option(
            "The failures that are tried again: transport, timeout, a class of status codes, or one "
            "status code. Any other failure ends the delivery.",
            title="Failures to try again",
            example=["transport", "timeout", "5xx", "429"],
            entries=100,
        ),
    ] = ("transport", "timeout", "3xx", "4xx", "5xx")
    max_retry_after: Annotated[
        Duration,
        option(
            "A receiver's Retry-After is honoured up to this; a longer one is cut to it.",
            title="Longest Retry-After",
            example="1h",
            limit=span_limit("0s", "720h"),
        ),
    ] = Duration.parse("1h")


class Breaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Holds deliveries back from a receiver that fails again and again."""

    failure_threshold: Annotated[
        int,
        option(
            "After so many failures in a row the breaker opens: deliveries wait instead of being "
            "attempted.",
            title="Failures that open the breaker",
            example=5,
            limit=Limit(1, 1_000_000),
        ),
    ] = 5
    reset_timeout: Annotated[
        Duration,
        option(
            "After this time an open breaker lets one delivery through, whose success closes it.",
            title="Pause before a probe",
            example="60s",
            limit=span_limit("1ms", "720h"),
        ),
    ] = Duration.parse("60s")


class Aggregate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes one notification of the events of some types that arrive within a window.

    The window begins with the first of them. The notification has their number, and the first
    `originals` of them. FluxGate aggregates "to prevent webhook storms during outages"; ten seconds are
    ours: soon enough for those on call, and 360 requests in an hour of outage.
    """

    window: Annotated[
        Duration | None,
        option(
            "Make one notification of the failures that occur within this time; 0s sends each of them.",
            title="Aggregation window",
            example="30s",
            limit=span_limit("100ms", "24h", or_off=True),
            flag="--aggregate-window",
        ),
    ] = Duration.parse("10s")
    types: Annotated[
        tuple[str, ...],
        option(
            "The event types, or namespaces, that count as failures. The default are those that "
            "FluxGate aggregates.",
            title="Aggregated types",
            example=["service.5xx"],
            entries=100,
            flag="--aggregate-type",
            metavar="TYPE",
        ),
    ] = ("service.5xx", "tls.handshake.fail", "circuit.broken")
    # Each window is one notification: its originals go into one body.
    originals: Annotated[
        int,
        option(
            "So many of the events stand in the notification, the first ones.",
            title="Originals in a notification",
            example=5,
            limit=Limit(0, 100),
        ),
    ] = 5


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts several events into one POST, signed as one.

    A batch goes out when it has `max_events` events or `max_bytes` bytes, and when its oldest event has
    waited for `max_delay`.
    """

    max_events: Annotated[
        int | None,
        option(
            "Send up to so many events in one request. Without it each event has a request of its own.",
            title="Batch size",
            example=100,
            limit=Limit(1, 1000),
        ),
    ] = None
    max_delay: Annotated[
        Duration,
        option(
            "An event waits no longer than this for others to share its request.",
            title="Longest wait for a batch",
            example="50ms",
            limit=span_limit("1ms", "1m"),
        ),
    ] = Duration.parse("50ms")
    format: Annotated[
        BatchFormat,
        option(
            "The form of the body of a batch.",
            title="Batch format",
            example="ndjson",
            choices={
                "json": "a JSON array of the envelopes",
                "ndjson": "one envelope a line",
                "cloudevents": "the CloudEvents batch format",
            },
        ),
    ] = "json"
    max_bytes: Annotated[
        Size,
        option(
            "A batch has at most so many bytes before compression. A larger event goes alone.",
            title="Largest batch",
            example="1MiB",
            limit=size_limit("1KiB", "64MiB"),
        ),
    ] = Size.parse("1MiB")


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The certificates of connections to a receiver: paths of PEM files, or their text."""

    ca: Annotated[
        str | None,
        option(
            "The certificate authorities that may vouch for the receiver, instead of the system's.",
            example="/etc/fluxhook/ca.pem",
        ),
    ] = None
    cert: Annotated[
        str | None,
        option(
            "The client certificate that is shown to the receiver. It needs a key.",
            example="/etc/fluxhook/client.pem",
        ),
    ] = None
    key: Annotated[
        str | None,
        option(
            "The private key of the client certificate.",
            example="/etc/fluxhook/client.key",
        ),
    ] = None

    def __post_init__(self) -> None:
        """Hide a key that is written out."""
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if isinstance(value, str) and has_private_key(value):
                _set(self, name, Secret(value))


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver and what is sent to it. The defaults are FluxGate's."""

    name: Annotated[
        str,
        option(
            "The name of the endpoint in metrics, in the API and on the command line.",
            example="billing",
        ),
    ]
    url: Annotated[
        str,
        option(
            "Deliveries are sent to this URL.",
            title="URL",
            example="https://hooks.example.com/fluxgate",
            flag="--url",
            metavar="URL",
        ),
    ]
    type: Annotated[
        Literal["http"], option("The protocol of the receiver.", title="Protocol", example="http")
    ] = "http"
    events: Annotated[
        tuple[str, ...],
        option(
            'The event types that it gets, namespaces such as "route.*", or "*" for all. An empty list '
            "means all but the engine's own (webhook.*).",
            example=["route.error", "service.*"],
            entries=200,
            flag="--type",
            metavar="TYPE",
        ),
    ] = ()
    topic_filters: Annotated[
        tuple[str, ...],
        option(
            "MQTT topic filters, for events that have a topic. An empty list means all topics.",
            example=["sensors/+/temperature"],
            entries=200,
            flag="--topic-filter",
            metavar="FILTER",
            one_a_line=True,
        ),
    ] = ()
    # Asked in `emit`, a third of a microsecond for each.
    where: Annotated[
        tuple[str, ...],
        option(
            "Conditions on the data of an event; all of them must hold.",
            title="Conditions on the data",
            example=["status_code >= 500"],
            entries=32,
            flag="--where",
            metavar="CONDITION",
            one_a_line=True,
        ),
    ] = ()
    # One event in a million; who wants none pauses the endpoint.
    sample: Annotated[
        float,
        option(
            "Forward only this share of the events. An event's id decides whether it is forwarded.",
            example=0.1,
            limit=Limit(0.000001, 1.0),
            flag="--sample",
            metavar="SHARE",
        ),
    ] = 1.0
    threshold: Annotated[
        Threshold | None,
        option(
            "Forward only the events that exceed this rate of their type.",
            example="100/s over 10s",
            flag="--threshold",
        ),
    ] = None
    headers: Annotated[
        dict[str, str],
        option(
            "Headers to send with each request.",
            example={"X-Team": "billing"},
            entries=64,
            flag="--header",
            metavar='"NAME: VALUE"',
            hidden=True,
        ),
    ] = {}
    # Each of them signs each request.
    secrets: Annotated[
        tuple[str, ...],
        option(
            "The signing secrets, newest first. Each of them signs. One is needed unless the signature "
            "is none.",
            example=["sk_live_9x8m2p"],
            entries=16,
            hidden=True,
        ),
    ] = ()
    signature: Annotated[
        SignatureProfile,
        option(
            "The signature profile: which header carries the signature, and of what.",
            example="standard",
            flag="--signature",
            metavar="PROFILE",
            choices={
                "fluxgate": "FluxGate: X-FluxGate-Signature",
                "standard": "Standard Webhooks: webhook-signature",
                "stripe": "Stripe: Stripe-Signature",
                "github": "GitHub: X-Hub-Signature-256",
                "none": "None: requests are not signed",
            },
        ),
    ] = "fluxgate"
    envelope: Annotated[
        EnvelopeStyle,
        option(
            "The form in which an event is sent.",
            example="cloudevents",
            flag="--envelope",
            metavar="STYLE",
            choices={
                "native": "Native: the gateway's or broker's",
                "gateway": "The gateway's",
                "broker": "The broker's",
                "cloudevents": "CloudEvents 1.0",
                "standard": "Standard Webhooks",
            },
        ),
    ] = "native"
    # libcurl takes 0 for "never".
    timeout: Annotated[
        Duration,
        option(
            "An attempt may take so long, the time to connect included.",
            example="3s",
            limit=span_limit("1ms", "1h"),
            flag="--timeout",
        ),
    ] = Duration.parse("3s")
    connect_timeout: Annotated[
        Duration,
        option(
            "A connection must be open after this time, with its TLS handshake.",
            title="Time to connect",
            example="3s",
            limit=span_limit("1ms", "1h"),
        ),
    ] = Duration.parse("3s")
    retry: Retry = Retry(
        schedule=tuple(map(Duration.parse, ("15s", "2m", "10m", "1h"))), jitter=0.1
    )
    circuit_breaker: Breaker = Breaker()
    concurrency: Annotated[
        int,
        option(
            "At most so many requests are under way at a time, over all workers.",
            title="Requests at a time, at most",
            example=64,
            limit=Limit(1, 65_536),
            flag="--concurrency",
        ),
    ] = 64
    rate_limit: Annotated[
        Rate | None,
        option(
            "Make at most so many requests; a burst may go at once.",
            example="100/s burst 20",
            flag="--rate-limit",
        ),
    ] = None
    aggregate: Aggregate = Aggregate()
    batch: Batch = Batch()
    compression: Annotated[
        Compression,
        option(
            'The compression of bodies that are worth it; "zstd" needs the package zstandard.',
            example="gzip",
        ),
    ] = "none"
    http_version: Annotated[
        Literal["1.1", "2"],
        option(
            'The version of HTTP. "2" over http:// needs a receiver that speaks it from the first byte '
            "(RFC 9113 section 3.3).",
            title="HTTP version",
            example="2",
        ),
    ] = "1.1"
    max_payload: Annotated[
        Size | None,
        option(
            "Never send larger bodies: they are counted as size rejections, and become dead letters.",
            title="Payload at most",
            example="64KiB",
            limit=size_limit("1B", "256MiB"),
            flag="--max-payload",
        ),
    ] = None
    ttl: Annotated[
        Duration | None,
        option(
            "Drop events that are older than this instead of attempting them.",
            title="Time to live",
            example="24h",
            limit=span_limit("1ms", "87600h"),
            flag="--ttl",
        ),
    ] = None
    ordered: Annotated[
        bool,
        option(
            "Keep the order of events: each is sent after the answer to the one before.",
            title="Deliver one at a time, in order",
            example=True,
            flag="--ordered/--no-ordered",
        ),
    ] = False
    order_key: Annotated[
        str | None,
        option(
            "Keep the order only among events with the same value of this data field.",
            example="device_id",
            flag="--order-key",
            metavar="FIELD",
        ),
    ] = None
    on_head_failure: Annotated[
        Literal["block", "park"],
        option(
            "The rest of an ordered endpoint's events either wait behind an event that fails, or go on "
            "without it.",
            title="Behind a failing event",
            example="park",
            choices={
                "block": "Block: the events behind it wait",
                "park": "Park: it is set aside, and the others go on",
            },
        ),
    ] = "block"
    tls: Tls = Tls()
    proxy: Annotated[
        str | None,
        option(
            "Requests go through this proxy: an http, https, socks5 or socks5h URL.",
            example="http://proxy.example.com:3128",
            hidden=True,
        ),
    ] = None
    paused: Annotated[
        bool, option("Its events wait in the store until it is resumed.", example=True)
    ] = False
    disable_on_gone: Annotated[
        bool,
        option(
            "Disable it when it answers 410, instead of trying again.",
            title="Disable it when it answers 410",
            example=True,
            flag="--disable-on-gone",
        ),
    ] = False
    disable_after: Annotated[
        Duration | None,
        option(
            "Disable it when every attempt has failed for this long. Without it this never happens.",
            example="24h",
            limit=span_limit("1s", "87600h"),
            flag="--disable-after",
        ),
    ] = None
    record: Annotated[
        Literal["failures", "all"],
        option(
            "The deliveries that can be looked at later, for the time of the retention.",
            title="Keep a record of every delivery, not only of those that failed at first",
            example="all",
            flag="--record",
            metavar="WHICH",
            choices={
                "failures": "those that did not succeed at once",
                "all": "every delivery",
            },
            tick="all",
        ),
    ] = "failures"

    def __post_init__(self) -> None:
        """Hide what must not be shown; the values stay what they are, and stay str.

        A value of the wrong type is left alone: `config.check` reports it.
        """
        if isinstance(self.secrets, tuple) and self.secrets:
            _set(self, "secrets", tuple(map(hide, self.secrets)))
        if isinstance(self.headers, dict) and self.headers:
            _set(self, "headers", {name: hide(value) for name, value in self.headers.items()})
        # A proxy's URL holds a password before its "@".
        if isinstance(self.proxy, str) and "@" in self.proxy:
            _set(self, "proxy", hide(self.proxy))
