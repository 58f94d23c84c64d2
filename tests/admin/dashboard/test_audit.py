"""The audit trail in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from admin.conftest import until
from admin.dashboard.conftest import READER, DashboardSite, Opened
from fluxhook.control import Selection
from fluxhook.store.audit import AuditEntry, AuditTrail, timestamp
from fluxhook.transport.datadir import DataDir

Open = Callable[..., Opened]

HOSTILE = '<img src=x onerror="document.title = 1">'
#: 2026-02-05T12:00:00Z
NOON_S = 1_770_292_800


def entry(n: int, **options: Any) -> AuditEntry:
    """The entry of the nth second."""
    at = timestamp((NOON_S + n) * 1_000_000_000)
    given: dict[str, Any] = {
        "at": at,
        "action": "purged",
        "endpoint": "former",
        "event_id": f"evt_{n:020x}",
        "type": "route.error",
        "accepted_at": at,
        "ended_at": at,
        "attempts": 5,
        "cause": "timeout",
        "error": "no answer within 3s",
    }
    return AuditEntry(**given | options)


@pytest.fixture(scope="module")
def trail(site: DashboardSite) -> list[AuditEntry]:
    """Entries of a former endpoint, and what the receiver's error may hold."""
    entries = [entry(n) for n in range(120)]
    entries[119] = entry(119, error=HOSTILE, event_id=HOSTILE, attempts=0)
    entries[118] = entry(118, endpoint="orders", attempts=1)
    folder = DataDir(site.engine.data_dir).audit
    AuditTrail(folder, max_bytes=1 << 20, files=8).append(entries)
    return entries


def lines(page: Page) -> Locator:
    """The rows of the table."""
    return page.locator("tbody tr")


def test_the_newest_entry_comes_first_page_by_page(opened: Open, trail: list[AuditEntry]) -> None:
    """Fifty at a time, none twice and none left out; whatever they hold is only text."""
    page, watch = opened(READER, path="/audit")
    expect(page.get_by_role("link", name="Audit trail")).to_have_attribute("aria-current", "page")
    expect(lines(page)).to_have_count(50)
    expect(lines(page).first).to_contain_text(HOSTILE)
    expect(lines(page).first).to_contain_text("without an attempt")
    expect(lines(page).nth(1)).to_contain_text("after 1 attempt")
    expect(lines(page).nth(1).get_by_role("link", name="orders")).to_have_attribute(
        "href", "/endpoints/id:wh_0"
    )
    third = lines(page).nth(2)
    for said in ("Feb 5, 2026", "Given up and erased", "after 5 attempts", "former", "timeout"):
        expect(third).to_contain_text(said)
    expect(third.get_by_role("link")).to_have_count(0)  # neither is there any more

    ids = page.locator("td .id").all_inner_texts()
    for left in (50, 20):
        page.get_by_role("link", name="Older").click()
        expect(lines(page)).to_have_count(left)
        ids += page.locator("td .id").all_inner_texts()
    assert ids == [one.event_id for one in reversed(trail)]
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
    page.get_by_role("link", name="Newest").click()
    expect(lines(page).first).to_contain_text(HOSTILE)
    assert watch.complaints == []


def test_the_trail_is_searched(opened: Open, trail: list[AuditEntry]) -> None:
    """By all that the API takes; the filter stays in the address, and a time that is none is named."""
    page, _ = opened(path="/audit")
    page.get_by_label("Endpoint").fill("orders")
    page.get_by_label("Endpoint").press("Enter")
    page.wait_for_url(re.compile(r"/audit\?endpoint=orders$"))
    expect(lines(page)).to_have_count(1)
    for query, n in (
        (f"event_id={trail[7].event_id}", 1),
        ("type=route.error&since=2026-02-05T12:01:50Z", 10),
        ("type=route.matched", 0),
        ("action=purged&until=2026-02-05T12:00:10Z", 10),
        ("action=replayed", 0),
    ):
        page.goto(f"/audit?{query}")
        expect(lines(page)).to_have_count(n)
        if not n:
            expect(page.get_by_text("No entry matches")).to_be_visible()
    page.goto("/audit?since=yesterday")
    expect(page.get_by_role("alert").filter(has_text="'yesterday' is not a time")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    expect(lines(page)).to_have_count(50)


def test_a_purge_leaves_a_line_that_leads_to_what_is_left(
    site: DashboardSite, opened: Open, trail: list[AuditEntry]
) -> None:
    """The page shows it by itself; its event id leads to the delivery that the store still has."""
    site.emit("policy.updated", 2)
    page, _ = opened(path="/audit")
    expect(lines(page)).to_have_count(50)
    until(lambda: site.engine.stats().endpoint("small").dead == 2)
    site.engine.control.purge(Selection(endpoint="small", limit=1))
    purged = lines(page).filter(has_text="policy.updated")
    expect(purged).to_have_count(1)
    expect(purged).to_contain_text("content_too_large")
    expect(purged.get_by_role("link", name="small")).to_be_visible()
    expect(purged.get_by_role("link", name=re.compile("evt_"))).to_have_count(0)

    page.goto("/dead-letters?endpoint=small")
    event = page.locator("td .id").inner_text()
    folder = DataDir(site.engine.data_dir).audit
    AuditTrail(folder, max_bytes=1 << 20, files=8).append([entry(200, event_id=event)])
    page.goto("/audit")
    page.get_by_role("link", name=event).click()
    expect(page.locator("h1")).to_contain_text("policy.updated")
    expect(page.get_by_text(event, exact=True)).to_be_visible()
