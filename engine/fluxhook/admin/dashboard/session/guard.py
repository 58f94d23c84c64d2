"""What stands before the dashboard: who may see it, what a browser must not be made to do, and the
headers that keep a page to its own server."""

from __future__ import annotations

import asyncio
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote

import nicegui
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fluxhook.admin.auth import Access, header, is_foreign
from fluxhook.admin.dashboard.session.login import login_page, safe_target
from fluxhook.admin.dashboard.session.sessions import IDLE_S, Session, Sessions
from fluxhook.admin.failed_tokens import FailedTokens, peer_of
from fluxhook.admin.problem_details import RequestError

__all__ = ["SESSION", "STATIC", "Guard", "public_files"]

STATIC: Final = Path(__file__).parents[1] / "static"

#: where a request's scope has its session; None: none is needed
SESSION: Final = "fluxhook.session"
#: how pages that are open ask on where there is no websocket: no sign of somebody at work
_POLLING: Final = "/_nicegui_ws/"
#: of a login form; a token has at most some hundred
MAX_FORM_BYTES: Final = 8192

# The library makes functions of templates in the browser, which needs unsafe-eval; all else is ours.
HEADERS: Final = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}


def public_files() -> frozenset[str]:
    """Return the paths that anyone may fetch, for the login page needs them: our own static files, and
    the library's fonts. Of other paths the library makes pages, which are not for strangers."""
    library = Path(nicegui.__file__).parent / "static"
    fonts = [library / "fonts.css", *(library / "fonts").glob("*")]
    return frozenset(
        (
            "/favicon.ico",
            *(f"/_dashboard/{file.name}" for file in STATIC.iterdir()),
            *(
                f"/_nicegui/{nicegui.__version__}/static/{file.relative_to(library)}"
                for file in fonts
            ),
        )
    )


class Guard:
    """Lets through those who need no token or gave one with the scope read, and asks others for it."""

    def __init__(
        self, app: ASGIApp, access: Access, failed_tokens: FailedTokens | None = None
    ) -> None:
        #: what it stands before
        self.app = app
        self._access = access
        self._failed_tokens = failed_tokens or FailedTokens()
        #: who has logged in
        self.sessions = Sessions()
        self._public = public_files()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif _is_foreign(scope):
            # SameSite cookies are sent from any port of this host; an Origin has its port.
            await _deny(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "OPTIONS":
            own = scope["path"] in ("/login", "/logout")
            allowed = "GET, HEAD, OPTIONS, POST" if own else "GET, HEAD, OPTIONS"
            await Response(None, 204, {"allow": allowed})(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and scope["path"] in ("/login", "/logout"):
            request = Request(scope, receive)
            try:
                page = await (self._login if scope["path"] == "/login" else self._logout)(request)
            except ClientDisconnect:
                return
            await page(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and scope["path"] in self._public:
            await self.app(scope, receive, _with_headers(send))
        else:
            await self._admit(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = self._session(scope)
        if self._access.open or (
            session is not None and "read" in self._access.scopes_of(session.token)
        ):
            scope[SESSION] = session
            if scope["type"] == "websocket" and session is not None:
                socket = _Socket(receive, send, session, self.sessions)
                await self.app(scope, socket.receive, socket.send)
            else:
                await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await _deny(scope, receive, send)
        else:
            wanted = scope["path"]
            if scope["query_string"]:
                wanted += "?" + scope["query_string"].decode("latin-1")
            target = "" if wanted == "/" else "?next=" + quote(wanted, safe="/")
            login = f"{_root(scope)}/login{target}"
            response = RedirectResponse(login, 303, {"cache-control": "no-store"})
            await response(scope, receive, _with_headers(send))

    async def _login(self, request: Request) -> Response:
        root = _root(request.scope)
        if self._access.open:
            return RedirectResponse(f"{root}/", 303)
        if request.method != "POST":
            return _page(login_page(root, safe_target(request.query_params.get("next", "/"))))
        form = await _form(request)
        target, token = safe_target(form.get("next", "/")), form.get("token", "").strip()
        scopes = self._access.scopes_of(token)
        if not scopes:
            try:
                peer = peer_of(request.scope.get("client"))
                await self._failed_tokens.slow_down(peer, "the login of the dashboard")
            except RequestError as refusal:
                return _page(login_page(root, target, str(refusal)), 429)
            return _page(
                login_page(root, target, "This token is not known. Check it, and try again."), 401
            )
        if "read" not in scopes:
            error = f"This token may only {' and '.join(sorted(scopes))}; the dashboard needs read."
            return _page(login_page(root, target, error), 403)
        response = RedirectResponse(root + target, 303)
        response.set_cookie(
            _cookie_name(request.scope),
            self.sessions.open(token).id,
            max_age=int(IDLE_S),
            path=root or "/",
            httponly=True,
            samesite="strict",
            secure=_is_secure(request.scope),
        )
        return response

    async def _logout(self, request: Request) -> Response:
        root = _root(request.scope)
        if request.method != "POST":
            return RedirectResponse(f"{root}/", 303)
        session = self._session(request.scope)
        if session is not None:
            self.sessions.close(session.id)
        response = RedirectResponse(f"{root}/login", 303)
        name = _cookie_name(request.scope)
        response.delete_cookie(name, path=root or "/", httponly=True, samesite="strict")
        return response

    def _session(self, scope: Scope) -> Session | None:
        try:
            cookies = SimpleCookie(header(scope, b"cookie"))
        except CookieError:
            return None
        found = cookies.get(_cookie_name(scope))
        use = not scope["path"].startswith(_POLLING)
        return None if found is None else self.sessions.find(found.value, use=use)


class _Socket:
    """`receive` and `send` of a websocket that ends with its session."""

    def __init__(self, receive: Receive, send: Send, session: Session, sessions: Sessions) -> None:
        self._receive = receive
        self._send = send
        self._session = session
        self._sessions = sessions
        self._closed = False

    async def receive(self) -> Message:
        """Return the next message, or that the connection has ended."""
        message = asyncio.ensure_future(self._receive())
        end = asyncio.ensure_future(self._session.ended.wait())
        try:
            while not message.done() and (left_s := self._sessions.left_s(self._session)) > 0:
                await asyncio.wait((message, end), timeout=left_s, return_when="FIRST_COMPLETED")
            if self._session.ended.is_set() and not self._closed:
                self._closed = True
                await self._send({"type": "websocket.close", "code": 1008, "reason": "logged out"})
            if self._closed:
                return {"type": "websocket.disconnect", "code": 1008}
            return message.result()
        finally:
            end.cancel()
            message.cancel()

    async def send(self, message: Message) -> None:
        if not self._closed:
            await self._send(message)


def _root(scope: Scope) -> str:
    """Return what paths begin with in the browser; "" unless a proxy shows us below a path."""
    root: str = scope.get("root_path", "")
    return root


def _cookie_name(scope: Scope) -> str:
    """Return the cookie's name: a host's cookies are shared by all of its ports, so each engine has
    one of its own."""
    _, port = scope.get("server") or ("", 0)
    return f"fluxhook_{port}"


def _is_secure(scope: Scope) -> bool:
    """Return whether a browser came over TLS, to us or to a proxy. Who says so untruly has a cookie of
    his own that is of less use."""
    return scope["scheme"] == "https" or header(scope, b"x-forwarded-proto") == "https"


def _is_foreign(scope: Scope) -> bool:
    """Return whether a page of another site or port made the request; a followed link has no Origin."""
    return is_foreign(header(scope, b"origin") or None, header(scope, b"host") or "")


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    return {key: values[-1] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _page(html: str, status: int = 200) -> Response:
    return HTMLResponse(html, status, {"cache-control": "no-store"})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", ()), *own]
        await send(message)

    return sending


async def _deny(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        closing: dict[str, Any] = {"type": "websocket.close", "code": 1008}
        await send(closing)
        return
    denied = PlainTextResponse("A page of another site made this request.", 403)
    await denied(scope, receive, send)
