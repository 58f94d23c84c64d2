"""The ASGI application of the admin process: a guard, the API, and what is mounted beside it."""

from __future__ import annotations

from os import PathLike
from typing import Any, Final

import msgspec

from fluxhook.admin.api import make_api
from fluxhook.admin.auth import Access, judge_browser
from fluxhook.admin.ingest import Ingest
from fluxhook.admin.lifespan import AsgiApp, run_lifespans
from fluxhook.admin.names import masked_path
from fluxhook.admin.problems import MEDIA_TYPE, Fault, RequestError, problem_of
from fluxhook.admin.service import Service
from fluxhook.errors import FluxhookError

__all__ = ["API_PATHS", "MAX_REQUESTS", "AdminApp", "create_app"]

#: what the API answers; everything else is for what is mounted
API_PATHS: Final = ("/v1", "/schema", "/healthz", "/readyz", "/metrics")
#: of the API under way at a time; arbitrary, some more than its THREADS (server.py)
MAX_REQUESTS: Final = 128


class AdminApp:
    """One data directory's administration as an ASGI application.

    An open API (`Access.open`) answers no foreign Host, and no page of another site; that guards what
    is mounted too, its websockets included.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self.service = service
        self.access = access
        self.api = make_api(service, Ingest(service), access)
        self._mounted: AsgiApp | None = None
        self._under_way = 0

    def mount(self, app: AsgiApp) -> None:
        """Has another application serve every path but API_PATHS. It gets lifespan events and
        websockets; who may see what is its own business (`access`)."""
        self._mounted = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            apps: list[AsgiApp] = [self.api]
            if self._mounted is not None:
                apps.append(self._mounted)
            await run_lifespans(apps, scope, receive, send)
            return
        try:
            refusal: FluxhookError | None = self._judge(scope)
        except FluxhookError as error:  # the configuration cannot be read
            refusal = error
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
            return
        scope = {**scope, "path": masked_path(scope)}
        if self._mounted is not None and not _is_api(scope["path"]):
            await self._mounted(scope, receive, send)
        else:
            self._under_way += 1
            try:
                if scope["method"] == "HEAD":
                    # As GET (RFC 9110 section 9.3.2); the server leaves the body out.
                    scope["method"] = "GET"
                await self.api(scope, receive, send)
            finally:
                self._under_way -= 1

    def _judge(self, scope: Any) -> RequestError | None:
        if self.access.open:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            refusal = judge_browser(headers, scope.get("method", "WEBSOCKET"))
            if refusal is not None:
                return refusal
        path = scope["path"]
        if _is_api(path) or self._mounted is None:
            if scope["type"] == "websocket":
                return RequestError("not-found", "There is no websocket at this path.")
            if self._under_way >= MAX_REQUESTS and path != "/healthz":
                return RequestError(
                    "overloaded",
                    f"{MAX_REQUESTS} requests are under way; try again in a second.",
                )
            return _judge_coding(scope)
        return None


def create_app(
    data_dir: str | PathLike[str], *, loopback: bool = True, own_token: str = ""
) -> AdminApp:
    """The API of a data directory. Only where nobody but this machine can reach it (`loopback`) may
    it be open without a token; `own_token` is one more, with all scopes.

    Raises EngineNotRunning where no engine was ever started.
    """
    service = Service(data_dir)
    access = Access(
        lambda: service.snapshot.config.admin.tokens,
        loopback=loopback,
        own_token=own_token,
        required=lambda: service.snapshot.config.admin.require_token,
    )
    return AdminApp(service, access)


def _is_api(path: str) -> bool:
    return any(path == base or path.startswith(base + "/") for base in API_PATHS)


def _judge_coding(scope: Any) -> RequestError | None:
    """No body is decompressed: a small one could become as large as it likes."""
    codings = [
        value.decode("latin-1") for key, value in scope["headers"] if key == b"content-encoding"
    ]
    coding = ", ".join(codings).strip().lower()
    if coding in ("", "identity"):
        return None
    return RequestError(
        "unsupported-media-type",
        f"The body is compressed ({coding:.80}); send it without Content-Encoding.",
        [Fault("Content-Encoding", f"{coding!r:.80} is not taken here", "leave it out")],
        headers={"Accept-Encoding": "identity"},
    )


async def _refuse(error: FluxhookError, scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        # Closed before it was accepted: the server answers 403 (ASGI, "Close - send event").
        await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        return
    problem, headers = problem_of(error, scope["path"])
    body = msgspec.json.encode(problem)
    headers |= {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body))}
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
