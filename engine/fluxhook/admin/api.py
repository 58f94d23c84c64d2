"""The REST API as a Litestar application: routes, who may use them, and how errors are answered."""

from __future__ import annotations

import logging
from typing import Any, Final

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

from fluxhook._version import VERSION
from fluxhook.admin.auth import Access
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
from fluxhook.admin.models import HIDDEN
from fluxhook.admin.problems import MEDIA_TYPE, Fault, RequestError, problem_of
from fluxhook.admin.routes import HANDLERS
from fluxhook.admin.service import Service
from fluxhook.config import codec
from fluxhook.config.secret import Secret

__all__ = ["make_api"]

log = logging.getLogger("fluxhook")

_Connection = ASGIConnection[Any, Any, Any, Any]
_KINDS: Final = {404: "not-found", 405: "method-not-allowed", 413: "content-too-large"}


def make_api(service: Service, ingest: Ingest, access: Access) -> Litestar:
    """The API, which closes `service` and `ingest` at its end."""

    async def guard(connection: _Connection, handler: BaseRouteHandler) -> None:
        """A route that forgot its rules needs the scope `write`."""
        scope = handler.opt.get("scope", "write")
        if scope is not None:
            access.require(scope, connection.headers.get("authorization"))
        _refuse_unknown(connection, handler)

    def close() -> None:
        ingest.close()
        service.close()

    return Litestar(
        # One router for all: a handler that is registered by itself, beside others of its path, is
        # wrapped once for each (Litestar 2.25), and answers with a coroutine.
        [Router("/", route_handlers=HANDLERS)],
        guards=[guard],
        dependencies={
            "service": Provide(lambda: service, sync_to_thread=False),
            "ingest": Provide(lambda: ingest, sync_to_thread=False),
        },
        exception_handlers={Exception: _answer},
        # An answer may hold a secret that is shown once.
        response_headers=[ResponseHeader(name="Cache-Control", value="no-store")],
        type_encoders={**dict.fromkeys(codec.UNITS, str), Secret: lambda _: HIDDEN},
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


async def _only_the_document(request: Request[Any, Any, Any]) -> None:
    """Litestar has a page of its own for what is not there."""
    if "path" in request.path_params:
        raise NotFoundException


def _refuse_unknown(connection: _Connection, handler: BaseRouteHandler) -> None:
    """A misspelt filter must not find everything."""
    if not connection.query_params:
        return
    known = query_names(handler).values()
    unknown = sorted(set(connection.query_params) - set(known))
    if unknown:
        remedy = f"the parameters are {', '.join(known)}" if known else "there are no parameters"
        raise RequestError(
            "invalid-request",
            f"There is no parameter {unknown[0]!r:.80} here.",
            [Fault(f"{name:.80}", "is not known here", remedy) for name in unknown],
        )


# ---- errors ----------------------------------------------------------------------------------


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, InternalServerException):  # what Litestar makes of a broken connection
        error = RequestError("malformed-body", "The connection ended before the body did.")
    elif isinstance(error, HTTPException) and error.status_code < 500:
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
        faults = [
            Fault(names.get(one["key"], one["key"]), one["message"])
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
    return RequestError(kind, detail, headers=error.headers)
