"""The configuration as frozen structs: what the YAML says, with every default filled in.

Here stand the options of the engine; those of an endpoint stand in `config/endpoint_schema.py`. Each is
declared once, with all that is said of it (`config/option.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from fluxhook.config.endpoint_schema import (
    Aggregate,
    Batch,
    BatchFormat,
    Breaker,
    Compression,
    Endpoint,
    EnvelopeStyle,
    Retry,
    SignatureProfile,
    Tls,
    hide,
)
from fluxhook.config.option import Limit, option, size_limit, span_limit
from fluxhook.config.pem import has_private_key
from fluxhook.config.units import Duration, Size

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
    "LogOptions",
    "Retry",
    "Scope",
    "SignatureProfile",
    "Tls",
    "Token",
]

DropPolicy = Literal["oldest", "newest", "block"]
Scope = Literal["read", "write", "emit"]

_set = msgspec.structs.force_setattr


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bearer token of the admin API, and what it allows."""

    token: Annotated[
        str,
        option(
            "The token: at least 16 letters, digits and -._~+/.",
            example="${ADMIN_TOKEN}",
            hidden=True,
        ),
    ]
    scopes: Annotated[
        tuple[Scope, ...],
        option(
            "What it allows: to read, to change (write), and to hand events in (emit).",
            example=["read"],
            entries=3,
        ),
    ] = ("read", "write", "emit")
    name: Annotated[
        str, option("The name of its owner, for the trail of changes.", example="grafana")
    ] = ""

    def __post_init__(self) -> None:
        _set(self, "token", hide(self.token))


class Admin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The admin API and the dashboard of `fluxhook serve`. Outside loopback it needs a token.

    On loopback it is open without `tokens`: every user and program of the machine may do everything.
    """

    enabled: Annotated[bool, option("Run the admin API.", example=False)] = True
    listen: Annotated[
        str,
        option(
            "The address and port on which the admin API and the dashboard listen; port 0 takes a free "
            "one.",
            example="0.0.0.0:8090",
        ),
    ] = "127.0.0.1:8090"
    tokens: Annotated[
        tuple[Token, ...],
        option(
            "The bearer tokens that are known.",
            example=[{"token": "${ADMIN_TOKEN}", "name": "operators"}],
            entries=200,
            hidden=True,
        ),
    ] = ()
    require_token: Annotated[
        bool,
        option(
            "Ask for a token on loopback too, with or without `tokens`.",
            example=True,
        ),
    ] = False
    dashboard: Annotated[bool, option("Serve the dashboard beside the API.", example=False)] = True
    max_body: Annotated[
        Size,
        option(
            "The largest body of a request to the API.",
            example="8MiB",
            limit=size_limit("1KiB", "256MiB"),
        ),
    ] = Size.parse("8MiB")
    cert: Annotated[
        str | None,
        option(
            "The PEM file of the API's certificate. With it and a key the API speaks HTTPS.",
            example="/etc/fluxhook/admin.pem",
        ),
    ] = None
    key: Annotated[
        str | None,
        option("The PEM file of the certificate's private key.", example="/etc/fluxhook/admin.key"),
    ] = None
    metrics_endpoints: Annotated[
        int,
        option(
            "So many endpoints have metrics of their own, the first by their ids; the others are added "
            "up under the name `other`. 0: the metrics have no label `endpoint`, and are sums over "
            "all.",
            example=0,
            limit=Limit(0, 65_536),
        ),
    ] = 500
    root_path: Annotated[
        str,
        option(
            "The path below which a proxy shows the API and the dashboard; their links begin with it. "
            "Requests are answered with and without it.",
            example="/hooks",
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        option(
            "The addresses or networks of proxies that say truly, in X-Forwarded-For and "
            "X-Forwarded-Proto, who made a request and how. From others both are ignored.",
            example=["127.0.0.1"],
            entries=100,
        ),
    ] = ()


class LogOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log of the engine: on standard error, or in the `logging` of the host that embeds it."""

    format: Annotated[
        Literal["text", "json"],
        option(
            "How a line is written on standard error.",
            example="json",
            choices={
                "text": "a text for people, then the fields as key=value",
                "json": "a JSON object",
            },
        ),
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        option("Lines below this level are left out.", example="warning"),
    ] = "info"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole engine. `ConfigError` names everything that is wrong with one."""

    endpoints: Annotated[
        tuple[Endpoint, ...],
        option("The receivers, each with its options.", entries=65_536),
    ] = ()
    enabled: Annotated[
        bool,
        option(
            "Deliver. Where it is false new events are ignored, and what was accepted is held.",
            example=False,
        ),
    ] = True
    queue_size: Annotated[
        int,
        option(
            "So many events of a publisher may wait; beyond that `drop_policy` decides.",
            example=100_000,
            limit=Limit(1, 100_000_000),
        ),
    ] = 10_000
    drop_policy: Annotated[
        DropPolicy,
        option(
            "What happens to an event for which the queue has no room.",
            example="newest",
            choices={
                "oldest": "the oldest event that waits is dropped",
                "newest": "the new event is refused",
                "block": "emit waits for room, for up to `block_timeout`; then the event is refused",
            },
        ),
    ] = "oldest"
    block_timeout: Annotated[
        Duration,
        option(
            "With the drop policy block, emit waits for room no longer than this.",
            example="250ms",
            limit=span_limit("1ms", "1h"),
        ),
    ] = Duration.parse("1s")
    ring_bytes: Annotated[
        Size,
        option(
            "So many bytes of events may wait for each publisher, over all of its rings.",
            example="128MiB",
            limit=size_limit("64KiB", "1TiB"),
        ),
    ] = Size.parse("64MiB")
    max_event_bytes: Annotated[
        Size,
        option(
            "The largest event that is accepted.",
            example="256KiB",
            limit=size_limit("1KiB", "256MiB"),
        ),
    ] = Size.parse("1MiB")
    # FluxMQ's are goroutines; there are fewer processes (config/workers.py).
    workers: Annotated[
        int | None,
        option(
            "The number of worker processes, up to the number of cores or 16, whichever is more. "
            "Without it there is one for each core, up to 4.",
            example=2,
            limit=Limit(1, 1_000_000_000),
        ),
    ] = None
    max_publishers: Annotated[
        int,
        option(
            "So many publishers may be attached at a time.",
            example=16,
            limit=Limit(1, 4096),
        ),
    ] = 64
    max_endpoints: Annotated[
        int,
        option(
            "There may be so many endpoints, removed ones included.",
            example=1000,
            limit=Limit(1, 65_536),
        ),
    ] = 4096
    durability: Annotated[
        str,
        option(
            "An accepted event survives: `process` the death of every process, `power` a power loss "
            "too (emit waits for the disk), `interval:100ms` a power loss after that time.",
            example="interval:100ms",
        ),
    ] = "process"
    include_payload: Annotated[
        bool,
        option("The payload of a message stands in its message.published event.", example=True),
    ] = False
    shutdown_timeout: Annotated[
        Duration,
        option(
            "The engine delivers for up to so long when it is told to stop. What is left waits for the "
            "next start.",
            example="10s",
            limit=span_limit("0s", "24h"),
        ),
    ] = Duration.parse("30s")
    retention: Annotated[
        Duration,
        option(
            "A delivery that has ended can be looked at for so long, and a dead letter be replayed. "
            "Then it is erased.",
            example="168h",
            limit=span_limit("1s", "87600h"),
        ),
    ] = Duration.parse("24h")
    audit_bytes: Annotated[
        Size,
        option(
            "A file of the audit trail is followed by a new one when it has so many bytes.",
            example="16MiB",
            limit=size_limit("4KiB", "1TiB"),
        ),
    ] = Size.parse("64MiB")
    audit_files: Annotated[
        int,
        option(
            "So many files of the audit trail are kept.",
            example=8,
            limit=Limit(1, 10_000),
        ),
    ] = 8
    allow_networks: Annotated[
        tuple[str, ...],
        option(
            "The private and special networks that deliveries may reach. Without it they reach public "
            "addresses only.",
            example=["10.0.0.0/8", "fd00::/8"],
            entries=1000,
        ),
    ] = ()
    event_types: Annotated[
        tuple[str, ...],
        option(
            "The event types of the host's own, beside those of both catalogs.",
            example=["order.created"],
            entries=1000,
        ),
    ] = ()
    native_envelope: Annotated[
        Literal["gateway", "broker"],
        option(
            "The envelope of the host's own types, and of events in neither catalog.",
            example="broker",
        ),
    ] = "gateway"
    gateway_node: Annotated[
        str | None,
        option(
            "The name of this gateway in its envelopes. By default it is the host name.",
            example="gw-1",
        ),
    ] = None
    broker_id: Annotated[
        str | None,
        option(
            "The name of this broker in its envelopes. By default it is the host name.",
            example="broker-1",
        ),
    ] = None
    opentelemetry: Annotated[
        bool,
        option(
            "An event without a trace context of its own takes OpenTelemetry's current one, in hosts "
            "that have the package opentelemetry-api.",
            example=True,
        ),
    ] = False
    data_dir: Annotated[
        str | None,
        option(
            "The directory in which the engine keeps its files.",
            example="/var/lib/fluxhook",
        ),
    ] = None
    tls_folder: Annotated[
        str | None,
        option(
            "Endpoints that are created at run time may name TLS files below this folder. Without it "
            "they name none.",
            example="/etc/fluxhook/tls",
        ),
    ] = None
    share_default_headers: Annotated[
        bool,
        option(
            "Send the `headers` of `defaults` to endpoints that are created at run time too. Their URL "
            "may be anybody's.",
            example=True,
        ),
    ] = False
    admin: Admin = Admin()
    log: LogOptions = LogOptions()
    defaults: Annotated[
        dict[str, Any],
        option(
            "Options of an endpoint, for all endpoints that do not set them: those of the file, and "
            "those that are created at run time.",
            example={"timeout": "5s"},
            entries=100,
        ),
    ] = {}

    def __post_init__(self) -> None:
        """Hide the secrets of `defaults`, as those of an endpoint are."""
        if isinstance(self.defaults, dict) and self.defaults:
            _set(self, "defaults", {key: _hidden_in(key, v) for key, v in self.defaults.items()})


def _hidden_in(key: str, value: Any) -> Any:
    if key == "headers" and isinstance(value, dict):
        return {name: hide(text) for name, text in value.items()}
    if key == "secrets" and isinstance(value, (list, tuple)):
        return [hide(text) for text in value]
    if key == "tls" and isinstance(value, dict):
        return {
            name: hide(text) if isinstance(text, str) and has_private_key(text) else text
            for name, text in value.items()
        }
    return hide(value) if key in ("secret", "proxy") else value
