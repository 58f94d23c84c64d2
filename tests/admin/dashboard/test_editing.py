"""An endpoint that was created at run time is changed in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from admin.dashboard.conftest import READER, SECRETS, DashboardSite, Opened
from fluxhook.store import ReadStore
from fluxhook.transport.datadir import DataDir

Open = Callable[..., Opened]

HOSTILE = '<img src=x onerror="document.title = 1">'


@pytest.fixture
def context(site: DashboardSite) -> Iterator[str]:
    """The name of an endpoint with options that are its own."""
    control = site.engine.control
    control.create(
        {
            "name": "context",
            "url": f"{site.receiver_url}/context?token=hidden-in-the-query",
            "events": ["order.created", "route.error"],
            "secret": "sk_live_9x8m2p",
            "timeout": "7s",
            "concurrency": 3,
            "retry": {"schedule": ["5s", "1m"], "jitter": 0.2},
            "topic_filters": ["hall, east/+"],
            "where": [f"path startswith {HOSTILE!r}", "n >= 3"],
            "envelope": "standard",
            "record": "all",
        }
    )
    yield "context"
    control.delete("context")


def layer(site: DashboardSite, name: str = "context") -> dict[str, Any]:
    """Return what the engine keeps of an endpoint."""
    with ReadStore.open(DataDir(site.engine.data_dir).store) as store:
        return next(row.layer for row in store.subscriptions() if row.name == name)


def save(page: Page) -> None:
    page.get_by_role("button", name="Save changes").click()


def test_an_edit_sends_only_what_was_changed(
    site: DashboardSite, opened: Open, context: str
) -> None:
    """The form has the present options and no secret; a changed field is written, an emptied one goes
    back to its default, and all others stay as they were written."""
    before = layer(site)
    page, watch = opened(path=f"/endpoints/{context}")
    page.get_by_role("link", name="Edit", exact=True).click()
    expect(page.locator("h1")).to_have_text("Edit context")
    page.get_by_text("Delivery, retries and filters").click()
    for label, value in (
        ("URL", f"{site.receiver_url}/context?***"),
        ("Events", "order.created, route.error"),
        ("Signature", "fluxgate"),
        ("Secret", ""),
        ("Timeout", "7s"),
        ("Requests at a time, at most", "3"),
        ("Retry schedule", "5s, 1m"),
        ("Attempts at most", ""),
        ("Topic filters", "hall, east/+"),
        ("Conditions on the data", f"path startswith {HOSTILE!r}\nn >= 3"),
        ("Envelope", "standard"),
    ):
        expect(page.get_by_label(label, exact=True)).to_have_value(value)
    expect(page.get_by_label("Keep a record of every delivery")).to_be_checked()
    expect(page.get_by_label("Deliver one at a time")).not_to_be_checked()
    expect(page.get_by_label("Name", exact=True)).to_have_count(0)

    save(page)
    expect(page.get_by_role("alert").filter(has_text="Nothing was changed.")).to_be_in_viewport()
    page.get_by_label("Events", exact=True).fill("route.*")
    page.get_by_label("Retry schedule").fill("9s")
    page.get_by_label("Requests at a time, at most").fill("")
    page.get_by_label("Keep a record of every delivery").uncheck()
    save(page)
    expect(page.get_by_role("heading", name="context was changed")).to_be_focused()
    retry = {"schedule": ["9s"], "jitter": 0.2}
    expected = before | {"events": ["route.*"], "retry": retry, "record": "failures"}
    del expected["concurrency"]
    assert layer(site) == expected

    page.get_by_role("link", name="Go to the endpoint").click()
    options = page.locator("section").filter(has=page.get_by_role("heading", name="Options"))
    expect(options).to_contain_text("route.*")
    expect(options).to_contain_text(HOSTILE)
    assert watch.complaints == []
    assert not [secret for secret in SECRETS if secret in "\n".join(watch.received)]


def test_what_cannot_be_is_said_beside_its_field(
    site: DashboardSite, opened: Open, context: str
) -> None:
    """Nothing is changed then, and what was typed stays; a part that is not shown is not written."""
    before = layer(site)
    page, _ = opened(path=f"/endpoints/{context}/edit")
    page.get_by_text("Delivery, retries and filters").click()
    wrong = (
        ("Events", "route..error"),
        ("Timeout", "soon"),
        ("Requests at a time, at most", "many"),
    )
    for label, value in wrong:
        page.get_by_label(label, exact=True).fill(value)
    save(page)
    for label, value in wrong:
        field = page.get_by_label(label, exact=True)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_value(value)
    expect(page.get_by_label("Events", exact=True)).to_be_focused()

    page.goto(f"/endpoints/{context}/edit")
    url = page.get_by_label("URL", exact=True)
    url.fill(f"{site.receiver_url}/other?***")
    save(page)
    expect(url).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("which stands for what is not shown")).to_be_visible()
    url.fill("")
    save(page)
    expect(page.get_by_text("Is missing")).to_be_visible()
    assert layer(site) == before


def test_an_edit_needs_no_mouse(site: DashboardSite, opened: Open, context: str) -> None:
    """From the form to the endpoint with Tab and Enter."""
    page, _ = opened(path=f"/endpoints/{context}/edit")
    expect(page.get_by_label("URL", exact=True)).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.keyboard.type(", circuit.broken")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="context was changed")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/endpoints/id:wh_\d+$"))
    assert layer(site)["events"] == ["order.created", "route.error", "circuit.broken"]


def test_an_endpoint_of_the_file_is_not_edited_here(site: DashboardSite, opened: Open) -> None:
    """Its page says where it is changed, and so does the page of the form, which has none."""
    page, _ = opened(path="/endpoints/orders")
    note = page.get_by_text("It stands in the configuration file: change it there")
    expect(note).to_be_visible()
    for name in ("Edit", "Rotate secret", "Delete"):
        expect(page.locator("#main .button").filter(has_text=name)).to_have_count(0)
    page.goto("/endpoints/orders/edit")
    expect(note).to_be_visible()
    expect(page.locator("form.form")).to_have_count(0)
    page.get_by_role("link", name="Back to the endpoint").click()
    expect(page.locator("h1")).to_contain_text("orders")


def test_a_rotation_says_how_long_the_former_secret_signs(
    site: DashboardSite, opened: Open, context: str
) -> None:
    """A wrong overlap is said beside its field; a generated secret is shown once, and neither Escape
    nor a click beside it loses it; one that was typed is never shown."""
    page, watch = opened(path=f"/endpoints/{context}")
    page.get_by_role("button", name="Rotate secret").click()
    dialog = page.get_by_role("dialog")
    overlap = dialog.get_by_label("The present secret signs on for")
    expect(overlap).to_be_focused()
    expect(overlap).to_have_value("24h")
    overlap.fill("a while")
    overlap.press("Enter")
    expect(overlap).to_have_attribute("aria-invalid", "true")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert layer(site)["secrets"] == ["sk_live_9x8m2p"]

    page.get_by_role("button", name="Rotate secret").click()
    overlap.fill("2h")
    dialog.get_by_role("button", name="Rotate secret").click()
    expect(dialog).to_contain_text(re.compile(r"beside it, until \w+ \d+, \d{4}"))
    secret = dialog.locator(".secret code").inner_text()
    assert layer(site)["secrets"] == [secret, "sk_live_9x8m2p"]
    page.keyboard.press("Escape")
    page.mouse.click(5, 400)
    expect(dialog.locator(".secret code")).to_be_visible()
    dialog.get_by_role("button", name="Done").click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_text("Former secrets sign until")).to_be_visible()
    assert secret not in page.content()

    page.get_by_role("button", name="Rotate secret").click()
    overlap.fill("0s")
    dialog.get_by_label("New secret").fill("sk_live_9x8m2p-typed")
    dialog.get_by_role("button", name="Rotate secret").click()
    expect(dialog).to_contain_text("The former one ended at once.")
    dialog.get_by_role("button", name="Done").click()
    assert layer(site)["secrets"] == ["sk_live_9x8m2p-typed"]
    assert "sk_live_9x8m2p" not in "\n".join(watch.received)
    assert watch.complaints == []


def test_who_may_only_read_has_no_form(site: DashboardSite, opened: Open, context: str) -> None:
    """Nor the way to it, nor what rotates or deletes."""
    page, _ = opened(READER, path=f"/endpoints/{context}")
    expect(page.get_by_role("heading", name="Options")).to_be_visible()
    expect(page.locator("#main :is(button, .button)")).to_have_count(0)
    answer = page.goto(f"/endpoints/{context}/edit")
    assert answer is not None
    assert answer.status == 403
    expect(page.get_by_text("so it cannot change an endpoint")).to_be_visible()
    expect(page.locator("form.form")).to_have_count(0)
