"""The API and the dashboard as deploy/nginx/fluxhook.conf shows them: behind TLS, below /hooks/."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, expect

from admin.dashboard.conftest import OPERATOR, DashboardSite, Watch, log_in
from fluxhook import Config
from support.nginx import Proxy

BEARER: Final = {"Authorization": f"Bearer {OPERATOR}"}
PAGES: Final = ("Endpoints", "Deliveries", "Retries", "Dead letters", "Problems", "Audit trail")


class ProxiedSite(DashboardSite):
    """The same engine with the options that docs/nginx.md names."""

    def _config(self) -> Config:
        config = super()._config()
        admin = replace(config.admin, root_path="/hooks", trusted_proxies=("127.0.0.1",))
        return replace(config, admin=admin)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedSite]:
    made = ProxiedSite(tmp_path_factory.mktemp("site") / "data")
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=[False, True], ids=["kept path", "stripped path"])
def proxy(site: ProxiedSite, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """nginx as the file has it, and as one whose `proxy_pass` takes the path off."""
    made = Proxy(site.url.removeprefix("http://"), strip=request.param)
    yield made
    made.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=proxy.ca)
    with httpx.Client(base_url=proxy.url, verify=context, headers=BEARER) as made:
        yield made


def test_the_api(site: ProxiedSite, client: httpx.Client) -> None:
    """It answers below the path, and says where what it made stands; without a token it does not."""
    assert client.get("/readyz").status_code == 200
    assert client.get("/v1/webhooks", headers={"Authorization": "Bearer x"}).status_code == 401
    body = {"name": "ab", "url": f"{site.receiver_url}/ab", "events": ["*"], "secret": "s" * 20}
    made = client.post("/v1/webhooks", json=body)
    assert made.status_code == 201, made.text
    place = made.headers["location"]
    assert re.fullmatch(r"/hooks/v1/webhooks/wh_\d+", place)
    found = client.get(httpx.URL(client.base_url).copy_with(path=place))
    assert found.json()["name"] == "ab"
    assert client.delete(f"/v1/webhooks/{made.json()['id']}").status_code == 204


def test_on_the_host_itself_it_goes_on_to_answer_without_the_path(site: ProxiedSite) -> None:
    """So do the command line and probes, which need not know of the proxy."""
    for path in ("/v1/webhooks", "/hooks/v1/webhooks"):
        assert httpx.get(f"{site.url}{path}", headers=BEARER).status_code == 200
    assert httpx.get(f"{site.url}/hooksv1/webhooks", headers=BEARER).status_code != 200


@pytest.mark.parametrize("header", ["X-Forwarded-Prefix", "X-Forwarded-Path", "X-Script-Name"])
def test_no_header_says_below_which_path(
    site: ProxiedSite, client: httpx.Client, header: str
) -> None:
    """Neither a stranger's nor one that nginx passes on: a cache could keep such a page for all."""
    forged = {header: "/evil"}
    for base in (str(client.base_url).rstrip("/"), site.url):
        moved = client.get(f"{base}/endpoints", headers=forged, follow_redirects=False)
        assert moved.status_code == 303
        assert moved.headers["location"] == "/hooks/login?next=/endpoints"
        page = client.get(f"{base}/login", headers=forged)
        assert "evil" not in page.text
        given = {"token": OPERATOR, "next": "/endpoints"}
        login = client.post(f"{base}/login", data=given, headers=forged)
        assert login.headers["location"] == "/hooks/endpoints"
        cookies = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
        page = client.get(f"{base}/endpoints", headers=forged | cookies)
        assert page.status_code == 200
        assert "evil" not in page.text
        assert "/hooks/_nicegui/" in page.text


def test_another_site_opens_no_websocket(client: httpx.Client) -> None:
    """Host and Origin come through, so that they can be compared."""
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    answer = client.get(path, headers=upgrade | {"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_the_dashboard_in_a_browser(browser: Browser, site: ProxiedSite, proxy: Proxy) -> None:
    """Login, every page, a live figure over a websocket, logout: nothing is asked for outside of the
    path, the cookie stays in it, and the browser complains of nothing."""
    context = browser.new_context(ignore_https_errors=True)
    watch = Watch(context)
    try:
        page = context.new_page()
        page.goto(proxy.url)
        expect(page).to_have_url(f"{proxy.url}/login")
        log_in(page, OPERATOR)
        expect(page).to_have_url(f"{proxy.url}/")
        expect(page.get_by_role("heading", name="Throughput")).to_be_visible()
        cookies: list[Any] = context.cookies()
        assert [(c["path"], c["secure"], c["httpOnly"]) for c in cookies] == [
            ("/hooks", True, True)
        ]
        for name in PAGES:
            page.get_by_role("link", name=name, exact=True).click()
            expect(page).to_have_title(f"{name} - Fluxhook")
        page.get_by_role("link", name="Endpoints", exact=True).click()
        page.get_by_role("link", name="mortal", exact=True).click()
        expect(page).to_have_url(re.compile(f"^{proxy.url}/endpoints/id:wh_"))
        expect(page.locator("h1")).to_contain_text("mortal")
        page.get_by_role("button", name="Send test event").click()
        expect(page.locator(".result")).to_contain_text(re.compile(r"Delivered in .*status 204"))
        page.get_by_role("link", name="See the delivery").click()
        expect(page.locator("h1")).to_contain_text("webhook.test")
        page.wait_for_function("window.socket?.connected")  # it is refused once the session is over
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{proxy.url}/login")
        assert context.cookies() == []
        sockets = [url for url in watch.requests if url.startswith("wss:")]
        assert sockets
        below = (f"{proxy.url}/", f"{proxy.url.replace('https', 'wss')}/_nicegui_ws/", "data:")
        assert [url for url in watch.requests if not f"{url}/".startswith(below)] == []
        assert watch.complaints == []
    finally:
        context.close()
