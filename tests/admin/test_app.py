"""The application around the API: several applications on one port, and bounded load."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient

from admin.conftest import ALL, BASE_URL, problem
from fluxhook.admin import app as app_module
from fluxhook.admin.app import create_app
from fluxhook.admin.lifespan import run_lifespans


class Other:
    """A second application with a lifespan, pages and websockets."""

    def __init__(self) -> None:
        self.seen: list[str] = []

        @get(["/", "/page"], sync_to_thread=False)
        def page() -> str:
            return "a page"

        @websocket("/socket")
        async def socket(socket: WebSocket[Any, Any, Any]) -> None:
            await socket.accept()
            await socket.send_text("hello")
            await socket.close()

        self.app = Litestar(
            [page, socket],
            on_startup=[lambda: self.seen.append("up")],
            on_shutdown=[lambda: self.seen.append("down")],
            openapi_config=None,
            logging_config=None,
        )


@pytest.fixture
def other() -> Other:
    return Other()


def test_what_is_mounted_has_all_paths_but_the_apis(stopped: Path, other: Other) -> None:
    """With its own lifespan and its websockets, in one server."""
    app: Any = create_app(stopped)
    app.mount(other.app)
    with TestClient(app, base_url=BASE_URL) as client:
        assert other.seen == ["up"]
        assert client.get("/").text == client.get("/page").text == "a page"
        with client.websocket_connect("/socket") as socket:
            assert socket.receive_text() == "hello"
        assert client.get("/healthz").json() == {"status": "ok"}
        problem(client.get("/v1/nothing"), 404, "not-found")
        assert client.get("/v1x").status_code == 404, "no path of the API"
        assert (
            client.get("/v1/audit", headers={"Authorization": f"Bearer {ALL}"}).status_code == 200
        )
    assert other.seen == ["up", "down"]


def test_what_is_mounted_on_an_open_api_is_guarded(tmp_path: Path, other: Other) -> None:
    """Its websockets too: they are what another site's page could open."""
    from admin.conftest import config
    from fluxhook.runtime.supervisor import Supervisor

    Supervisor(tmp_path / "data", config()).close()
    app: Any = create_app(tmp_path / "data")
    app.mount(other.app)
    with TestClient(app, base_url=BASE_URL) as client:
        assert client.get("/page").text == "a page"
        foreign = {"Origin": "http://evil.example"}
        problem(client.get("/page", headers=foreign), 403, "cross-origin")
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("/socket", headers=foreign),
        ):
            pass
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/webhooks"):
            pass


def test_load_is_bounded(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above MAX_REQUESTS under way the next one is told to come again; health still answers."""
    monkeypatch.setattr(app_module, "MAX_REQUESTS", 2)
    headers = {"Authorization": f"Bearer {ALL}"}

    async def load() -> tuple[int, httpx.Response, httpx.Response]:
        app = create_app(stopped)
        go = asyncio.Event()

        async def slow() -> Any:
            yield b'{"type":'
            await go.wait()
            yield b'"nobody.x"}'

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            media = {"Content-Type": "application/x-ndjson"}
            held = [
                asyncio.ensure_future(
                    client.post("/v1/events", content=slow(), headers=headers | media)
                )
                for _ in range(2)
            ]
            while app._under_way < 2:
                await asyncio.sleep(0)
            refused = await client.get("/v1/audit", headers=headers)
            alive = await client.get("/healthz")
            go.set()
            done = await asyncio.gather(*held)
        app.service.close()
        return sum(answer.status_code == 202 for answer in done), refused, alive

    done, refused, alive = asyncio.run(load())
    problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert alive.status_code == 200
    assert done == 2


def test_a_client_that_leaves_is_no_fault_of_ours(
    stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that breaks off is refused; what its whole lines said is accepted."""
    app = create_app(stopped)
    said: list[dict[str, Any]] = []
    headers = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {ALL}",
        "content-type": "application/x-ndjson",
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    events = [
        {"type": "http.request", "body": b'{"type":"nobody.x"}\n{"ty', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    asyncio.run(app(scope, receive, send))
    app.service.close()
    assert said[0]["status"] == 400
    assert not caplog.records


def test_a_part_that_cannot_start_stops_the_others() -> None:
    """The server is told why, and what had begun is ended."""
    seen: list[str] = []

    async def good(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            event = (await receive())["type"]
            seen.append(event)
            await send({"type": f"{event}.complete"})

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no room"})

    async def raising(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    async def run(bad: Any) -> dict[str, Any]:
        said: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "lifespan.startup"}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        await run_lifespans([good, bad], {"type": "lifespan"}, receive, send)
        (only,) = said
        return only

    for bad, words in ((failing, "no room"), (raising, "broken")):
        seen.clear()
        answer = asyncio.run(run(bad))
        assert answer["type"] == "lifespan.startup.failed"
        assert words in answer["message"]
        assert seen == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/webhooks", "/v1/nothing"])
def test_head_is_get_without_a_body(stopped: Path, path: str) -> None:
    """With the same status and headers (RFC 9110 section 9.3.2)."""
    with TestClient(create_app(stopped), base_url=BASE_URL) as client:
        head, got = client.head(path), client.get(path)
        assert head.status_code == got.status_code
        assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("coding", ["gzip", "br", "x-gzip, identity", "ZSTD"])
def test_a_compressed_body_is_refused(stopped: Path, coding: str) -> None:
    """415 names the coding and says what is taken; `identity` is none."""
    with TestClient(create_app(stopped), base_url=BASE_URL) as client:
        for path in ("/v1/events", "/v1/webhooks"):
            headers = {"Content-Type": "application/json", "Content-Encoding": coding}
            answer = client.post(path, content=b"\x1f\x8b", headers=headers)
            said = problem(answer, 415, "unsupported-media-type")
            assert coding.lower() in said["detail"]
            assert answer.headers["Accept-Encoding"] == "identity"
        plain = {"Content-Encoding": "identity", "Authorization": f"Bearer {ALL}"}
        problem(client.post("/v1/events", content=b"{", headers=plain), 400, "malformed-body")
