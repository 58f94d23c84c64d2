"""Acting on an endpoint in trouble, in a real browser, and what the trail of changes says of it."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from admin.conftest import until
from admin.dashboard.conftest import OPERATOR, READER, DashboardSite, Opened

Open = Callable[..., Opened]


def agree(page: Page, question: str, action: str) -> None:
    dialog = page.get_by_role("dialog", name=question)
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=action).click()


def test_an_incident_is_ended_by_hand(site: DashboardSite, opened: Open) -> None:
    """Open breaker: a test says that it waits; closed and retried, all that waited is delivered. Each
    question says how many, and each change has an entry with the token's name."""
    site.emit("service.5xx", 4)  # two attempts open the breaker, which holds back what comes then
    until(lambda: site.engine.stats().endpoint("partner").state == "open")
    until(lambda: site.engine.stats().endpoint("partner").stored == 4)
    page, watch = opened(OPERATOR, path="/endpoints/partner")
    page.get_by_role("button", name="Send test event").click()
    result = page.locator(".result")
    expect(result).to_contain_text("The breaker is open. The test event is attempted")
    page.get_by_role("button", name="Retry now").click()
    agree(page, "Retry ", "Retry now")
    expect(page.get_by_text("close it first")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()
    site.receiver.behave(None, "/partner")
    page.get_by_role("button", name="Close breaker").click()
    dialog = page.get_by_role("dialog", name="Close the breaker of partner now?")
    expect(dialog).to_contain_text("that it held back")
    dialog.get_by_role("button", name="Close breaker").click()
    expect(page.get_by_text("The breaker was closed.")).to_be_visible()
    until(lambda: site.engine.stats().endpoint("partner").state != "open")
    expect(page.get_by_role("button", name="Close breaker")).to_be_hidden()

    page.goto("/retries")
    partner = page.get_by_role("row").filter(has_text="partner").first
    partner.get_by_role("button", name="Retry partner now").click()
    agree(page, "deliveries of partner now?", "Retry now")
    until(lambda: site.engine.stats().endpoint("partner").stored == 0)

    page.goto("/audit")
    page.get_by_role("link", name="Changes").click()
    lines = page.locator("tbody tr")
    for said in ("Breaker closed", "Deliveries retried", "Test event sent"):
        expect(lines.filter(has_text=said).first).to_contain_text("partner")
        expect(lines.filter(has_text=said).first).to_contain_text("in the dashboard")
    page.get_by_label("What happened").select_option("webhook.close-breaker")
    page.get_by_role("button", name="Search").click()
    expect(lines).to_have_count(1)
    assert watch.complaints == []


def test_a_delivery_is_retried_and_resent(site: DashboardSite, opened: Open) -> None:
    """By the button of its state, after a question; who may only read has neither."""
    site.emit("route.matched")
    until(lambda: site.engine.stats().endpoint("orders").delivered == 1)
    page, _ = opened(OPERATOR, path="/deliveries?endpoint=orders&state=delivered")
    page.get_by_role("link", name="route.matched").first.click()
    expect(page.get_by_role("button", name="Retry now")).to_be_hidden()
    path = page.url
    page.get_by_role("button", name="Resend").click()
    agree(page, "Deliver this event once more?", "Resend")
    page.wait_for_url(lambda url: url != path)
    until(lambda: site.engine.stats().endpoint("orders").delivered == 2)
    reader, _ = opened(READER, path=path.removeprefix(site.url))
    expect(reader.locator("h1")).to_contain_text("route.matched")
    expect(reader.get_by_role("button", name="Resend")).to_have_count(0)
