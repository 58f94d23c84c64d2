"""The application around the API: several applications on one port, and bounded load."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from litestar import Litestar, WebSocket, get, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient

from admin.conftest import ALL, BASE_URL, READ, problem
from fluxhook.admin import exchange, request_load
from fluxhook.admin.app import create_app
from fluxhook.admin.lifespan import run_lifespans
from fluxhook.admin.problem_details import RequestError
from fluxhook.admin.request_load import MAX_OF_ONE, MAX_REQUESTS, PATIENCE_S, RequestLoad


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


@pytest.mark.parametrize("raises", [True, False])
def test_the_api_serves_without_a_dashboard_that_cannot_start(
    stopped: Path, caplog: pytest.LogCaptureFixture, raises: bool
) -> None:
    """It needs more of a machine (semaphores in /dev/shm, say). One line says why; its paths are not
    there."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if raises:
            raise PermissionError(13, "Permission denied")
        await send({"type": "lifespan.startup.failed", "message": "Traceback ...\nno /dev/shm\n"})
        raise RuntimeError("no /dev/shm")  # as Starlette does

    app: Any = create_app(stopped)
    app.mount(broken)
    with TestClient(app, base_url=BASE_URL) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 404
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("the dashboard cannot start, the API serves without it: ")
    assert ("Permission denied" if raises else "no /dev/shm") in line
    assert "\n" not in line


def test_what_is_mounted_on_an_open_api_is_guarded(tmp_path: Path, other: Other) -> None:
    """Its websockets too: they are what another site's page could open."""
    from admin.conftest import config
    from fluxhook.supervisor.supervisor import Supervisor

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
    monkeypatch.setattr(request_load, "MAX_REQUESTS", 2)
    headers = {"Authorization": f"Bearer {ALL}"}

    async def load() -> tuple[int, httpx.Response, list[httpx.Response], RequestLoad]:
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
            while app.load.under_way < 2:
                await asyncio.sleep(0)
            refused = await client.get("/v1/audit", headers=headers)
            alive = [await client.get(path) for path in ("/healthz", "/readyz")]
            go.set()
            done = await asyncio.gather(*held)
        app.service.close()
        return sum(answer.status_code == 202 for answer in done), refused, alive, app.load

    done, refused, alive, afterwards = asyncio.run(load())
    problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert alive[0].status_code == 200
    problem(alive[1], 503, "engine-not-running")
    assert done == 2
    assert not afterwards.under_way


class Asking:
    """A request, as the load sees it."""

    def __init__(self, waited_s: float = 0.0) -> None:
        self.waited_s = waited_s
        self.gave_way = False

    def give_way(self) -> None:
        self.gave_way = True


def test_one_client_leaves_room_for_others() -> None:
    """A token, or an address without one, has MAX_OF_ONE requests under way at most."""
    load = RequestLoad()
    with ExitStack() as held:
        for _ in range(MAX_OF_ONE):
            held.enter_context(load.one_more("greedy", Asking()))
        with pytest.raises(RequestError, match=f"{MAX_OF_ONE} requests of this") as refused:
            held.enter_context(load.one_more("greedy", Asking()))
        assert refused.value.kind == "overloaded"
        for _ in range(MAX_REQUESTS - MAX_OF_ONE):
            held.enter_context(load.one_more("modest", Asking()))
        with pytest.raises(RequestError, match=f"^{MAX_REQUESTS} requests are"):
            held.enter_context(load.one_more("late", Asking()))
    assert load.under_way == 0
    assert not load.by_client


def test_who_sends_slowly_gives_way() -> None:
    """Of the same client, or, where all room is taken, of that which has most; never one that is being
    answered, or whose body has had no time to come."""
    load = RequestLoad()
    with ExitStack() as held:
        slow = [Asking(PATIENCE_S + n) for n in range(3)]
        others = [Asking(PATIENCE_S / 2) for _ in range(MAX_OF_ONE - 3)]
        for one in (*others, *slow):
            held.enter_context(load.one_more("slow", one))
        held.enter_context(load.one_more("slow", Asking()))
        assert [one.gave_way for one in slow] == [True, False, False]
        for n in range(MAX_REQUESTS - MAX_OF_ONE):
            held.enter_context(load.one_more(f"client {n}", Asking(9.0)))
        held.enter_context(load.one_more("late", Asking()))
        assert [one.gave_way for one in slow] == [True, True, False]
        assert not any(one.gave_way for one in others)
        assert load.under_way == MAX_REQUESTS
    assert not load.by_client


def test_half_sent_bodies_keep_nobody_out(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of them is answered with 503, and its connection closed."""
    monkeypatch.setattr(request_load, "MAX_OF_ONE", 2)
    monkeypatch.setattr(request_load, "PATIENCE_S", 0.01)
    headers = {"Authorization": f"Bearer {ALL}"}

    async def attack() -> tuple[list[httpx.Response], httpx.Response]:
        app = create_app(stopped)

        async def never() -> Any:
            yield b'{"type":'
            await asyncio.Event().wait()

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
            slow = [
                asyncio.ensure_future(client.post("/v1/events", content=never(), headers=headers))
                for _ in range(2)
            ]
            while len(
                mine := app.load.by_client.get(app.access.client(f"Bearer {ALL}"), {})
            ) < 2 or any(one.waited_s < request_load.PATIENCE_S for one in mine):
                await asyncio.sleep(0.01)
            answer = await client.get("/v1/audit", headers=headers)
            done, left = await asyncio.wait(slow, return_when="FIRST_COMPLETED")
            for one in left:
                one.cancel()
        app.service.close()
        return [one.result() for one in done], answer

    (given_way,), answer = asyncio.run(attack())
    assert answer.status_code == 200
    problem(given_way, 503, "overloaded")
    assert given_way.headers["connection"] == "close"


def test_two_tokens_do_not_share_their_room(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of one of them are not held against the other; a token is counted, not its address."""
    monkeypatch.setattr(request_load, "MAX_OF_ONE", 1)
    app: Any = create_app(stopped)
    with TestClient(app, base_url=BASE_URL) as client:
        name = app.access.client(f"Bearer {READ}")
        with app.load.one_more(name, Asking()):
            for token, status in ((READ, 503), (ALL, 200)):
                headers = {"Authorization": f"Bearer {token}"}
                assert client.get("/v1/audit", headers=headers).status_code == status


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
    events: list[dict[str, Any]] = [
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


def test_head_of_what_is_mounted(stopped: Path, other: Other) -> None:
    """It works where GET does."""
    app: Any = create_app(stopped)
    app.mount(other.app)
    with TestClient(app, base_url=BASE_URL) as client:
        assert client.head("/page").status_code == client.get("/page").status_code == 200
        assert client.head("/nothing").status_code == 404


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


# ---- what comes slowly, broken or odd ---------------------------------------------------------


def scope_of(method: str, path: str, **headers: str) -> dict[str, Any]:
    lines = {"host": "127.0.0.1", "authorization": f"Bearer {ALL}"} | headers
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "client": ("127.0.0.1", 1),
        "headers": [(name.replace("_", "-").encode(), v.encode()) for name, v in lines.items()],
    }


def answered(app: Any, scope: dict[str, Any], *pieces: bytes, last: Any = None) -> httpx.Response:
    """Return the answer to a request whose body comes in pieces; then nothing comes, or the `last`."""
    said: list[dict[str, Any]] = []
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": True}
        if last is not None:
            return {"type": last}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in said[1:])
    answer = httpx.Response(said[0]["status"], headers=said[0]["headers"], content=body)
    answer.request = httpx.Request(scope["method"], f"{BASE_URL}{quote(scope['path'])}")
    return answer


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/v1/events", "application/json"),
        ("/v1/events", "application/x-ndjson"),
        ("/v1/webhooks", "application/json"),
        ("/v1/dead-letters/replay", "application/json"),
    ],
)
def test_a_body_has_a_deadline(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, path: str, media: str
) -> None:
    """Whatever takes it: 408, the connection is closed, and what was accepted of lines is told."""
    monkeypatch.setattr(exchange, "BODY_GRACE_S", 0.05)
    app = create_app(stopped)
    scope = scope_of("POST", path, content_type=media)
    answer = answered(app, scope, b'{"type":"nobody.x"}\n', b'{"ty')
    app.service.close()
    said = problem(answer, 408, "request-timeout")
    assert answer.headers["connection"] == "close"
    assert len(said.get("events", ())) == (media == "application/x-ndjson")
    assert not app.load.under_way


def test_a_body_that_comes_has_more_time(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each BODY_RATE bytes are worth a second."""

    def grace(seconds: float) -> None:
        monkeypatch.setattr(exchange, "BODY_GRACE_S", seconds)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x" * exchange.BODY_RATE, "more_body": True}

    async def read() -> None:
        one = exchange.Exchange(receive, None)
        grace(0.0)
        with pytest.raises(RequestError):
            await one.receive()
        grace(30.0)
        await one.receive()
        grace(0.0)
        for _ in range(3):
            await one.receive()

    asyncio.run(read())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/x\nERROR forged",
        "/\x00",
        "/v1/webhooks/\x1b[2J",
        "/\ufffd",
        "/\u2028x",
        "/v1/a\r\nb",
    ],
)
def test_odd_paths_are_not_found(
    stopped: Path, other: Other, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Nothing behind sees them, and nothing is logged."""
    app = create_app(stopped)
    app.mount(other.app)
    scope = scope_of("GET", path)
    assert answered(app, scope, last="http.disconnect").status_code == 404
    app.service.close()
    assert not caplog.records


def test_a_long_path_is_refused(stopped: Path) -> None:
    """414, for the API and what is mounted."""
    app = create_app(stopped)
    for path in ("/v1/webhooks/" + "a" * 9000, "/" + "a" * 9000):
        answer = answered(app, scope_of("GET", path), last="http.disconnect")
        problem(answer, 414, "uri-too-long")
    app.service.close()


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "x]y", "127.0.0.1:x", "\xff", "a/b", "u@h"])
def test_a_host_that_is_none_is_refused(stopped: Path, host: str) -> None:
    """400 (RFC 9112 section 3.2), also where tokens let any host in; so are two of them."""
    app = create_app(stopped)
    answer = answered(app, scope_of("GET", "/v1/webhooks", host=host), last="http.disconnect")
    problem(answer, 400, "malformed-request")
    scope = scope_of("GET", "/v1/webhooks")
    scope["headers"].append((b"host", b"127.0.0.1"))
    problem(answered(app, scope, last="http.disconnect"), 400, "malformed-request")
    app.service.close()


def test_a_fault_of_what_is_mounted_is_one_record(
    stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the path as it stands in a URL; and none at all where nobody waits for the answer."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("broken")

    app = create_app(stopped)
    app.mount(broken)
    answer = answered(app, scope_of("GET", "/a b"), b"")
    problem_500 = answer.json()
    assert (answer.status_code, problem_500["instance"]) == (500, "/a%20b")
    assert [record.getMessage() for record in caplog.records] == [
        "GET /a%20b failed: RuntimeError: broken"
    ]
    caplog.clear()
    scope, said = scope_of("POST", "/a"), []

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    asyncio.run(app(scope, gone, send))
    assert not said
    assert not caplog.records
    app.service.close()


# ---- methods -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/webhooks", "GET, HEAD, OPTIONS, POST"),
        ("/v1/webhooks/", "GET, HEAD, OPTIONS, POST"),
        ("/v1/webhooks/a%2Fb", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/v1/webhooks/status", "GET, HEAD, OPTIONS"),
        ("/v1/webhooks/%73tatus", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/v1/webhooks/a/pause", "OPTIONS, POST"),
        ("/v1/events", "OPTIONS, POST"),
        ("/v1/dead-letters/dlv_1", "DELETE, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/schema/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_lists_what_is_there(stopped: Path, path: str, methods: str) -> None:
    """In Allow, and to anybody, as the schema does; the refusal of another method says the same."""
    with TestClient(create_app(stopped), base_url=BASE_URL) as client:
        answer = client.options(path)
        assert (answer.status_code, answer.headers["allow"]) == (204, methods)
        headers = {"Authorization": f"Bearer {ALL}"}
        refused = client.put(path, headers=headers)
        assert refused.status_code == 405
        assert set(refused.headers["allow"].split(", ")) == set(methods.split(", "))
        problem(client.options("/v1/nothing"), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x1f\x8b\x08\x00", "begins as gzip does"),
        (b"\x28\xb5\x2f\xfd\x00", "begins as zstd does"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"type":"x.a"}'.encode("utf-16"), "UTF-16"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    ],
)
def test_a_body_that_is_no_json_is_told_why(stopped: Path, body: bytes, words: str) -> None:
    """400 with the likely cause."""
    with TestClient(create_app(stopped), base_url=BASE_URL) as client:
        headers = {"Authorization": f"Bearer {ALL}", "Content-Type": "application/json"}
        for path in ("/v1/events", "/v1/webhooks"):
            said = problem(client.post(path, content=body, headers=headers), 400, "malformed-body")
            assert words in said["detail"]
