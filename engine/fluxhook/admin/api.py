"""The REST API as a Litestar application: routes, who may use them, and how errors are answered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import ResponseHeader
from litestar.di import Provide
from litestar.exceptions import (
    HTTPException,
    InternalServerException,
    NotFoundException,
    ValidationException,
)
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.router import Router
from litestar.routes import HTTPRoute

from fluxhook._version import VERSION
from fluxhook.admin.auth import Access, header
from fluxhook.admin.document import (
    DESCRIPTION,
    TITLE,
    Document,
    UnitSchemas,
    operation_id,
    query_names,
    rules,
)
from fluxhook.admin.idempotency import Answers
from fluxhook.admin.ingest import Ingest
from fluxhook.admin.origin import origin_of
from fluxhook.admin.problem_details import MEDIA_TYPE, FieldError, RequestError, problem_of
from fluxhook.admin.routes import HANDLERS
from fluxhook.admin.sampler import Sampler
from fluxhook.admin.service import Service
from fluxhook.config import codec
from fluxhook.config.secret import Secret
from fluxhook.config.shown import HIDDEN
from fluxhook.logs.log import Log

__all__ = ["allowed_methods", "make_api"]

log = Log("admin")

_Connection = ASGIConnection[Any, Any, Any, Any]
_KINDS: Final = {404: "not-found", 405: "method-not-allowed", 413: "content-too-large"}


def make_api(service: Service, ingest: Ingest, access: Access, sampler: Sampler) -> Litestar:
    """Return the API, which starts and stops `sampler`, and closes the others at its end."""

    async def guard(connection: _Connection, handler: BaseRouteHandler) -> None:
        """Judge a request by its route's rules; a route that forgot them needs the scope `write`."""
        scope = handler.opt.get("scope", "write")
        if scope is not None:
            access.require(scope, header(connection.scope, b"authorization"))
        _refuse_unknown(connection, handler)

    answers = Answers()
    # Of their own: those of other requests may all be waiting for something.
    health_threads = ThreadPoolExecutor(2, "health")

    def once(request: Request[Any, Any, Any]) -> Callable[[bytes, Callable[[], Any]], Any]:
        """Return what does something once for each Idempotency-Key of a client at a path."""
        client = access.client(header(request.scope, b"authorization"))
        key = request.headers.get("idempotency-key")
        return partial(answers.once, client, request.scope["path"], key)

    def asked(request: Request[Any, Any, Any]) -> Service:
        """Return the service as of who makes the request, whom the trail of changes names."""
        return service.asked_by(partial(origin_of, access, request.scope))

    def close() -> None:
        health_threads.shutdown(wait=False)
        ingest.close()
        service.close()

    return Litestar(
        # One router for all: a handler that is registered by itself, beside others of its path, is
        # wrapped once for each (Litestar 2.25), and answers with a coroutine.
        [Router("/", route_handlers=HANDLERS)],
        guards=[guard],
        dependencies={
            "service": Provide(asked, sync_to_thread=False),
            "ingest": Provide(lambda: ingest, sync_to_thread=False),
            "access": Provide(lambda: access, sync_to_thread=False),
            "sampler": Provide(lambda: sampler, sync_to_thread=False),
            "once": Provide(once, sync_to_thread=False),
            "health_threads": Provide(lambda: health_threads, sync_to_thread=False),
        },
        exception_handlers={Exception: _answer},
        # An answer may hold a secret that is shown once.
        response_headers=[ResponseHeader(name="Cache-Control", value="no-store")],
        type_encoders={**dict.fromkeys(codec.UNITS, str), Secret: lambda _: HIDDEN},
        plugins=[UnitSchemas()],
        openapi_config=_document(),
        request_max_body_size=int(service.snapshot.config.admin.max_body),
        on_startup=[sampler.start],
        on_shutdown=[sampler.stop, close],
        logging_config=None,
    )


def _document() -> OpenAPIConfig:
    """Return how the OpenAPI document is made."""
    return OpenAPIConfig(
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
    )


def allowed_methods(api: Litestar) -> Callable[[str], str]:
    """Return what tells the value of Allow for a path of the API, or nothing where nothing is.
    (Litestar's own answer to OPTIONS names the methods of one handler of a path.)"""
    plain: dict[str, set[str]] = {}
    patterns: list[tuple[re.Pattern[str], set[str]]] = []
    for route in api.routes:
        if not isinstance(route, HTTPRoute):
            continue
        methods = {str(method) for method in route.methods} | {"OPTIONS"}
        if "GET" in methods:
            methods.add("HEAD")
        if "{" not in route.path_format:
            plain[route.path_format] = methods
        elif not route.path_format.startswith("/schema"):
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.path_format))
            patterns.append((re.compile(pattern), methods))

    def allowed(path: str) -> str:
        path = path.rstrip("/") or "/"
        methods = plain.get(path) or next((m for p, m in patterns if p.fullmatch(path)), set())
        return ", ".join(sorted(methods))

    return allowed


async def _only_the_document(request: Request[Any, Any, Any]) -> None:
    """Litestar has a page of its own for what is not there."""
    if "path" in request.path_params:
        raise NotFoundException


def _refuse_unknown(connection: _Connection, handler: BaseRouteHandler) -> None:
    """Refuse a filter that is misspelt, empty or ambiguous: it must not find everything."""
    given = parse_qsl(connection.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if not given:
        return
    known = query_names(handler).values()
    counts = Counter(name for name, _ in given)
    unknown = sorted(counts.keys() - set(known))
    if unknown:
        remedy = f"the parameters are {', '.join(known)}" if known else "there are no parameters"
        raise RequestError(
            "invalid-request",
            f"There is no parameter {unknown[0]!r:.80} here.",
            [FieldError(f"{name:.80}", "is not known here", remedy) for name in unknown],
        )
    faults = [FieldError(name, "is empty", "leave it out") for name, value in given if not value]
    faults += [
        FieldError(name, "is given more than once", "give it once")
        for name, n in counts.items()
        if n > 1
    ]
    if faults:
        said = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        raise RequestError("invalid-request", said, faults)


# ---- errors ----------------------------------------------------------------------------------


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, InternalServerException):  # what Litestar makes of a broken connection
        error = RequestError("malformed-body", "The connection ended before the body did.")
    elif isinstance(error, HTTPException) and error.status_code < 500:
        error = _of_litestar(error, request)
    problem, headers = problem_of(error, request.scope["path"])
    if problem.status == 500:
        log.error("%s %s failed", request.method, problem.instance, exc_info=error)
    return Response(
        msgspec.json.encode(problem),
        media_type=MEDIA_TYPE,
        status_code=problem.status,
        headers=headers,
    )


def _of_litestar(error: HTTPException, request: Request[Any, Any, Any]) -> RequestError:
    if isinstance(error, ValidationException):
        names = query_names(request.route_handler)
        faults = [
            FieldError(names.get(one["key"], one["key"]), one["message"])
            for one in (error.extra if isinstance(error.extra, list) else [])
        ]
        said = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        return RequestError("invalid-request", said or error.detail, faults)
    kind = _KINDS.get(error.status_code, "malformed-body")
    detail = {
        "not-found": "There is nothing at this path; /schema describes the API.",
        "method-not-allowed": f"{request.method} is not possible here; the Allow header says what is.",
        "content-too-large": "The body is over admin.max_body.",
    }.get(kind, error.detail)
    headers = dict(error.headers or {})
    if "GET" in (allowed := headers.get("allow", headers.get("Allow", ""))):
        headers = {"Allow": ", ".join(sorted({*allowed.split(", "), "HEAD"}))}
    return RequestError(kind, detail, headers=headers)
