"""/v1/dead-letters: what was given up, to be delivered again or erased."""

from __future__ import annotations

from typing import Any

from litestar import Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, RawBody

from fluxhook.admin.document import rules
from fluxhook.admin.models import Delivery, Page, Progress, PurgeRequest, ReplayRequest
from fluxhook.admin.paging import delivery_filter, given
from fluxhook.admin.payload import JSON, decode_object, media_type, struct_of
from fluxhook.admin.routes.deliveries import PageSize
from fluxhook.admin.service import Service

__all__ = ["HANDLERS"]

_TAGS = ["dead letters"]


@get(
    "/v1/dead-letters",
    opt=rules("read", ("unknown-webhook",)),
    tags=_TAGS,
    summary="List dead letters",
    sync_to_thread=True,
)
def list_dead_letters(
    service: NamedDependency[Service],
    endpoint: FromQuery[str] = "",
    type: FromQuery[str] = "",
    cause: FromQuery[str] = "",
    since: FromQuery[str] = "",
    until: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: PageSize = 100,
) -> Page[Delivery]:
    """List the latest to die first; `since` and `until` say when they died."""
    which = delivery_filter(
        **given(endpoint=endpoint, type=type, cause=cause, since=since, until=until)
    )
    return service.dead_letters(which, cursor or None, limit)


@post(
    "/v1/dead-letters/replay",
    opt=rules("write", ("unknown-webhook",), body=ReplayRequest, body_optional=True),
    status_code=200,
    tags=_TAGS,
    summary="Replay dead letters",
    sync_to_thread=True,
)
def replay(
    service: NamedDependency[Service], request: Request[Any, Any, Any], body: RawBody
) -> Progress:
    """Deliver those that match again. Works for some seconds; where it then answers with a
    `next_cursor`, send that with the same filter to go on."""
    media_type(request.headers.get("content-type"), (JSON,))
    return service.replay(struct_of(ReplayRequest, decode_object(body, optional=True)))


@post(
    "/v1/dead-letters/purge",
    opt=rules("write", ("unknown-webhook",), body=PurgeRequest),
    status_code=200,
    tags=_TAGS,
    summary="Purge dead letters",
    sync_to_thread=True,
)
def purge(
    service: NamedDependency[Service], request: Request[Any, Any, Any], body: RawBody
) -> Progress:
    """Erase those that match, after a line in the audit trail for each; in steps, as for replay."""
    media_type(request.headers.get("content-type"), (JSON,))
    return service.purge(struct_of(PurgeRequest, decode_object(body)))


@post(
    "/v1/dead-letters/{delivery_id:str}/replay",
    opt=rules("write", ("unknown-delivery", "conflict")),
    status_code=202,
    tags=_TAGS,
    summary="Replay a dead letter",
    sync_to_thread=True,
)
def replay_one(service: NamedDependency[Service], delivery_id: FromPath[str]) -> Progress:
    """Deliver it again, now."""
    service.replay_one(delivery_id)
    return Progress(done=1)


@delete(
    "/v1/dead-letters/{delivery_id:str}",
    opt=rules("write", ("unknown-delivery",)),
    tags=_TAGS,
    summary="Purge a dead letter",
    sync_to_thread=True,
)
def purge_one(service: NamedDependency[Service], delivery_id: FromPath[str]) -> None:
    """Erase it, after a line in the audit trail."""
    service.purge_one(delivery_id)


HANDLERS = (list_dead_letters, replay, purge, replay_one, purge_one)
