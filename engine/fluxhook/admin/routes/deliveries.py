"""/v1/deliveries and /v1/attempts: what was delivered and what was not.

A filter that is not given is "". None would not do: `?state=null` would be read as none at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, get_args

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter, RawBody

from fluxhook.admin.document import rules
from fluxhook.admin.models import (
    MAX_PAGE,
    AttemptRecord,
    Delivery,
    DeliveryDetail,
    DeliveryState,
    Page,
    Progress,
    TestSent,
)
from fluxhook.admin.paging import delivery_filter, given
from fluxhook.admin.routes.events import IdempotencyKey
from fluxhook.admin.service import Service

__all__ = ["HANDLERS", "PageSize"]

PageSize = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE)]
_STATES = list(get_args(DeliveryState))
_TAGS = ["deliveries"]


@get(
    "/v1/deliveries",
    opt=rules("read", ("unknown-webhook",)),
    tags=_TAGS,
    summary="List deliveries",
    sync_to_thread=True,
)
def list_deliveries(
    service: NamedDependency[Service],
    wanted: Annotated[str, QueryParameter(name="state", schema_extra={"enum": _STATES})] = "",
    endpoint: FromQuery[str] = "",
    type: FromQuery[str] = "",
    cause: FromQuery[str] = "",
    event_id: FromQuery[str] = "",
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: PageSize = 100,
) -> Page[Delivery]:
    """List what did not succeed at once, and everything of webhooks with `record: all`, newest
    first. `since` and `until` say when events were accepted."""
    which = delivery_filter(
        **given(
            endpoint=endpoint,
            type=type,
            state=wanted,
            cause=cause,
            event_id=event_id,
            since=since,
            until=until,
        )
    )
    return service.deliveries(which, cursor or None, limit)


@get(
    "/v1/deliveries/{delivery_id:str}",
    opt=rules("read", ("unknown-delivery",)),
    tags=_TAGS,
    summary="Show a delivery",
    sync_to_thread=True,
)
def show_delivery(service: NamedDependency[Service], delivery_id: FromPath[str]) -> DeliveryDetail:
    """Show a delivery with every attempt, and the request as it is sent."""
    return service.delivery(delivery_id)


@post(
    "/v1/deliveries/{delivery_id:str}/retry",
    opt=rules("write", ("unknown-delivery", "conflict")),
    status_code=202,
    tags=_TAGS,
    summary="Retry a delivery",
    sync_to_thread=True,
)
def retry_delivery(service: NamedDependency[Service], delivery_id: FromPath[str]) -> Progress:
    """Attempt a delivery now that waits for its time; the attempt counts as ever."""
    service.retry_delivery(delivery_id)
    return Progress(done=1)


@post(
    "/v1/deliveries/{delivery_id:str}/resend",
    opt=rules(
        "write",
        ("unknown-delivery", "conflict", "request-in-progress", "idempotency-key-reused"),
    ),
    status_code=202,
    tags=_TAGS,
    summary="Resend a delivery",
    sync_to_thread=True,
)
def resend(
    service: NamedDependency[Service],
    once: NamedDependency[Callable[..., Any]],
    delivery_id: FromPath[str],
    body: RawBody,
    idempotency_key: IdempotencyKey = None,
) -> TestSent:
    """Deliver the event of a delivery that succeeded once more: a new delivery with the same event id
    and body. It is there while its delivery is kept (`record: all`)."""
    sent: TestSent = once(body, lambda: service.resend(delivery_id))
    return sent


@get(
    "/v1/attempts",
    opt=rules("read", ("unknown-webhook",)),
    tags=_TAGS,
    summary="List attempts",
    sync_to_thread=True,
)
def list_attempts(
    service: NamedDependency[Service],
    endpoint: FromQuery[str] = "",
    type: FromQuery[str] = "",
    outcome: FromQuery[str] = "",
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: PageSize = 100,
) -> Page[AttemptRecord]:
    """List those of the deliveries in the store, newest first. `outcome` is `delivered` or a cause
    of failure such as `timeout`; `since` and `until` say when attempts began."""
    which = delivery_filter(
        **given(endpoint=endpoint, type=type, cause=outcome, since=since, until=until)
    )
    return service.attempts(which, cursor or None, limit)


HANDLERS = (list_deliveries, show_delivery, retry_delivery, resend, list_attempts)
