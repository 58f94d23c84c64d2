"""The configuration as frozen structs: what the YAML says, with every default filled in.

Durations are `Duration` values ("250ms", "3s", "2m", "1h30m"), sizes are `Size` values (1024,
"64KiB").
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fluxhook.config.pem import has_private_key
from fluxhook.config.secret import Secret
from fluxhook.config.units import Duration, Rate, Size, Threshold
from fluxhook.events.envelope import EnvelopeStyle

__all__ = [
    "Admin",
    "Aggregate",
    "Batch",
    "BatchFormat",
    "Breaker",
    "Compression",
    "Config",
    "DropPolicy",
    "Endpoint",
    "EnvelopeStyle",
    "Retry",
    "Scope",
    "SignatureProfile",
    "Tls",
    "Token",
]

SignatureProfile = Literal["fluxgate", "standard", "stripe", "github", "none"]
DropPolicy = Literal["oldest", "newest", "block"]
BatchFormat = Literal["json", "ndjson", "cloudevents"]
Compression = Literal["none", "gzip", "zstd"]
Scope = Literal["read", "write", "emit"]


def _hidden(value: str) -> str:
    return Secret(value) if isinstance(value, str) else value


_set = msgspec.structs.force_setattr


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a failed attempt is repeated.

    With `schedule`, the delays after the first failure, ascending; without it, exponential backoff
    `min(initial_interval * multiplier**n, max_interval)`, n = 0 for the first retry. `jitter` in
    [0, 1] shortens a delay by up to that share, so that no cap is ever passed. `max_attempts`
    counts attempts, the first included; with a schedule it defaults to its length plus one.
    """

    schedule: tuple[Duration, ...] | None = None
    max_attempts: int | None = None
    initial_interval: Duration = Duration.parse("1s")
    max_interval: Duration = Duration.parse("30s")
    multiplier: float = 2.0
    jitter: float = 0.0
    #: what is tried again: "transport", "timeout", a class such as "5xx", or a status such as "429"
    retry_on: tuple[str, ...] = ("transport", "timeout", "3xx", "4xx", "5xx")
    #: the longest Retry-After that is honoured; a longer one is cut to it
    max_retry_after: Duration = Duration.parse("1h")


class Breaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Opens after `failure_threshold` consecutive failures; probes after `reset_timeout`."""

    failure_threshold: int = 5
    reset_timeout: Duration = Duration.parse("60s")


class Aggregate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Makes one notification of the events of some types that arrive within a window.

    The window begins with the first of them; "0s" turns it off. The notification has their number
    and the first `originals` of them. FluxGate aggregates "to prevent webhook storms during outages";
    ten seconds are ours: soon enough for whoever is on call, and 360 requests in an hour of outage.
    """

    window: Duration | None = Duration.parse("10s")
    #: types or namespaces; those that FluxGate aggregates
    types: tuple[str, ...] = ("service.5xx", "tls.handshake.fail", "circuit.broken")
    originals: int = 5


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts several events into one POST, signed as one.

    Off without `max_events`. A batch goes out when it has that many events or `max_bytes` of them, and
    when its oldest has waited for `max_delay`. An event over `max_bytes` goes alone.
    """

    max_events: int | None = None
    max_delay: Duration = Duration.parse("50ms")
    #: an array of the envelopes, one envelope a line, or the CloudEvents batch format
    format: BatchFormat = "json"
    #: of the body before it is compressed
    max_bytes: Size = Size.parse("1MiB")


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PEM files, or their text: `ca` replaces the system's authorities, the others are the client's."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Hides a key that is written out."""
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if isinstance(value, str) and has_private_key(value):
                _set(self, name, Secret(value))


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver and what is sent to it. The defaults are FluxGate's."""

    name: str
    url: str
    type: Literal["http"] = "http"
    #: exact types, namespaces `route.*`, or `*`; empty means all but the engine's own (`webhook.*`)
    events: tuple[str, ...] = ()
    #: MQTT topic filters; they bind events that have a topic name, or are about a topic filter; empty
    #: means all
    topic_filters: tuple[str, ...] = ()
    #: conditions on the data, all of which must hold, such as "status_code >= 500"
    where: tuple[str, ...] = ()
    #: the share of the events that is forwarded, chosen by the event's id
    sample: float = 1.0
    #: forward only events that exceed this rate of their type
    threshold: Threshold | None = None
    headers: dict[str, str] = {}
    #: active signing secrets, newest first; each of them signs; needed unless `signature` is "none"
    secrets: tuple[str, ...] = ()
    signature: SignatureProfile = "fluxgate"
    envelope: EnvelopeStyle = "native"
    timeout: Duration = Duration.parse("3s")
    connect_timeout: Duration = Duration.parse("3s")
    retry: Retry = Retry(
        schedule=tuple(map(Duration.parse, ("15s", "2m", "10m", "1h"))), jitter=0.1
    )
    circuit_breaker: Breaker = Breaker()
    #: at most this many requests at a time, over all workers
    concurrency: int = 64
    rate_limit: Rate | None = None
    aggregate: Aggregate = Aggregate()
    batch: Batch = Batch()
    #: of bodies that are worth it; "zstd" needs the package zstandard
    compression: Compression = "none"
    #: "2" over http:// needs a receiver that speaks it from the first byte (RFC 9113 section 3.3)
    http_version: Literal["1.1", "2"] = "1.1"
    #: bodies above this are never sent; they are counted as size rejections and dead-lettered
    max_payload: Size | None = None
    #: events older than this are dropped instead of attempted
    ttl: Duration | None = None
    ordered: bool = False
    #: the field of `data` within whose values the order is kept; None: one order for all
    order_key: str | None = None
    #: what an ordered endpoint does behind a failing head: wait for it, or set it aside
    on_head_failure: Literal["block", "park"] = "block"
    tls: Tls = Tls()
    #: an http, https, socks5 or socks5h URL
    proxy: str | None = None
    paused: bool = False
    #: a 410 ends the delivery and disables the endpoint; otherwise it is tried again like any 4xx
    disable_on_gone: bool = False
    #: disables the endpoint after this long of nothing but failure; None: never
    disable_after: Duration | None = None
    #: which deliveries the store keeps for the retention: those that did not succeed at once, or all
    record: Literal["failures", "all"] = "failures"

    def __post_init__(self) -> None:
        """Hides what must not be shown; the values stay what they are, and stay str.

        A value of the wrong type is left alone: `config.check` reports it.
        """
        if isinstance(self.secrets, tuple) and self.secrets:
            _set(self, "secrets", tuple(map(_hidden, self.secrets)))
        if isinstance(self.headers, dict) and self.headers:
            _set(self, "headers", {name: _hidden(value) for name, value in self.headers.items()})
        # A proxy's URL holds a password before its "@".
        if isinstance(self.proxy, str) and "@" in self.proxy:
            _set(self, "proxy", _hidden(self.proxy))


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bearer token of the admin API, and what it allows."""

    token: str
    scopes: tuple[Scope, ...] = ("read", "write", "emit")
    #: who has it, for the log
    name: str = ""

    def __post_init__(self) -> None:
        _set(self, "token", _hidden(self.token))


class Admin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The admin API and the dashboard of `fluxhook serve`. Outside loopback it needs a token.

    On loopback it is open without `tokens`: every user and program of the machine may do everything.
    """

    enabled: bool = True
    listen: str = "127.0.0.1:8090"
    tokens: tuple[Token, ...] = ()
    #: whether a token is needed on loopback too, be there `tokens` or none
    require_token: bool = False
    dashboard: bool = True
    #: of a request to the API
    max_body: Size = Size.parse("8MiB")
    #: PEM files; with them it speaks HTTPS
    cert: str | None = None
    key: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole engine. `ConfigError` names everything that is wrong with one."""

    endpoints: tuple[Endpoint, ...] = ()
    enabled: bool = True
    #: records that may wait per publisher; above it `drop_policy` decides
    queue_size: int = 10_000
    drop_policy: DropPolicy = "oldest"
    #: how long `block` waits for room before it refuses
    block_timeout: Duration = Duration.parse("1s")
    #: bytes of records that may wait per publisher, over all of its rings
    ring_bytes: Size = Size.parse("64MiB")
    max_event_bytes: Size = Size.parse("1MiB")
    #: worker processes, a bounded number of them; None: one per core, at most 4
    workers: int | None = None
    max_publishers: int = 64
    max_endpoints: int = 4096
    #: "process", "power", or "interval:<duration>"
    durability: str = "process"
    include_payload: bool = False
    shutdown_timeout: Duration = Duration.parse("30s")
    #: how long a failed event can be looked at and replayed before it is purged
    retention: Duration = Duration.parse("24h")
    #: a file of the audit trail, and how many of them are kept
    audit_bytes: Size = Size.parse("64MiB")
    audit_files: int = 8
    #: networks in private or special ranges that deliveries may reach
    allow_networks: tuple[str, ...] = ()
    #: types of the host's own, beside the two catalogs
    event_types: tuple[str, ...] = ()
    #: the envelope of the host's own types, and of events in neither catalog
    native_envelope: Literal["gateway", "broker"] = "gateway"
    gateway_node: str | None = None
    broker_id: str | None = None
    data_dir: str | None = None
    #: below it are the TLS files that endpoints created at run time may name; None: they name none
    tls_folder: str | None = None
    #: whether the `headers` of `defaults` are sent to endpoints that are created at run time too, whose
    #: URL may be anybody's
    share_default_headers: bool = False
    admin: Admin = Admin()
    #: options of an endpoint, as the file writes them, that lie below those of endpoints created at
    #: run time
    defaults: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Hides the secrets of `defaults`, as those of an endpoint are."""
        if isinstance(self.defaults, dict) and self.defaults:
            _set(self, "defaults", {key: _hidden_in(key, v) for key, v in self.defaults.items()})


def _hidden_in(key: str, value: Any) -> Any:
    if key == "headers" and isinstance(value, dict):
        return {name: _hidden(text) for name, text in value.items()}
    if key == "secrets" and isinstance(value, (list, tuple)):
        return [_hidden(text) for text in value]
    if key == "tls" and isinstance(value, dict):
        return {
            name: _hidden(text) if isinstance(text, str) and has_private_key(text) else text
            for name, text in value.items()
        }
    return _hidden(value) if key in ("secret", "proxy") else value
