"""An engine with its admin process and a receiver, and Chromium to look at them."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from admin.conftest import DEADLINE_S, until
from fluxhook import Aggregate, Breaker, Config, Duration, Endpoint, Engine, Retry, Size
from fluxhook.config.schema import Admin, Token
from fluxhook.receiver import Behaviour
from fluxhook.transport.datadir import DataDir
from support.receiver import ReceiverProcess

OPERATOR: Final = "operator-token-0123456789"
READER: Final = "reader-token-0123456789"
EMITTER: Final = "emitter-token-0123456789"
TOKENS: Final = (
    Token(token=OPERATOR),
    Token(token=READER, scopes=("read",)),
    Token(token=EMITTER, scopes=("emit",)),
)
#: an ed25519 key whose halves do not fit
TORN: Final = "whsk_" + base64.b64encode(bytes(range(64))).decode()
#: what no page and no message to one may hold
SECRETS: Final = (
    "sk_live_9x8m2p",
    "hidden-in-a-header",
    "hidden-in-the-query",
    OPERATOR,
    READER,
    TORN,
)
#: where pictures of the pages are kept, if anywhere: to take them needs as much as all else of a test
ARTIFACTS: Final = os.environ.get("FLUXHOOK_ARTIFACTS")

expect.set_options(timeout=DEADLINE_S * 1000)


class DashboardSite:
    """The engine and what surrounds it. The receiver can be killed, and comes back on its port."""

    def __init__(self, data_dir: Path) -> None:
        self.receiver = ReceiverProcess(keep=50)
        self.port = self.receiver.port
        self.receiver_url = self.receiver.url
        self.behave()
        self.engine = Engine(self._config(), data_dir)
        self._alive_read, self._alive = os.pipe()
        self._admin: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.engine.start()
        self._admin = subprocess.Popen(
            [
                *(sys.executable, "-m", "fluxhook.admin", "serve"),
                *(str(self._alive_read), str(self.engine.data_dir)),
            ],
            pass_fds=[self._alive_read],
        )
        file = DataDir(self.engine.data_dir).admin_file
        until(file.exists, "admin.json")
        self.url: str = msgspec.json.decode(file.read_bytes())["url"]

    def close(self) -> None:
        os.close(self._alive_read)
        os.close(self._alive)
        try:
            if self._admin is not None:
                assert self._admin.wait(DEADLINE_S) == 0
        finally:
            if self._admin is not None and self._admin.poll() is None:
                self._admin.kill()
                self._admin.wait()
            self.engine.close()
            self.receiver.close()

    def behave(self) -> None:
        self.receiver.behave(Behaviour(status=503, body=b'{"error": "no stock"}'), "/partner")
        self.receiver.behave(Behaviour(status=401, body=b"bad signature"), "/analytics")
        self.receiver.behave(Behaviour(status=413), "/small")

    def kill_receiver(self) -> None:
        self.receiver.close()

    def revive_receiver(self) -> None:
        self.receiver = ReceiverProcess(port=self.port, keep=50)

    def emit(self, type: str, n: int = 1) -> None:
        for i in range(n):
            assert self.engine.emit(type, {"n": i, "path": "/api/v2/inventory"})

    def _config(self) -> Config:
        never = Breaker(failure_threshold=1_000_000)
        soon = Breaker(failure_threshold=2, reset_timeout=Duration.parse("1m"))
        at_once, late = Retry(max_attempts=1), Retry(schedule=(Duration.parse("10m"),))

        def endpoint(name: str, *events: str, **options: Any) -> Endpoint:
            return Endpoint(
                name=name,
                url=f"{self.receiver.url}/{name}?token=hidden-in-the-query",
                events=events,
                headers={"X-Api-Key": "hidden-in-a-header"},
                **{
                    "circuit_breaker": never,
                    "secrets": ("sk_live_9x8m2p",),
                    "aggregate": Aggregate(window=None),
                    **options,
                },
            )

        return Config(
            endpoints=(
                endpoint("orders", "route.*", record="all"),
                endpoint("partner", "service.*", retry=late, circuit_breaker=soon),
                endpoint("analytics", "tls.handshake.fail", retry=at_once),
                endpoint("small", "policy.updated", retry=at_once),
                endpoint("archive", "route.*", paused=True),
                endpoint(
                    "broken",
                    "rate.limit.exceeded",
                    signature="standard",
                    secrets=(TORN,),
                ),
                endpoint("mortal", "upstream.timeout", retry=at_once),
            ),
            event_types=("order.created",),
            workers=1,
            ring_bytes=Size(1 << 24),
            allow_networks=("127.0.0.0/8",),
            defaults={"circuit_breaker": {"failure_threshold": 2, "reset_timeout": "1m"}},
            admin=Admin(listen="127.0.0.1:0", tokens=TOKENS),
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardSite]:
    made = DashboardSite(tmp_path_factory.mktemp("site") / "data")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without one these tests fail."""
    path = shutil.which("chromium")
    assert path is not None, "no chromium is installed; these tests need one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watch:
    """What a browser's pages complained of, asked for, and were sent."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.received: list[str] = []
        context.on("console", self._note)
        context.on("weberror", lambda e: self.complaints.append(str(e.error)))
        context.on("request", lambda request: self.requests.append(request.url))
        context.on("page", self._watch)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _watch(self, page: Page) -> None:
        def opened(socket: Any) -> None:
            self.requests.append(socket.url)
            socket.on("framereceived", lambda frame: self.received.append(str(frame)))

        page.on("websocket", opened)


Opened = tuple[Page, Watch]


@pytest.fixture
def opened(browser: Browser, site: DashboardSite) -> Iterator[Callable[..., Opened]]:
    """Open a page of a browser of its own, logged in with a token."""
    contexts: list[BrowserContext] = []

    def open(token: str = OPERATOR, path: str = "/", **options: Any) -> Opened:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        context = browser.new_context(base_url=site.url, **options)
        contexts.append(context)
        watch = Watch(context)
        page = context.new_page()
        page.goto(path)
        if token:
            log_in(page, token)
        return page, watch

    yield open
    for context in contexts:
        context.close()


def log_in(page: Page, token: str) -> None:
    page.get_by_label("Access token").fill(token)
    page.get_by_label("Access token").press("Enter")
