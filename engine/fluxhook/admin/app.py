"""The ASGI application: the API, and whatever else is to be served on the same port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from os import PathLike
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException, ValidationException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.router import Router
from litestar.types import ASGIApp, Receive, Scope, Send

from fluxhook._version import VERSION
from fluxhook.admin.auth import Access, judge_browser
from fluxhook.admin.document import (
    DESCRIPTION,
    TITLE,
    Document,
    UnitSchemas,
    operation_id,
    query_names,
    rules,
)
from fluxhook.admin.ingest import Ingest
from fluxhook.admin.problems import MEDIA_TYPE, Fault, RequestError, problem_of
from fluxhook.admin.routes import HANDLERS
from fluxhook.admin.service import Service
from fluxhook.config import codec
from fluxhook.config.listen import parse_listen
from fluxhook.config.secret import Secret

__all__ = ["API_PATHS", "Admin", "create_app"]

log = logging.getLogger("fluxhook")

#: what the API answers; everything else is the dashboard's
API_PATHS: Final = ("/v1", "/schema", "/healthz", "/readyz", "/metrics")
#: of the API under way at a time; a handler's thread is one of forty (anyio's default)
MAX_REQUESTS: Final = 128


class Admin:
    """One data directory's administration as an ASGI application.

    `mount` has all paths that are not the API's served by another application, which gets lifespan
    events of its own, and websockets. Both are behind the same guard: an open API answers no foreign
    Host, and no page of another site.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self.service = service
        self.access = access
        self.ingest = Ingest(service.datadir.path)
        self.api = _litestar(service, self.ingest, access)
        self._other: ASGIApp | None = None
        self._under_way = 0

    def mount(self, app: ASGIApp) -> None:
        self._other = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            apps = [self.api] if self._other is None else [self.api, self._other]
            await _lifespans(apps, scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
        refusal = judge_browser(headers, method) if self.access.open else None
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
        elif self._other is not None and not _is_api(scope["path"]):
            await self._other(scope, receive, send)
        elif scope["type"] == "websocket":
            await _refuse(RequestError("not-found", "There is no websocket."), scope, receive, send)
        elif self._under_way >= MAX_REQUESTS and scope["path"] != "/healthz":
            busy = f"More than {MAX_REQUESTS} requests are under way; try again in a second."
            await _refuse(RequestError("overloaded", busy), scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self.api(scope, receive, send)
            finally:
                self._under_way -= 1


def create_app(data_dir: str | PathLike[str], *, own_token: str = "") -> Admin:
    """The API of a data directory; `own_token` is one more token, with all scopes.

    Raises EngineNotRunning where no engine was ever started.
    """
    service = Service(data_dir)
    listen = parse_listen(service.snapshot.config.admin.listen)
    access = Access(
        lambda: service.snapshot.config.admin.tokens,
        loopback=listen.loopback,
        own_token=own_token,
    )
    return Admin(service, access)


def _litestar(service: Service, ingest: Ingest, access: Access) -> Litestar:
    def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Whoever adds a route and forgets its rules has one that needs the scope `write`."""
        scope = handler.opt.get("scope", "write")
        if scope is not None:
            access.require(scope, connection.headers.get("authorization"))
        _refuse_unknown(connection, handler)

    def close() -> None:
        ingest.close()
        service.close()

    return Litestar(
        HANDLERS,
        guards=[guard],
        dependencies={
            "service": Provide(lambda: service, sync_to_thread=False),
            "ingest": Provide(lambda: ingest, sync_to_thread=False),
        },
        exception_handlers={Exception: _answer},
        type_encoders={**dict.fromkeys(codec.UNITS, str), Secret: lambda _: "***"},
        plugins=[UnitSchemas()],
        openapi_config=OpenAPIConfig(
            title=TITLE,
            version=VERSION,
            description=DESCRIPTION,
            use_handler_docstrings=True,
            render_plugins=[Document()],
            operation_id_creator=operation_id,
            openapi_router=Router(
                "/schema",
                route_handlers=[],
                include_in_schema=False,
                opt=rules(None),
                before_request=_only_the_document,
            ),
        ),
        request_max_body_size=int(service.snapshot.config.admin.max_body),
        on_shutdown=[close],
        logging_config=None,
    )


def _only_the_document(request: Request[Any, Any, Any]) -> None:
    """Litestar has a page of its own for what is not there."""
    if "path" in request.path_params:
        raise NotFoundException


def _refuse_unknown(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """A misspelt filter must not find everything."""
    if not connection.query_params:
        return
    known = set(query_names(handler).values())
    unknown = sorted(set(connection.query_params) - known)
    if unknown:
        names = ", ".join(sorted(known)) or "none"
        raise RequestError(
            "invalid-request",
            f"There is no parameter {unknown[0]!r:.80} here.",
            [Fault(name, "is not known here", f"the parameters are: {names}") for name in unknown],
        )


# ---- errors ----------------------------------------------------------------------------------


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, HTTPException) and error.status_code != 500:
        error = _of_litestar(error, request)
    problem, headers = problem_of(error, request.url.path)
    if problem.status == 500:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Response(
        msgspec.json.encode(problem),
        media_type=MEDIA_TYPE,
        status_code=problem.status,
        headers=headers,
    )


def _of_litestar(error: HTTPException, request: Request[Any, Any, Any]) -> RequestError:
    if isinstance(error, ValidationException):
        names = query_names(request.route_handler)
        extra = error.extra if isinstance(error.extra, list) else []
        faults = [
            Fault(names.get(key, key), str(one.get("message", "is invalid")))
            for one in extra
            if isinstance(one, dict)
            for key in (str(one.get("key", "")),)
        ]
        said = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        return RequestError("invalid-request", said or error.detail, faults)
    kind = _KINDS.get(error.status_code, "malformed-body")
    detail = {
        "not-found": "There is nothing at this path; /schema describes the API.",
        "method-not-allowed": f"{request.method} is not possible here; the Allow header says what is.",
        "content-too-large": "The body is over admin.max_body.",
    }.get(kind, error.detail)
    return RequestError(kind, detail, headers=error.headers)


_KINDS: Final = {404: "not-found", 405: "method-not-allowed", 413: "content-too-large"}


async def _refuse(error: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        # Before it was accepted, a close is a 403 (ASGI specification, "Close").
        await send({"type": "websocket.close", "code": 1008, "reason": error.kind})
        return
    problem, headers = problem_of(error, scope["path"])
    headers["Content-Type"] = MEDIA_TYPE
    body = msgspec.json.encode(problem)
    headers["Content-Length"] = str(len(body))
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [(k.lower().encode(), v.encode("latin-1", "replace")) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


# ---- several applications, one server --------------------------------------------------------


def _is_api(path: str) -> bool:
    return any(path == base or path.startswith(base + "/") for base in API_PATHS)


class _Lifespan:
    """One application's lifespan, driven message by message."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        run: Callable[..., Awaitable[None]] = app
        self._task = asyncio.ensure_future(
            run({**scope, "state": {}}, self._inbox.get, self._outbox.put)
        )

    async def tell(self, event: str) -> dict[str, Any]:
        """Sends `startup` or `shutdown` and waits for the answer, or the application's end."""
        await self._inbox.put({"type": f"lifespan.{event}"})
        answer = asyncio.ensure_future(self._outbox.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            message: dict[str, Any] = answer.result()
            return message
        answer.cancel()
        error = self._task.exception()
        return {"type": f"lifespan.{event}.failed", "message": f"{error!r}"}


async def _lifespans(apps: list[ASGIApp], scope: Scope, receive: Receive, send: Send) -> None:
    """Starts the applications in their order and stops them in the other."""
    await receive()
    begun: list[_Lifespan] = []
    for app in apps:
        begun.append(_Lifespan(app, scope))
        answer = await begun[-1].tell("startup")
        if answer["type"].endswith("failed"):
            for one in reversed(begun[:-1]):
                await one.tell("shutdown")
            await send({"type": "lifespan.startup.failed", "message": answer.get("message", "")})
            return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    for one in reversed(begun):
        answer = await one.tell("shutdown")
        if answer["type"].endswith("failed"):
            log.error("the admin application did not end well: %s", answer.get("message", ""))
    await send({"type": "lifespan.shutdown.complete"})
