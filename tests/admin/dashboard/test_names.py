"""Endpoints whose names look like steps of a path, or like another endpoint's id, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest
from playwright.sync_api import expect

from admin.dashboard.conftest import Opened, Site
from admin.dashboard.test_audit import entry
from fluxhook import Config
from fluxhook.receiver import Behaviour
from fluxhook.store.audit import AuditTrail
from fluxhook.transport.datadir import DataDir

Open = Callable[..., Opened]

#: those of `Site`, in its order; the last one is named like the id of the first
NAMES = {"orders": "..", "partner": ".", "archive": "wh_0"}


class OddSite(Site):
    def _config(self) -> Config:
        config = super()._config()
        endpoints = [
            msgspec.structs.replace(one, name=NAMES.get(one.name, one.name))
            for one in config.endpoints
        ]
        return msgspec.structs.replace(config, endpoints=tuple(endpoints))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = OddSite(tmp_path_factory.mktemp("site") / "data")
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_a_link_leads_to_its_endpoint(site: Site, opened: Open) -> None:
    """From the audit trail and the lists of attempts too, which show names."""
    trail = AuditTrail(DataDir(site.engine.data_dir).audit, max_bytes=1 << 20, files=8)
    trail.append([entry(n, endpoint=name) for n, name in enumerate(NAMES.values())])
    site.receiver.behave(Behaviour(status=401), "/partner")
    site.emit("service.5xx")
    page, _ = opened()
    for path, name in [*(("/audit", name) for name in NAMES.values()), ("/lists", ".")]:
        page.goto(path)
        page.locator("tbody").get_by_role("link", name=name, exact=True).last.click()
        expect(page.locator("h1")).to_contain_text(name)
        expect(page).to_have_title(f"{name} - Fluxhook")


def test_what_is_done_is_done_to_the_endpoint_that_is_shown(site: Site, opened: Open) -> None:
    """And not to the one that is named like its id."""
    page, _ = opened(path="/endpoints/wh_0")
    expect(page.locator("h1")).to_contain_text("..")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("h1")).to_contain_text("Active")
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator(".result")).to_contain_text("Delivered")
