"""/v1/events: events from hosts that are not on this machine, or not in Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from litestar import Request, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.params import HeaderParameter

from fluxhook.admin.auth import Access
from fluxhook.admin.document import rules
from fluxhook.admin.idempotency import MAX_KEY
from fluxhook.admin.ingest import Ingest, IngestRequest
from fluxhook.admin.models import AcceptedEvents, EventIn
from fluxhook.admin.payload import JSON, NDJSON, media_type
from fluxhook.admin.problem_details import RequestError

__all__ = ["HANDLERS", "IdempotencyKey"]

#: For the document, and for its length: handlers take the header itself, of which "null" would be none.
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="A repeat with the same key and content has the same answer.",
        min_length=1,
        max_length=MAX_KEY,
    ),
]
_MEDIA: Final = (JSON, NDJSON)


@post(
    "/v1/events",
    opt=rules(
        "emit",
        (
            "invalid-event",
            "event-too-large",
            "queue-full",
            "request-in-progress",
            "idempotency-key-reused",
        ),
        body=EventIn,
        media=_MEDIA,
    ),
    status_code=202,
    # a stream of lines may be of any length; a JSON body is measured here
    request_max_body_size=None,
    tags=["events"],
    summary="Emit events",
)
async def emit_events(
    ingest: NamedDependency[Ingest],
    request: Request[Any, Any, Any],
    access: NamedDependency[Access],
    idempotency_key: IdempotencyKey = None,
) -> AcceptedEvents:
    """Emit one event, an array of events, or lines of events (NDJSON).

    Of an array all are accepted or, if one is bad, none; lines are accepted as they arrive, up to the
    first bad one. Accepted means kept: it will be delivered, or become a dead letter, which is
    reported.

    The headers `traceparent` and `tracestate` (W3C Trace Context) count for each event that has no
    `traceparent` of its own. Those that cannot be read are ignored, and counted in
    `fluxhook_ignored_trace_headers_total`.
    """
    media = media_type(request.headers.get("content-type"), _MEDIA)
    if not ingest.ready:
        await sync_to_thread(ingest.prepare)
    client = access.client(request.headers.get("authorization"))
    key, trace = request.headers.get("idempotency-key"), ingest.trace(request.headers)
    with ingest.request(key, client, trace) as events:
        if media == NDJSON:
            await _emit_lines(events, request, ingest.max_body)
            return AcceptedEvents(events.finish())
        body = await _read(request, ingest.max_body)
        if ingest.quick(body):
            return AcceptedEvents(events.body(body))
        return AcceptedEvents(await sync_to_thread(events.body, body))


async def _read(request: Request[Any, Any, Any], limit: int) -> bytes:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


async def _emit_lines(events: IngestRequest, request: Request[Any, Any, Any], limit: int) -> None:
    try:
        async for lines in complete_lines(request.stream(), limit):
            await sync_to_thread(events.lines, lines)
    except RequestError as error:
        error.events = list(events.accepted)  # whatever ended it
        raise


async def complete_lines(
    stream: AsyncIterator[bytes], limit: int
) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Yield the lines that each chunk completes, numbered from 1, without empty ones."""
    rest, number = b"", 0
    async for chunk in stream:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > limit:
            raise _too_large(limit)
        numbered = list(enumerate(whole, number + 1))
        number += len(whole)
        yield [(n, line) for n, line in numbered if line.strip()]
    if rest.strip():
        yield [(number + 1, rest)]


def _too_large(limit: int) -> RequestError:
    return RequestError(
        "content-too-large",
        f"The body, or a line of it, is over admin.max_body ({limit} bytes); send less at a time, or "
        f"{NDJSON}, of which only each line is bounded.",
    )


HANDLERS = (emit_events,)
