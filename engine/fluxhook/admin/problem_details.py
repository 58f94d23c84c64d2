"""Errors as the API answers them: problem details (RFC 9457), of kinds that never change.

type      urn:fluxhook:problem:<kind>
title     what the kind means
detail    what happened this time
instance  the path of the request
errors    each fault: where it is, what is wrong, what would be right
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from fluxhook.admin.references import encoded_path
from fluxhook.errors import (
    ConfigError,
    Conflict,
    EngineError,
    EngineNotRunning,
    EventError,
    FluxhookError,
    PayloadTooLarge,
    QueueFull,
    TooManyPublishers,
    UnknownEndpoint,
)
from fluxhook.store.interface import StoreError

__all__ = [
    "KINDS",
    "MEDIA_TYPE",
    "FieldError",
    "Kind",
    "ProblemDetails",
    "RequestError",
    "problem_of",
]

#: RFC 9457 section 3
MEDIA_TYPE: Final = "application/problem+json"
_URN: Final = "urn:fluxhook:problem:"


class Kind(NamedTuple):
    status: int
    title: str


KINDS: Final[dict[str, Kind]] = {
    "malformed-body": Kind(400, "The body cannot be read."),
    "malformed-request": Kind(400, "The request's head cannot be read."),
    "unauthorized": Kind(401, "A valid bearer token is needed."),
    "insufficient-scope": Kind(403, "The token does not allow this."),
    "foreign-host": Kind(403, "The request was made for another host."),
    "cross-origin": Kind(403, "The request comes from another site's page."),
    "not-found": Kind(404, "There is no such resource."),
    "unknown-webhook": Kind(404, "There is no such webhook."),
    "unknown-delivery": Kind(404, "There is no such delivery."),
    "method-not-allowed": Kind(405, "The resource does not have this method."),
    "request-timeout": Kind(408, "The body came too slowly."),
    "conflict": Kind(409, "The present state does not allow this change."),
    "request-in-progress": Kind(409, "A request with this Idempotency-Key is still under way."),
    "content-too-large": Kind(413, "The body is too large."),
    "event-too-large": Kind(413, "An event is too large."),
    "uri-too-long": Kind(414, "The path and the query are too long."),
    "unsupported-media-type": Kind(415, "The body's content type is not taken here."),
    "invalid-configuration": Kind(422, "The configuration of a webhook has problems."),
    "invalid-event": Kind(422, "An event cannot be accepted as given."),
    "invalid-request": Kind(422, "The request has invalid values."),
    "idempotency-key-reused": Kind(422, "The Idempotency-Key was used for another request."),
    "queue-full": Kind(429, "The queue is full."),
    "too-many-failures": Kind(429, "Too many tokens that are not known were given."),
    "internal-error": Kind(500, "The fault is ours; the log says more."),
    "engine-not-running": Kind(503, "The engine is not running."),
    "engine-unavailable": Kind(503, "The engine cannot answer."),
    "store-failing": Kind(503, "The store cannot be read or written."),
    "overloaded": Kind(503, "Too many requests at a time."),
}


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a request."""

    field: Annotated[
        str, Meta(description="A path in the body, or the name of a parameter or header.")
    ]
    message: Annotated[str, Meta(description="What is wrong with which value.")]
    remedy: Annotated[str, Meta(description="What would be right.")] = ""


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error (RFC 9457)."""

    type: Annotated[
        str,
        Meta(
            description="The kind of the problem, which never changes.",
            examples=["urn:fluxhook:problem:invalid-configuration"],
        ),
    ]
    title: Annotated[str, Meta(description="The meaning of the kind.")]
    status: Annotated[int, Meta(description="The status code of the answer.", examples=[422])]
    detail: Annotated[str, Meta(description="What happened this time.")]
    instance: Annotated[
        str, Meta(description="The path of the request.", examples=["/v1/webhooks"])
    ]
    errors: Annotated[list[FieldError], Meta(description="Every fault that was found.")] = []
    events: Annotated[
        list[dict[str, Any]],
        Meta(description="The events of the request that were accepted all the same."),
    ] = []


class RequestError(FluxhookError):
    """A request that is refused; `kind` is one of KINDS."""

    def __init__(
        self,
        kind: str,
        detail: str,
        faults: Iterable[FieldError] = (),
        *,
        headers: Mapping[str, str] | None = None,
        events: Iterable[Any] = (),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.faults = list(faults)
        self.headers = dict(headers or {})
        self.events = list(events)


#: the first that fits
_KIND_OF: Final[dict[type[FluxhookError], str]] = {
    ConfigError: "invalid-configuration",
    UnknownEndpoint: "unknown-webhook",
    Conflict: "conflict",
    PayloadTooLarge: "event-too-large",
    EventError: "invalid-event",
    QueueFull: "queue-full",
    EngineNotRunning: "engine-not-running",
    StoreError: "store-failing",
    TooManyPublishers: "engine-unavailable",
    EngineError: "engine-unavailable",
}
#: seconds after which it is worth to try again; arbitrary
RETRY_AFTER_S: Final = {
    "queue-full": 1,
    "too-many-failures": 5,
    "overloaded": 1,
    "engine-unavailable": 5,
}


def problem_of(error: Exception, instance: str) -> tuple[ProblemDetails, dict[str, str]]:
    """Return what to answer for an error, and with which headers. An unforeseen one tells nothing."""
    faults: list[FieldError] = []
    headers: dict[str, str] = {}
    events: list[Any] = []
    detail = str(error)
    if isinstance(error, RequestError):
        kind, faults, events = error.kind, error.faults, error.events
        headers = error.headers
    else:
        found = next((word for type, word in _KIND_OF.items() if isinstance(error, type)), None)
        kind = found or "internal-error"
        if found is None:
            detail = "Something unforeseen happened. The admin process's log says what."
        elif isinstance(error, ConfigError):
            faults = [FieldError(path, message, remedy) for path, message, remedy in error.problems]
            said = [f"{fault.field}: {fault.message}" for fault in faults]
            detail = "; ".join([*said, *([f"and {error.more:,d} more"] if error.more else [])])
        elif isinstance(error, EventError) and error.field:
            faults = [FieldError(error.field, detail)]
    status, title = KINDS[kind]
    if kind in RETRY_AFTER_S:
        headers = {"Retry-After": str(RETRY_AFTER_S[kind]), **headers}
    problem = ProblemDetails(
        type=_URN + kind,
        title=title,
        status=status,
        detail=detail,
        instance=encoded_path(instance),
        errors=faults,
        events=[msgspec.to_builtins(event) for event in events],
    )
    return problem, headers
