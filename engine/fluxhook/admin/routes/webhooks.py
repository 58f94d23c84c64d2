"""/v1/webhooks: endpoints, and how they do. `ref` is a name or an id such as wh_7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Request, Response, delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, RawBody

from fluxhook.admin.document import rules
from fluxhook.admin.models import (
    CreatedWebhook,
    Page,
    Progress,
    RetryRequest,
    RotatedSecret,
    RotateRequest,
    Status,
    TestRequest,
    TestSent,
    Webhook,
    WebhookStatus,
)
from fluxhook.admin.payload import JSON, MERGE_PATCH, decode_object, media_type, struct_of
from fluxhook.admin.routes.events import IdempotencyKey
from fluxhook.admin.service import Service
from fluxhook.config.schema import Endpoint

__all__ = ["HANDLERS"]

_TAGS = ["webhooks"]
_PATCH = (MERGE_PATCH, JSON)
_REPEATED = ("request-in-progress", "idempotency-key-reused")

Once = NamedDependency[Callable[..., Any]]


@get("/v1/webhooks", opt=rules("read"), tags=_TAGS, summary="List webhooks", sync_to_thread=True)
def list_webhooks(service: NamedDependency[Service]) -> Page[Webhook]:
    """List all of them, in the order in which they were created."""
    return Page(service.webhooks())


@post(
    "/v1/webhooks",
    opt=rules("write", ("invalid-configuration", "conflict", *_REPEATED), body=Endpoint),
    response_headers=[
        ResponseHeader(name="Location", description="The new webhook.", documentation_only=True)
    ],
    tags=_TAGS,
    summary="Create a webhook",
    sync_to_thread=True,
)
def create_webhook(
    service: NamedDependency[Service],
    once: Once,
    request: Request[Any, Any, Any],
    body: RawBody,
    idempotency_key: IdempotencyKey = None,
) -> Response[CreatedWebhook]:
    """Create a webhook. `url` and `events` are needed (["*"]: all types), and a `secret`,
    `generate_secret: true` or `signature: none`. Without a `name` it has that of the URL's host."""
    media_type(request.headers.get("content-type"), (JSON,))
    webhook: CreatedWebhook = once(body, lambda: service.create(decode_object(body)))
    location = f"{request.scope.get('root_path', '')}/v1/webhooks/{webhook.id}"
    return Response(webhook, headers={"Location": location})


@get(
    "/v1/webhooks/status",
    opt=rules("read"),
    tags=["status"],
    summary="Status of all webhooks",
    sync_to_thread=True,
)
def all_status(service: NamedDependency[Service]) -> Status:
    """Show state, counters, latencies and what waits, of each webhook; totals; each process."""
    return service.status()


@get(
    "/v1/webhooks/{ref:str}",
    opt=rules("read", ("unknown-webhook",)),
    tags=_TAGS,
    summary="Show a webhook",
    sync_to_thread=True,
)
def show_webhook(service: NamedDependency[Service], ref: FromPath[str]) -> Webhook:
    """Show all of its options, defaults included. Secrets and the values of headers are not shown."""
    return service.webhook(ref)


@patch(
    "/v1/webhooks/{ref:str}",
    opt=rules(
        "write",
        ("unknown-webhook", "conflict", "invalid-configuration"),
        body=Endpoint,
        media=_PATCH,
    ),
    tags=_TAGS,
    summary="Change a webhook",
    sync_to_thread=True,
)
def update_webhook(
    service: NamedDependency[Service],
    request: Request[Any, Any, Any],
    ref: FromPath[str],
    body: RawBody,
) -> CreatedWebhook:
    """Apply a JSON merge patch (RFC 7396): null takes an option back to its default."""
    media_type(request.headers.get("content-type"), _PATCH)
    return service.update(ref, decode_object(body))


@delete(
    "/v1/webhooks/{ref:str}",
    opt=rules("write", ("unknown-webhook", "conflict")),
    tags=_TAGS,
    summary="Delete a webhook",
    sync_to_thread=True,
)
def delete_webhook(service: NamedDependency[Service], ref: FromPath[str]) -> None:
    """Delete a webhook; what was pending for it become dead letters."""
    service.delete(ref)


@post(
    "/v1/webhooks/{ref:str}/pause",
    opt=rules("write", ("unknown-webhook", "conflict")),
    status_code=200,
    tags=_TAGS,
    summary="Pause a webhook",
    sync_to_thread=True,
)
def pause_webhook(service: NamedDependency[Service], ref: FromPath[str]) -> Webhook:
    """Pause a webhook: its events are accepted and wait."""
    return service.pause(ref)


@post(
    "/v1/webhooks/{ref:str}/resume",
    opt=rules("write", ("unknown-webhook", "conflict")),
    status_code=200,
    tags=_TAGS,
    summary="Resume a webhook",
    sync_to_thread=True,
)
def resume_webhook(service: NamedDependency[Service], ref: FromPath[str]) -> Webhook:
    """End a pause, or the disabling of a webhook that was gone or failed for too long."""
    return service.resume(ref)


@post(
    "/v1/webhooks/{ref:str}/rotate-secret",
    opt=rules(
        "write",
        ("unknown-webhook", "conflict", "invalid-configuration", *_REPEATED),
        body=RotateRequest,
        body_optional=True,
    ),
    status_code=200,
    tags=_TAGS,
    summary="Rotate a secret",
    sync_to_thread=True,
)
def rotate_secret(
    service: NamedDependency[Service],
    once: Once,
    request: Request[Any, Any, Any],
    ref: FromPath[str],
    body: RawBody,
    idempotency_key: IdempotencyKey = None,
) -> RotatedSecret:
    """Replace the secret; the former one signs beside the new one until the overlap is over."""
    media_type(request.headers.get("content-type"), (JSON,))

    def rotate() -> RotatedSecret:
        given = struct_of(RotateRequest, decode_object(body, optional=True))
        return service.rotate_secret(ref, given)

    rotated: RotatedSecret = once(body, rotate)
    return rotated


@post(
    "/v1/webhooks/{ref:str}/test",
    opt=rules(
        "write",
        ("unknown-webhook", "conflict", "invalid-event", "event-too-large", *_REPEATED),
        body=TestRequest,
        body_optional=True,
    ),
    status_code=202,
    tags=_TAGS,
    summary="Send a test event",
    sync_to_thread=True,
)
def send_test(
    service: NamedDependency[Service],
    once: Once,
    request: Request[Any, Any, Any],
    ref: FromPath[str],
    body: RawBody,
    idempotency_key: IdempotencyKey = None,
) -> TestSent:
    """Send an event to this webhook alone, whatever it subscribes to; its delivery is kept, success
    included. Behind an open breaker it waits: `held_until` says when it is attempted."""
    media_type(request.headers.get("content-type"), (JSON,))

    def send() -> TestSent:
        return service.send_test(ref, struct_of(TestRequest, decode_object(body, optional=True)))

    sent: TestSent = once(body, send)
    return sent


@post(
    "/v1/webhooks/{ref:str}/close-breaker",
    opt=rules("write", ("unknown-webhook", "conflict")),
    status_code=200,
    tags=_TAGS,
    summary="Close a breaker",
    sync_to_thread=True,
)
def close_breaker(service: NamedDependency[Service], ref: FromPath[str]) -> Webhook:
    """Close the breaker of a webhook: requests go at once, what it held back included. Failures in a
    row open it again as ever."""
    return service.close_breaker(ref)


@post(
    "/v1/webhooks/{ref:str}/retry",
    opt=rules("write", ("unknown-webhook", "conflict"), body=RetryRequest, body_optional=True),
    status_code=200,
    tags=_TAGS,
    summary="Retry what waits",
    sync_to_thread=True,
)
def retry(
    service: NamedDependency[Service],
    request: Request[Any, Any, Any],
    ref: FromPath[str],
    body: RawBody,
) -> Progress:
    """Make all that waits for its time due now; attempts count as ever. Works for some seconds; where
    it then answers with a `next_cursor`, send that to go on."""
    media_type(request.headers.get("content-type"), (JSON,))
    return service.retry(ref, struct_of(RetryRequest, decode_object(body, optional=True)))


@get(
    "/v1/webhooks/{ref:str}/status",
    opt=rules("read", ("unknown-webhook",)),
    tags=["status"],
    summary="Status of a webhook",
    sync_to_thread=True,
)
def webhook_status(service: NamedDependency[Service], ref: FromPath[str]) -> WebhookStatus:
    """Show state, counters, latencies and what waits."""
    return service.webhook_status(ref)


HANDLERS = (
    list_webhooks,
    create_webhook,
    all_status,
    show_webhook,
    update_webhook,
    delete_webhook,
    pause_webhook,
    resume_webhook,
    rotate_secret,
    close_breaker,
    retry,
    send_test,
    webhook_status,
)
