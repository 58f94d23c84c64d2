"""What stands before the dashboard, without a browser: sessions, foreign pages, headers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request
from litestar.testing import TestClient

from fluxhook.admin.auth import Access
from fluxhook.admin.dashboard.guard import SESSION, Guard
from fluxhook.admin.dashboard.login import login_page, safe_target
from fluxhook.admin.dashboard.sessions import IDLE_S, MAX_SESSIONS, Session, Sessions
from fluxhook.admin.dashboard.viewer import Desk, Viewer
from fluxhook.admin.problems import RequestError
from fluxhook.config.schema import Token

READER = "reader-token-0123456789"
BASE = "http://gateway.example.com"


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Stands for the dashboard: everything that reaches it was let through."""
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


class Rig:
    def __init__(self, *tokens: Token, loopback: bool = False) -> None:
        self.tokens = list(tokens)
        self.guard: Any = Guard(pages, Access(lambda: self.tokens, loopback=loopback))
        self.client = TestClient(self.guard, base_url=BASE)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers, follow_redirects=False)

    def log_in(self, token: str = READER, target: str = "/", **headers: str) -> Any:
        form = {"token": token, "next": target}
        return self.client.post("/login", data=form, headers=headers, follow_redirects=False)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig(Token(token=READER, scopes=("read",)))
    with made.client:
        yield made


def test_a_stranger_is_led_to_the_login(rig: Rig) -> None:
    """And from there to the page that was asked for; only what the login itself needs is served."""
    answer = rig.get("/deliveries?state=dead&type=a")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/deliveries%3Fstate%3Ddead%26type%3Da"
    assert rig.get("/_dashboard/dashboard.css").text == "the page"
    assert rig.get("/_nicegui_ws/socket.io/?transport=polling").status_code == 303
    assert 'name="next" value="/deliveries"' in rig.get("/login?next=/deliveries").text


def test_a_token_opens_and_its_end_closes(rig: Rig) -> None:
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


def test_a_cookie_of_https_stays_there(rig: Rig) -> None:
    """Secure, where the login came over TLS."""
    with TestClient(rig.guard, base_url=BASE.replace("http", "https")) as client:
        answer = client.post("/login", data={"token": READER}, follow_redirects=False)
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("form", [{"token": "wrong"}, {}, {"token": "x" * 20_000}])
def test_a_wrong_token_opens_nothing(rig: Rig, form: dict[str, str]) -> None:
    """Nor one that is missing, or does not fit; the answer does not repeat it."""
    answer = rig.client.post("/login", data=form, follow_redirects=False)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert form.get("token", "<none>") not in answer.text
    assert rig.get("/").status_code == 303


def test_a_logout_ends_the_session(rig: Rig) -> None:
    """On the server too: the former cookie opens nothing."""
    cookie = rig.log_in().headers["set-cookie"].partition(";")[0]
    assert rig.client.post("/logout", follow_redirects=False).status_code == 303
    assert rig.get("/", cookie=cookie).status_code == 303


def test_a_page_of_another_port_reaches_nothing(rig: Rig) -> None:
    """SameSite knows no ports: the Origin of all that is no plain link must be ours."""
    rig.log_in()
    foreign = {"origin": BASE + ":3000"}
    assert rig.log_in(**foreign).status_code == 403
    assert rig.client.post("/logout", headers=foreign).status_code == 403
    assert rig.get("/_nicegui_ws/socket.io/?transport=polling", **foreign).status_code == 403
    assert rig.get("/").text == "the page"
    for origin, accepted in ((BASE + ":3000", False), ("null", False), (BASE, True)):
        assert opens_socket(rig, {"origin": origin}) is accepted


def test_a_socket_needs_a_session(rig: Rig) -> None:
    """What is pushed to the pages is as good as the pages."""
    assert not opens_socket(rig, {"origin": BASE})


def opens_socket(rig: Rig, headers: dict[str, str]) -> bool:
    """Whether the handshake of a websocket comes through to the pages."""
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


def test_pages_are_kept_to_their_server(rig: Rig) -> None:
    """Every answer forbids what is from elsewhere, and to be framed."""
    rig.log_in()
    for path in ("/", "/login", "/_dashboard/x"):
        headers = rig.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_nobody_is_asked_where_there_is_no_token() -> None:
    """An open engine on this machine: the pages at once, and no way to the login."""
    rig = Rig(loopback=True)
    with rig.client:
        assert rig.get("/").text == "the page"
        assert rig.get("/login").headers["location"] == "/"


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
    assert '"><script>' not in login_page('/"><script>')


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
    service: Any = SimpleNamespace(stats=None)
    desk = Desk(service, Access(lambda: [token], loopback=False))
    request = Request({"type": "http", SESSION: Session("id", READER)})
    viewer = Viewer(desk, request)
    assert asyncio.run(viewer.ask(lambda: "read")) == "read"
    with pytest.raises(RequestError, match="scope write"):
        asyncio.run(viewer.change(lambda: "written"))
    stranger = Viewer(desk, Request({"type": "http", SESSION: None}))
    with pytest.raises(RequestError, match="scope read"):
        asyncio.run(stranger.ask(lambda: "read"))
    with pytest.raises(RequestError, match="scope read"):
        asyncio.run(stranger.status())
