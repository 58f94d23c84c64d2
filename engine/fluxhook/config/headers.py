"""Which headers an endpoint may add to its requests, and the content type that they have anyway."""

from __future__ import annotations

import re
from typing import Final

from fluxhook.config.schema import BatchFormat, Endpoint
from fluxhook.config.url import Violation

__all__ = [
    "content_type",
    "engine_header",
    "event_content_type",
    "judge_header",
    "media_type",
]

#: of an event alone; the others are plain JSON
_EVENT: Final = {"cloudevents": "application/cloudevents+json"}
_BATCH: Final[dict[BatchFormat, str]] = {
    "json": "application/json",
    # https://github.com/ndjson/ndjson-spec section 4
    "ndjson": "application/x-ndjson",
    # CloudEvents 1.0, JSON event format, section 4
    "cloudevents": "application/cloudevents-batch+json",
}

#: RFC 9110 section 5.6.2, token
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
#: RFC 9110 section 5.5 without obs-text: what is not ASCII means different things to receivers.
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
#: Servers commonly refuse a line over 8 KiB (Apache LimitRequestFieldSize, nginx).
_MAX_VALUE: Final = 8000

_HOP: Final = "it is about one connection, not the message (RFC 9110 section 7.6.1)"
_LENGTH: Final = "it frames the body, which is only known when it is sent"
_SIGNED: Final = "it carries the signature"
_REFUSED: Final = {
    **dict.fromkeys(
        (
            "connection",
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ),
        _HOP,
    ),
    "content-length": _LENGTH,
    "expect": _LENGTH,
    # A Host other than the URL's would reach a virtual host that the egress rules never saw.
    "host": "it comes from the URL",
    "content-encoding": "it comes from the compression",
    "x-fluxgate-signature": _SIGNED,
    "stripe-signature": _SIGNED,
    "x-hub-signature": _SIGNED,
    "x-hub-signature-256": _SIGNED,
}
#: Standard Webhooks 1.0: webhook-id, webhook-timestamp, webhook-signature, and what may follow.
_REFUSED_PREFIX: Final = "webhook-"


def engine_header(name: object) -> str | None:
    """Return why a header is never the operator's to set, or None. Those of signatures depend on the
    endpoint."""
    reason = _REFUSED.get(name.lower()) if isinstance(name, str) else None
    return None if reason is _SIGNED else reason


def judge_header(name: str, value: str, *, signed: bool = True) -> Violation | None:
    """Return what is wrong with a configured header; never show its value. `signed`: the endpoint's
    requests carry a signature of ours."""
    if not _NAME.fullmatch(name):
        return Violation(f"{name!r:.80} is not a header name", "use letters, digits and hyphens")
    lower = name.lower()
    reason = _SIGNED if lower.startswith(_REFUSED_PREFIX) else _REFUSED.get(lower)
    if reason and (signed or reason is not _SIGNED):
        return Violation(f"{name} is the engine's own header: {reason}", "remove it")
    if any(c in value for c in "\r\n\0"):
        return Violation(
            f"the value of {name} holds a line break or NUL, which could smuggle in other headers",
            "write the value on one line",
        )
    if not _VALUE.fullmatch(value):
        return Violation(
            f"the value of {name} holds a control or non-ASCII character", "use visible ASCII"
        )
    if not value.strip():
        # libcurl takes `Name:` for an order to remove the header.
        return Violation(f"the value of {name} is empty", "give it a value, or remove the header")
    if len(value) > _MAX_VALUE:
        return Violation(
            f"the value of {name} has {len(value)} characters", f"use at most {_MAX_VALUE}"
        )
    return None


def content_type(endpoint: Endpoint) -> str:
    """Return what an endpoint's requests are sent as."""
    if endpoint.batch.max_events is not None:
        return _BATCH[endpoint.batch.format]
    return event_content_type(endpoint)


def event_content_type(endpoint: Endpoint) -> str:
    """Return the content type of one of its events by itself: as the operator wrote it, where it is
    JSON and no format that has a type of its own."""
    if own := _EVENT.get(endpoint.envelope):
        return own
    written = (value for name, value in endpoint.headers.items() if name.lower() == "content-type")
    return next(written, "application/json")


def media_type(value: str) -> str:
    """Return a content type without its parameters, which JSON has none of (RFC 8259 section 11)."""
    return value.partition(";")[0].strip().lower()
