"""Endpoints whose names look like steps of a path, or like another endpoint's id, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
import pytest
from playwright.sync_api import expect

from admin.dashboard.conftest import DashboardSite, Opened
from admin.dashboard.test_audit import entry
from fluxhook import Config
from fluxhook.receiver import Behaviour
from fluxhook.store.audit import AuditTrail
from fluxhook.transport.datadir import DataDir

Open = Callable[..., Opened]

#: those of `DashboardSite`; two are named as the ids of others are written
NAMES = {"orders": "..", "partner": ".", "archive": "wh_0", "analytics": "id:wh_1"}


class OddSite(DashboardSite):
    def _config(self) -> Config:
        config = super()._config()
        endpoints = [
            msgspec.structs.replace(one, name=NAMES.get(one.name, one.name))
            for one in config.endpoints
        ]
        return msgspec.structs.replace(config, endpoints=tuple(endpoints))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardSite]:
    made = OddSite(tmp_path_factory.mktemp("site") / "data")
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_a_link_leads_to_its_endpoint(site: DashboardSite, opened: Open) -> None:
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


def test_what_is_done_is_done_to_the_endpoint_that_is_shown(
    site: DashboardSite, opened: Open
) -> None:
    """And not to the one whose id its name is, or whose name its id is."""
    page, _ = opened(path="/endpoints/wh_0")
    expect(page.locator("h1")).to_contain_text("wh_0")
    before = paused(site)
    for path, name in (("/endpoints/id:wh_0", ".."), ("/endpoints/id%3Awh_1", "id:wh_1")):
        page.goto(path)
        expect(page.locator("h1")).to_contain_text(name)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("h1")).to_contain_text("Paused")
        assert paused(site) == before | {name}
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("h1")).to_contain_text("Active")
    page.goto("/endpoints/id:wh_0")
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator(".result")).to_contain_text("Delivered")


def paused(site: DashboardSite) -> set[str]:
    return {one.name for one in site.engine.stats().endpoints if one.state == "paused"}


def test_a_filter_finds_what_was_chosen(site: DashboardSite, opened: Open) -> None:
    """Each endpoint has its own deliveries, whatever the others are named."""
    page, _ = opened(path="/deliveries")
    for name in NAMES.values():
        page.get_by_label("Endpoint").select_option(label=name)
        page.get_by_role("button", name="Search").click()
        expect(page.get_by_label("Endpoint")).to_have_value(re.compile("id:wh_"))
        expect(page.get_by_label("Endpoint").locator("option:checked")).to_have_text(name)
        shown = page.locator("tbody td:nth-child(3)").all_inner_texts()
        assert all(name == one.strip() for one in shown), shown
