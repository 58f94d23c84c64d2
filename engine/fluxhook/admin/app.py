"""The ASGI application of the admin process: a guard, the API, and what is mounted beside it."""

from __future__ import annotations

import re
from os import PathLike
from typing import Any, Final

import msgspec

from fluxhook.admin.api import allowed_methods, make_api
from fluxhook.admin.auth import Access, header, judge_browser
from fluxhook.admin.exchange import Exchange
from fluxhook.admin.failed_tokens import FailedTokens, peer_of
from fluxhook.admin.history_file import HistoryFile
from fluxhook.admin.ingest import Ingest
from fluxhook.admin.lifespan import AsgiApp, run_lifespans
from fluxhook.admin.problem_details import MEDIA_TYPE, FieldError, RequestError, problem_of
from fluxhook.admin.references import encoded_path, masked_path
from fluxhook.admin.request_load import RequestLoad
from fluxhook.admin.sampler import Sampler
from fluxhook.admin.service import Service
from fluxhook.errors import FluxhookError
from fluxhook.logs.log import Log
from fluxhook.text import repaired

__all__ = ["API_PATHS", "AdminApp", "create_app"]

log = Log("admin")

#: what the API answers; everything else is for what is mounted
API_PATHS: Final = ("/v1", "/schema", "/healthz", "/readyz", "/metrics")
#: what is answered whatever else is under way
_HEALTH: Final = ("/healthz", "/readyz")
#: websockets at a time, one for each page that is open; arbitrary
MAX_SOCKETS: Final = 256
#: bytes of a path and its query; RFC 9110 section 4.1 asks for 8000 at least
MAX_TARGET: Final = 8192
#: RFC 3986 section 3.2.2, without what is percent-encoded, and a port
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=-]*)(:[0-9]*)?")


class AdminApp:
    """One data directory's administration as an ASGI application.

    An open API (`Access.open`) answers no foreign Host, and no page of another site; that guards what
    is mounted too, its websockets included.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self.service = service
        self.access = access
        self.failed_tokens = FailedTokens()
        self.sampler = Sampler(service.stats, HistoryFile(service.datadir.history))
        self.api = make_api(service, Ingest(service), access, self.sampler)
        self.load = RequestLoad()
        self._sockets = 0
        self._allowed = allowed_methods(self.api)
        self._mounted: AsgiApp | None = None

    def mount(self, app: AsgiApp) -> None:
        """Make another application serve every path but API_PATHS. It gets lifespan events and
        websockets; who may see what is its own business (`access`)."""
        self._mounted = app

    def _unmount(self, app: AsgiApp, fault: str) -> bool:
        """Go on without what is mounted: an operator needs the API all the more then."""
        if app is not self._mounted:
            return False
        self._mounted = None
        *_, reason = fault.strip().splitlines() or [fault]  # the rest is a traceback
        log.error("the dashboard cannot start, the API serves without it: %s", repaired(reason))
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            apps: list[AsgiApp] = [self.api]
            if self._mounted is not None:
                apps.append(self._mounted)
            await run_lifespans(apps, scope, receive, send, can_do_without=self._unmount)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    def _at_the_top(self, scope: Any) -> Any:
        """Return the scope of a request as it would be without a proxy's sub-path; its `root_path` is
        what links have to begin with. That the configuration says, and no header."""
        root = self.service.snapshot.config.admin.root_path
        headers = [(k, v) for k, v in scope["headers"] if k != b"x-forwarded-prefix"]
        path, raw = scope["path"], scope.get("raw_path") or b""
        if root and (path == root or path.startswith(root + "/")):
            path, raw = path.removeprefix(root) or "/", raw.removeprefix(root.encode()) or b"/"
        return {**scope, "root_path": root, "path": path, "raw_path": raw, "headers": headers}

    async def _socket(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            self._judge(scope)
            scope = self._at_the_top(scope)
            if self._mounted is None or _is_api(scope["path"]):
                raise RequestError("not-found", "There is no websocket at this path.")
            if self._sockets >= MAX_SOCKETS:
                raise RequestError("overloaded", f"{MAX_SOCKETS} websockets are open.")
        except FluxhookError:
            await receive()
            # Closed before it was accepted: the server answers 403 (ASGI, "Close - send event").
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
            return
        self._sockets += 1
        try:
            await self._mounted(scope, receive, send)
        finally:
            self._sockets -= 1

    async def _request(self, scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange(receive, send)
        try:
            self._judge(scope)
            scope = self._at_the_top(scope)
            await self._serve(scope, exchange)
        except FluxhookError as error:  # the configuration cannot be read, say
            if not exchange.started:
                await _refuse(error, scope, send)
        except Exception as error:
            if exchange.gone:
                return  # whatever it is: nobody asked any more
            log.error("%s %s failed", scope["method"], encoded_path(scope["path"]), exc_info=error)
            if not exchange.started:
                await _refuse(error, scope, send)

    async def _serve(self, scope: Any, exchange: Exchange) -> None:
        receive, send = exchange.receive, exchange.send
        scope = {**scope, "path": masked_path(scope)}
        path, method = scope["path"], scope["method"]
        if method == "HEAD":
            # As GET (RFC 9110 section 9.3.2); the server leaves the body out.
            scope["method"] = "GET"
        if self._mounted is not None and not _is_api(path):
            await self._mounted(scope, receive, send)
        elif method == "OPTIONS" and (allowed := self._allowed(path)):
            await _respond(send, 204, {"Allow": allowed})
        elif path in _HEALTH:
            await self.api(scope, receive, send)
        else:
            authorization = header(scope, b"authorization")
            if self.access.is_unknown(authorization):
                what = f"{method} {encoded_path(path)}"
                await self.failed_tokens.slow_down(peer_of(scope.get("client")), what)
            if fault := _coding_fault(scope):
                raise fault
            client = self.access.client(authorization) or peer_of(scope.get("client"))
            with self.load.one_more(client, exchange):
                await self.api(scope, receive, send)

    def _judge(self, scope: Any) -> None:
        """Raise RequestError for what no part of the application should have to look at."""
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if len(hosts) > 1 or (hosts and not _HOST.fullmatch(hosts[0])):
            raise RequestError(
                "malformed-request", "The Host header is none (RFC 9112 section 3.2)."
            )
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
            raise RequestError("uri-too-long", f"Path and query have over {MAX_TARGET} bytes.")
        # No name has a character that cannot be printed; what is no UTF-8 was replaced.
        if not scope["path"].isprintable() or "\ufffd" in scope["path"]:
            raise RequestError("not-found", "There is nothing at this path.")
        if self.access.open:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            refusal = judge_browser(headers, scope.get("method", "WEBSOCKET"))
            if refusal is not None:
                raise refusal


def create_app(
    data_dir: str | PathLike[str], *, loopback: bool = True, own_token: str = ""
) -> AdminApp:
    """Return the API of a data directory. Only where nobody but this machine can reach it (`loopback`)
    may it be open without a token; `own_token` is one more, with all scopes.

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


def _coding_fault(scope: Any) -> RequestError | None:
    """Refuse a compressed body, which is never decompressed: a small one could become as large as it
    likes."""
    codings = [
        value.decode("latin-1") for key, value in scope["headers"] if key == b"content-encoding"
    ]
    coding = ", ".join(codings).strip().lower()
    if coding in ("", "identity"):
        return None
    return RequestError(
        "unsupported-media-type",
        f"The body is compressed ({coding:.80}); send it without Content-Encoding.",
        [FieldError("Content-Encoding", f"{coding!r:.80} is not taken here", "leave it out")],
        headers={"Accept-Encoding": "identity"},
    )


async def _refuse(error: Exception, scope: Any, send: Any) -> None:
    problem, headers = problem_of(error, scope["path"])
    await _respond(
        send, problem.status, headers | {"Content-Type": MEDIA_TYPE}, msgspec.json.encode(problem)
    )


async def _respond(send: Any, status: int, headers: dict[str, str], body: bytes = b"") -> None:
    if status != 204:
        headers = headers | {"Content-Length": str(len(body))}
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
