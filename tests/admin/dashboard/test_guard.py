"""What stands before the dashboard, without a browser: sessions, foreign pages, headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request
from litestar.testing import TestClient

from fluxhook.admin.auth import Access
from fluxhook.admin.dashboard.session.guard import SESSION, STATIC, Guard, public_files
from fluxhook.admin.dashboard.session.login import login_page, safe_target
from fluxhook.admin.dashboard.session.sessions import IDLE_S, MAX_SESSIONS, Session, Sessions
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.failed_tokens import FREE
from fluxhook.admin.problem_details import RequestError
from fluxhook.config.schema import Token

READER = "reader-token-0123456789"
BASE = "http://gateway.example.com"


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Stand for the dashboard: everything that reaches it was let through."""
    if scope["type"] == "lifespan":
        for word in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{word}.complete"})
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


class GuardedPages:
    def __init__(self, *tokens: Token, loopback: bool = False) -> None:
        self.tokens = list(tokens)
        self.guard: Any = Guard(pages, Access(lambda: self.tokens, loopback=loopback))
        self.client: TestClient[Any] = TestClient(self.guard, base_url=BASE)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers, follow_redirects=False)

    def log_in(self, token: str = READER, target: str = "/", **headers: str) -> Any:
        form = {"token": token, "next": target}
        return self.client.post("/login", data=form, headers=headers, follow_redirects=False)


@pytest.fixture
def rig() -> Iterator[GuardedPages]:
    made = GuardedPages(Token(token=READER, scopes=("read",)))
    with made.client:
        yield made


def test_a_stranger_is_led_to_the_login(rig: GuardedPages) -> None:
    """And from there to the page that was asked for; only what the login itself needs is served."""
    answer = rig.get("/deliveries?state=dead&type=a")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/deliveries%3Fstate%3Ddead%26type%3Da"
    assert rig.get("/_dashboard/dashboard.css").text == "the page"
    assert rig.get("/_nicegui_ws/socket.io/?transport=polling").status_code == 303
    assert 'name="next" value="/deliveries"' in rig.get("/login?next=/deliveries").text


def test_a_token_opens_and_its_end_closes(rig: GuardedPages) -> None:
    """The cookie holds no token; when the configuration has the token no more, it opens nothing."""
    answer = rig.log_in(target="/endpoints")
    assert (answer.status_code, answer.headers["location"]) == (303, "/endpoints")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert READER not in cookie
    assert rig.get("/").text == "the page"
    rig.tokens.clear()
    assert rig.get("/").status_code == 303


def test_a_cookie_of_https_stays_there(rig: GuardedPages) -> None:
    """Secure, where the login came over TLS, to us or to a proxy."""
    assert "Secure" in rig.log_in(**{"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    with TestClient(rig.guard, base_url=BASE.replace("http", "https")) as client:
        answer = client.post("/login", data={"token": READER}, follow_redirects=False)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("form", [{"token": "wrong"}, {}, {"token": "x" * 20_000}])
def test_a_wrong_token_opens_nothing(rig: GuardedPages, form: dict[str, str]) -> None:
    """Nor one that is missing, or does not fit; the answer does not repeat it."""
    answer = rig.client.post("/login", data=form, follow_redirects=False)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert form.get("token", "<none>") not in answer.text
    assert rig.get("/").status_code == 303


def test_a_logout_ends_the_session(rig: GuardedPages) -> None:
    """On the server too: the former cookie opens nothing."""
    cookie = rig.log_in().headers["set-cookie"].partition(";")[0]
    assert rig.client.post("/logout", follow_redirects=False).status_code == 303
    assert rig.get("/", cookie=cookie).status_code == 303


def test_a_page_of_another_port_reaches_nothing(rig: GuardedPages) -> None:
    """SameSite knows no ports: the Origin of all that is no plain link must be ours."""
    rig.log_in()
    foreign = {"origin": BASE + ":3000"}
    assert rig.log_in(**foreign).status_code == 403
    assert rig.client.post("/logout", headers=foreign).status_code == 403
    assert rig.get("/_nicegui_ws/socket.io/?transport=polling", **foreign).status_code == 403
    assert rig.get("/").text == "the page"
    for origin, accepted in ((BASE + ":3000", False), ("null", False), (BASE, True)):
        assert opens_socket(rig, {"origin": origin}) is accepted


def test_a_socket_needs_a_session(rig: GuardedPages) -> None:
    """Data that is pushed to the pages is as good as the pages."""
    assert not opens_socket(rig, {"origin": BASE})


def opens_socket(rig: GuardedPages, headers: dict[str, str]) -> bool:
    """Return whether the handshake of a websocket comes through to the pages."""
    cookies = "; ".join(f"{name}={value}" for name, value in rig.client.cookies.items())
    lines = {"host": "gateway.example.com", "cookie": cookies} | headers
    scope = {
        "type": "websocket",
        "path": "/_nicegui_ws/socket.io/",
        "query_string": b"",
        "server": ("gateway.example.com", 80),
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
    }
    sent: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(rig.guard(scope, receive, send))
    return sent[0] == "websocket.accept"


def test_pages_are_kept_to_their_server(rig: GuardedPages) -> None:
    """Every answer forbids what is from elsewhere, and to be framed."""
    rig.log_in()
    for path in ("/", "/login", "/_dashboard/x"):
        headers = rig.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_nobody_is_asked_where_there_is_no_token() -> None:
    """An open engine on this machine: the pages at once, and no way to the login."""
    rig = GuardedPages(loopback=True)
    with rig.client:
        assert rig.get("/").text == "the page"
        assert rig.get("/login").headers["location"] == "/"


@pytest.mark.parametrize(
    "path",
    ["/_nicegui/x", "/_nicegui/", "/_dashboard/", "/_dashboard/x", "/_dashboard/../app.py", "/x"],
)
def test_only_known_files_are_served_to_strangers(rig: GuardedPages, path: str) -> None:
    """The library makes a page of whatever it does not know; the login's own files are all there is."""
    assert rig.get(path).status_code == 303
    assert rig.client.post(path, follow_redirects=False).status_code == 303
    for known in public_files():
        assert rig.get(known).text == "the page"


def test_the_login_needs_no_other_file(rig: GuardedPages) -> None:
    """All that its page refers to is public, and is there."""
    page = rig.get("/login").text
    for path in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert path in public_files()
        if path.startswith("/_dashboard/"):
            assert (STATIC / path.removeprefix("/_dashboard/")).is_file()


@pytest.mark.parametrize(
    "origin", ["http://[", "://", "x", "http://", "null", "http://a@b", "\xff"]
)
def test_an_origin_that_is_none_is_foreign(rig: GuardedPages, origin: str) -> None:
    """403, never an error of ours."""
    rig.log_in()
    scope_headers = {b"origin": origin.encode("latin-1")}
    assert rig.client.get("/", headers=scope_headers).status_code == 403
    assert rig.client.post("/login", headers=scope_headers).status_code == 403


def test_options_are_answered_without_a_page(rig: GuardedPages) -> None:
    """The answer says what is there: pages to look at, and a form to send."""
    assert rig.client.options("/").headers["allow"] == "GET, HEAD, OPTIONS"
    assert "POST" in rig.client.options("/login").headers["allow"]


@pytest.mark.parametrize("path", ["/login", "/logout", "/"])
def test_a_post_that_breaks_off_is_no_error(rig: GuardedPages, path: str) -> None:
    """Nobody waits for an answer."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        pass

    asyncio.run(rig.guard(scope_of("http", path) | {"method": "POST"}, receive, send))


def test_wrong_tokens_are_slowed(rig: GuardedPages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the login count too, and never hold up the right one."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("fluxhook.admin.failed_tokens.asyncio.sleep", sleep)
    for _ in range(FREE + 2):
        assert rig.log_in("wrong-token-0123456789").status_code == 401
    assert slept == [0.25, 0.5]
    assert rig.log_in().status_code == 303
    assert len(slept) == 2


async def silence() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def unheard(message: dict[str, Any]) -> None:
    pass


def scope_of(kind: str, path: str, cookie: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "server": ("gateway.example.com", 80),
        "headers": [(b"host", b"gateway.example.com"), (b"cookie", cookie.encode())],
    }


class Tab:
    """A page that is open: its websocket, and what is said on it."""

    def __init__(self, guard: Any, cookie: str) -> None:
        self.guard, self.cookie = guard, cookie
        self.said: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.viewer: Any = None

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Stand for the library."""
        self.session = scope[SESSION]
        while True:
            message = await receive()
            self.heard.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            elif message["type"] == "websocket.disconnect":
                await send({"type": "websocket.send", "text": "too late"})
                return

    async def run(self) -> None:
        async def send(message: dict[str, Any]) -> None:
            self.said.append(message)

        self.guard.app = self.app
        scope = scope_of("websocket", "/_nicegui_ws/socket.io/", self.cookie)
        await self.guard(scope, self._incoming.get, send)

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.said]


def logged_in(rig: GuardedPages) -> str:
    return str(rig.log_in().headers["set-cookie"].partition(";")[0])


@pytest.mark.parametrize("how", ["logout", "idle"])
def test_the_end_of_a_session_ends_its_tabs(
    rig: GuardedPages, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Their websockets are closed at once, and nothing more is said on them; those of other sessions
    stay."""
    now = 1000.0
    rig.guard.sessions = Sessions(lambda: now)
    mine, other = logged_in(rig), logged_in(rig)

    async def end() -> None:
        nonlocal now
        tabs = [Tab(rig.guard, cookie) for cookie in (mine, mine, other)]
        running = []
        for tab in tabs:
            running.append(asyncio.ensure_future(tab.run()))
            while not tab.said:
                await asyncio.sleep(0)
        if how == "logout":
            await rig.guard(
                scope_of("http", "/logout", mine) | {"method": "POST"}, silence, unheard
            )
        else:
            tabs[2].session.use()
            now += IDLE_S - 1
            tabs[2].session.use()
            now += 2
            for tab in tabs:
                tab._incoming.put_nowait({"type": "websocket.receive", "text": "2"})
        await asyncio.wait_for(asyncio.gather(*running[:2]), 30)
        assert not running[2].done()
        running[2].cancel()
        for tab in tabs[:2]:
            assert tab.kinds == ["websocket.accept", "websocket.close"]
            assert tab.heard[-1]["type"] == "websocket.disconnect"
            assert tab.session.ended.is_set()
        assert tabs[2].kinds == ["websocket.accept"]

    asyncio.run(end())
    assert rig.get("/", cookie=mine).status_code == 303
    assert not opens_socket(rig, {"cookie": mine})


def test_an_open_page_is_no_use(rig: GuardedPages) -> None:
    """A request that the page makes by itself, where it has no websocket, does not put the end off."""
    now = 0.0
    rig.guard.sessions = Sessions(lambda: now)
    cookie = logged_in(rig)
    now = IDLE_S - 1
    assert rig.get("/_nicegui_ws/socket.io/?transport=polling", cookie=cookie).status_code == 200
    now = IDLE_S + 1
    assert rig.get("/", cookie=cookie).status_code == 303


def test_an_ended_session_allows_nothing() -> None:
    """A page that was open when it ended can neither look nor act; what it did was use."""
    service: Any = SimpleNamespace(asked_by=lambda origin: None)
    sampler: Any = SimpleNamespace()
    now = 0.0
    session = Session("id", READER, lambda: now)
    context = DashboardContext(
        service, Access(lambda: [Token(token=READER)], loopback=False), sampler
    )
    viewer = Viewer(context, Request({"type": "http", SESSION: session}))
    now = 100.0
    asyncio.run(viewer.change(lambda: None))
    assert session.left_s() == IDLE_S
    session.ended.set()
    for ask in (viewer.ask, viewer.change):
        with pytest.raises(RequestError):
            asyncio.run(ask(lambda: "shown"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/deliveries?state=dead", "/deliveries?state=dead"),
        ("https://evil.example.com/", "/"),
        ("//evil.example.com/", "/"),
        ("/\\evil.example.com/", "/"),
        ("/login?next=/login", "/"),
        ("/\r\nSet-Cookie: a=b", "/"),
        ("", "/"),
    ],
)
def test_a_login_leads_to_our_pages_only(target: str, expected: str) -> None:
    """Whatever the address of the login says."""
    assert safe_target(target) == expected


def test_a_login_page_escapes_its_target() -> None:
    """It is put into the form."""
    assert '"><script>' not in login_page("", '/"><script>')


def test_sessions_end_by_themselves() -> None:
    """After IDLE_S without use; and the one used longest ago makes room."""
    now = 0.0
    sessions = Sessions(lambda: now)
    first, second = sessions.open("a"), sessions.open("b")
    now = IDLE_S - 1
    assert sessions.find(first.id) == first
    now = IDLE_S + 1
    assert sessions.find(first.id) == first
    assert sessions.find(second.id) is None
    for _ in range(MAX_SESSIONS):
        sessions.open("c")
    assert sessions.find(first.id) is None


def test_an_action_asks_for_the_scope_each_time() -> None:
    """The buttons are gone from the pages of those who may only read; this is what else holds."""
    token = Token(token=READER, scopes=("read",))
    service: Any = SimpleNamespace(asked_by=lambda origin: None)
    sampler: Any = SimpleNamespace()
    context = DashboardContext(service, Access(lambda: [token], loopback=False), sampler)
    request = Request({"type": "http", SESSION: Session("id", READER)})
    viewer = Viewer(context, request)
    assert asyncio.run(viewer.ask(lambda: "read")) == "read"
    with pytest.raises(RequestError, match="scope write"):
        asyncio.run(viewer.change(lambda: "written"))
    stranger = Viewer(context, Request({"type": "http", SESSION: None}))
    with pytest.raises(RequestError, match="scope read"):
        asyncio.run(stranger.ask(lambda: "read"))
    with pytest.raises(RequestError, match="scope read"):
        asyncio.run(stranger.status())
