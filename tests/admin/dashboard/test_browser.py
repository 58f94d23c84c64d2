"""The dashboard in a real browser, over a real engine."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

from playwright.sync_api import Locator, Page, expect

from admin.conftest import until
from admin.dashboard.conftest import (
    ARTIFACTS,
    EMITTER,
    OPERATOR,
    READER,
    SECRETS,
    DashboardSite,
    Opened,
    log_in,
)
from fluxhook.control import Selection
from fluxhook.receiver import Behaviour

Open = Callable[..., Opened]

PAGES: Final = {
    "overview": "/",
    "endpoints": "/endpoints",
    "new-endpoint": "/endpoints/new",
    "endpoint": "/endpoints/partner",
    "created-endpoint": "/endpoints/context",
    "edit-endpoint": "/endpoints/context/edit",
    "edit-endpoint-of-the-file": "/endpoints/orders/edit",
    "deliveries": "/deliveries",
    "delivery": "",
    "retries": "/retries",
    "dead-letters": "/dead-letters",
    "lists": "/lists",
    "audit": "/audit",
    "changes": "/audit/changes",
}
#: an endpoint that is created at run time
DESK: Final = {
    "name": "context",
    "events": ["order.created", "route.error"],
    "secret": SECRETS[0],
    "where": ["status_code >= 500", "path startswith '/api'"],
    "topic_filters": ["hall/+/temperature"],
}
WIDTHS: Final = {1280: 900, 400: 800}
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def row(page: Page, text: str) -> Locator:
    return page.get_by_role("row").filter(has_text=text)


def test_the_whole_walk(site: DashboardSite, opened: Open) -> None:
    """Token, create a subscription, test event, see it delivered, kill the receiver, see skipped and
    retries, replay a dead letter, see it delivered."""
    page, watch = opened(token="")
    expect(page).to_have_url(f"{site.url}/login")
    log_in(page, OPERATOR)
    expect(page.get_by_role("heading", name="Throughput")).to_be_visible()

    page.get_by_role("link", name="Endpoints", exact=True).click()
    page.get_by_role("link", name="New endpoint").click()
    page.get_by_label("URL", exact=True).fill(f"{site.receiver_url}/hooks")
    page.get_by_label("Events", exact=True).fill("order.created")
    page.get_by_label("Name", exact=True).fill("hooks")
    page.get_by_text("Delivery, retries and filters").click()
    page.get_by_label("Retry schedule").fill("10m")
    page.get_by_role("button", name="Create endpoint").click()
    expect(page.get_by_text("hooks is ready")).to_be_visible()
    secret = page.locator(".secret code").inner_text()
    assert len(secret) > 20

    page.get_by_role("link", name="Go to the endpoint").click()
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator(".result")).to_contain_text(re.compile(r"Delivered in .*status 204"))
    assert secret not in page.content()
    site.receiver.wait_for(1, "/hooks")
    page.get_by_role("link", name="See the delivery").click()
    expect(page.locator("h1")).to_contain_text("webhook.test")
    expect(page.locator("h1")).to_contain_text("Delivered")
    expect(page.locator(".waterfall")).to_contain_text("Waiting")

    site.kill_receiver()
    site.emit("order.created", 5)
    site.emit("upstream.timeout", 2)
    page.goto("/endpoints")
    expect(row(page, "/hooks")).to_contain_text("Breaker open")
    site.emit("order.created", 3)
    page.goto("/lists")
    skipped = page.locator("section").filter(has_text="Skipped endpoints")
    expect(skipped.get_by_role("row").filter(has_text="/hooks")).to_contain_text("Breaker open")
    page.goto("/retries")
    expect(row(page, "hooks").first).to_contain_text("8")
    expect(page.get_by_role("row").filter(has_text="order.created").first).to_contain_text(
        re.compile("Waiting.*(in|due)")
    )

    page.goto("/dead-letters?endpoint=mortal")
    expect(page.get_by_role("button", name="Replay evt_")).to_have_count(2)
    event = page.locator("td .id").first.inner_text()
    site.revive_receiver()
    page.get_by_role("button", name=f"Replay {event}").click()
    expect(page.get_by_text("It is delivered again.")).to_be_visible()
    expect(page.get_by_role("button", name="Replay evt_")).to_have_count(1)
    page.goto(f"/deliveries?event_id={event}")
    expect(row(page, event)).to_contain_text("Delivered")

    page.goto("/dead-letters?endpoint=mortal")
    page.get_by_label("Choose all on this page").check()
    page.get_by_role("button", name="Replay chosen").click()
    expect(page.get_by_text("No dead letter matches")).to_be_visible()
    site.receiver.wait_for(2, "/mortal?token=hidden-in-the-query")
    assert watch.complaints == []


def test_filters_say_what_is_wrong_and_purge_asks_first(site: DashboardSite, opened: Open) -> None:
    """A time that is none is named; a purge is confirmed; the filter stays in the address."""
    site.behave()
    site.emit("tls.handshake.fail", 3)
    page, _ = opened(path="/dead-letters?since=yesterday")
    expect(page.get_by_role("alert").filter(has_text="'yesterday' is not a time")).to_be_visible()
    page.get_by_role("link", name="Clear").click()
    page.get_by_label("Endpoint").select_option(label="analytics")
    page.get_by_label("Cause").fill("unauthorized")
    page.get_by_label("Cause").press("Enter")
    page.wait_for_url(re.compile(r"/dead-letters\?endpoint=id%3Awh_2&cause=unauthorized$"))
    expect(page.get_by_role("button", name="Replay evt_")).to_have_count(3)
    page.go_back()
    expect(page.get_by_role("button", name="Purge all", exact=True)).to_be_visible()
    expect(page.get_by_label("Endpoint")).to_have_value("")
    page.go_forward()

    page.get_by_role("button", name="Purge all that match").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Purge 3 dead letters?")
    expect(dialog).to_contain_text(
        "endpoint analytics, cause unauthorized. They are erased for good"
    )
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Replay evt_")).to_have_count(3)
    page.get_by_role("button", name="Purge all that match").click()
    dialog.get_by_role("button", name="Purge 3", exact=True).click()
    expect(page.get_by_text("Purged 3 of 3")).to_be_visible()
    expect(page.get_by_text("No dead letter matches")).to_be_visible()


def test_nothing_moves_under_the_pointer(site: DashboardSite, opened: Open) -> None:
    """New rows wait until they are asked for, or nobody is there; one that was replayed stays as done;
    the filter and the buttons keep their places."""
    site.behave()
    site.emit("tls.handshake.fail", 2)
    dead = site.engine.stats
    until(lambda: dead().endpoint("analytics").dead == 2)
    page, watch = opened(path="/dead-letters?endpoint=analytics")
    expect(page.get_by_label("Endpoint")).to_have_value("id:wh_2")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    page.mouse.move(0, 0)
    buttons = (
        page.get_by_role("button", name="Search"),
        page.get_by_role("button", name="Replay all"),
    )
    first = rows.first.locator(".id").inner_text()

    def places() -> list[object]:
        return [place.bounding_box() for place in (*buttons, rows.first)]

    before = places()
    rows.first.hover()
    site.emit("tls.handshake.fail", 3)
    new = page.get_by_role("button", name="Show 3 new")
    expect(new).to_be_visible()
    assert rows.first.locator(".id").inner_text() == first
    page.get_by_label(f"Choose {first}").check()
    expect(page.get_by_role("button", name="Purge chosen")).to_be_enabled()
    page.get_by_label(f"Choose {first}").uncheck()
    site.receiver.behave(Behaviour(), "/analytics")
    page.get_by_role("button", name=f"Replay {first}").click()
    expect(rows.first).to_contain_text("Done")
    site.behave()
    assert rows.first.locator(".id").inner_text() == first
    assert places() == before
    new.click()
    expect(rows.first.locator(".id")).not_to_have_text(first)
    page.mouse.move(0, 0)
    site.emit("tls.handshake.fail", 1)
    until(lambda: dead().endpoint("analytics").dead == 5)
    expect(rows).to_have_count(5)
    site.engine.control.purge(Selection(endpoint="analytics"))
    assert watch.complaints == []


def test_an_endpoint_is_changed(site: DashboardSite, opened: Open) -> None:
    """Paused, resumed, given a new secret that is shown once, and deleted."""
    page, watch = opened(path="/endpoints/new")
    page.get_by_label("URL", exact=True).fill(f"{site.receiver_url}/brief")
    page.get_by_label("Events", exact=True).fill("order.*")
    page.get_by_label("Name", exact=True).fill("brief")
    page.get_by_label("Secret").fill("sk_live_9x8m2p-typed")
    page.get_by_role("button", name="Create endpoint").click()
    page.get_by_role("link", name="Go to the endpoint").click()

    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("h1")).to_contain_text("Active")

    page.get_by_role("button", name="Rotate secret").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate secret").click()
    secret = page.locator(".secret code")
    expect(secret).to_be_visible()
    rotated = secret.inner_text()
    page.get_by_role("button", name="Done").click()
    expect(secret).to_have_count(0)
    page.reload()
    expect(page.locator("h1")).to_contain_text("brief")
    assert rotated not in page.content()
    assert "sk_live_9x8m2p" not in page.content()

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete endpoint").click()
    page.wait_for_url(re.compile("/endpoints$"))
    expect(row(page, "/orders")).to_be_visible()
    expect(row(page, "/brief")).to_have_count(0)
    assert watch.complaints == []


def test_an_endpoint_that_cannot_be_built_says_why(site: DashboardSite, opened: Open) -> None:
    """In the list and on its page; one that is paused besides can be resumed all the same."""
    page, _ = opened(path="/endpoints")
    reason = "the two halves of the ed25519 key do not fit"
    expect(row(page, "/broken")).to_contain_text("Misconfigured")
    expect(row(page, "/broken")).to_contain_text(reason)
    page.goto("/endpoints/broken")
    expect(page.locator("h1")).to_contain_text("Misconfigured")
    expect(page.get_by_text(f"its events wait: secrets[0]: {reason}")).to_be_visible()
    pause = page.get_by_role("button", name="Pause", exact=True)
    resume = page.get_by_role("button", name="Resume", exact=True)
    expect(resume).to_be_hidden()
    pause.click()
    expect(pause).to_be_hidden()
    expect(page.locator("h1")).to_contain_text("Misconfigured")
    resume.click()
    expect(pause).to_be_visible()
    expect(resume).to_be_hidden()


def test_a_form_shows_each_error_beside_its_field(site: DashboardSite, opened: Open) -> None:
    """The problems of the API stand at the fields, which point to them; what was typed stays. An empty
    field shows the default of this engine's file."""
    page, _ = opened(path="/endpoints/new")
    for label, default in (("Failures that open the breaker", "2"), ("Pause before a probe", "1m")):
        expect(page.get_by_label(label)).to_have_attribute("placeholder", default)
    page.get_by_label("URL", exact=True).fill("ftp://example.com/x")
    page.get_by_label("Events", exact=True).fill("route..error")
    page.get_by_text("Delivery, retries and filters").click()
    page.get_by_label("Timeout").fill("soon")
    page.get_by_role("button", name="Create endpoint").click()
    for label, value in (
        ("URL", "ftp://example.com/x"),
        ("Events", "route..error"),
        ("Timeout", "soon"),
    ):
        field = page.get_by_label(label)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_value(value)
        ids = (field.get_attribute("aria-describedby") or "").split()
        assert page.locator(f"#{ids[0]}").inner_text() != ""
    expect(page.get_by_label("URL", exact=True)).to_be_focused()


def test_the_keyboard_is_enough(site: DashboardSite, opened: Open) -> None:
    """Login and creation without a mouse; the focus can be seen at every step."""
    page, _ = opened(token="")
    expect(page.get_by_label("Access token")).to_be_focused()
    page.keyboard.type(OPERATOR)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Throughput")).to_be_visible()

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    tab_to(page, "Endpoints")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/endpoints$"))
    tab_to(page, "New endpoint")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/endpoints/new$"))
    expect(page.get_by_label("URL", exact=True)).to_be_focused()
    page.keyboard.type(f"{site.receiver_url}/keys")
    page.keyboard.press("Tab")
    page.keyboard.type("order.created")
    page.keyboard.press("Tab")
    page.keyboard.type("keys")
    page.keyboard.press("Enter")
    expect(page.get_by_text("keys is ready")).to_be_visible()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the link of this name has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        text, ring = page.evaluate(
            "[document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert ring == "solid", f"the focus on {text!r} cannot be seen"
        if text == name:
            return
    raise AssertionError(f"Tab does not lead to {name!r}")


def test_a_wrong_token_is_told_so(site: DashboardSite, opened: Open) -> None:
    """Nothing of the pages is served before; one without the scope read is told which it lacks; the
    page that was asked for comes after the login; and a logout ends it."""
    page, _ = opened(token="", path="/dead-letters?cause=timeout")
    expect(page).to_have_url(re.compile(r"/login\?next="))
    log_in(page, "not-a-token-0123456789")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    expect(page.get_by_label("Access token")).to_have_value("")
    log_in(page, EMITTER)
    expect(page.get_by_role("alert")).to_contain_text("may only emit")
    log_in(page, READER)
    expect(page).to_have_url(f"{site.url}/dead-letters?cause=timeout")
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{site.url}/login")
    page.goto("/")
    expect(page).to_have_url(f"{site.url}/login")


def test_who_may_only_read_sees_no_actions(site: DashboardSite, opened: Open) -> None:
    """No button changes anything, and the form for a new endpoint is refused."""
    page, _ = opened(READER)
    site.emit("policy.updated", 1)
    expect(page.get_by_text("Read only")).to_be_visible()
    pages = ("/", "/endpoints", "/endpoints/orders", "/dead-letters", "/deliveries", "/audit")
    for path in pages:
        page.goto(path)
        expect(page.locator("h1")).to_be_attached()
        names = page.locator("#main button, #main .button").all_inner_texts()
        trails = {"Given up and erased", "Changes"}
        assert set(names) <= {"Search", "Clear", "Older"} | trails, path
        assert page.locator("#main input[type=checkbox]").count() == 0
    page.goto("/endpoints/new")
    expect(page.get_by_text("so it cannot create an endpoint")).to_be_visible()
    assert page.locator("form.form").count() == 0


def test_what_is_not_there_is_said_so(site: DashboardSite, opened: Open) -> None:
    """An unknown endpoint or delivery is a 404 with a way back."""
    page, _ = opened()
    for path, what in (("/endpoints/nobody", "no endpoint"), ("/deliveries/dlv_0", "no delivery")):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 404
        expect(page.locator("h1")).to_contain_text(what)
        page.get_by_role("link", name="Back to the list").click()
        expect(page).to_have_url(site.url + path.rpartition("/")[0])


def test_an_engine_that_stopped_is_said_so(site: DashboardSite, opened: Open) -> None:
    """Its figures can still be read; a change is refused with the reason; and when it runs again the
    page shows it by itself."""
    page, _ = opened(path="/endpoints/orders")
    expect(page.locator("h1")).to_contain_text("Active")
    site.engine.close()
    banner = page.get_by_text("The engine is not running.")
    expect(banner).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("alert").filter(has_text="no engine runs")).to_be_visible()
    site.engine.start()
    expect(banner).to_be_hidden()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Send test event").click()
    expect(page.locator(".result")).to_contain_text("Delivered")


def test_every_page_fits_and_keeps_its_secrets(site: DashboardSite, opened: Open) -> None:
    """Each page at both widths in both themes: no sideways scrolling, nothing from elsewhere, no
    error in the console, no secret in the page or in what was sent to it. With FLUXHOOK_ARTIFACTS
    pictures of them are kept there."""
    site.behave()
    for type, n in (
        ("route.matched", 40),
        ("service.5xx", 6),
        ("tls.handshake.fail", 2),
        ("policy.updated", 2),
    ):
        site.emit(type, n)
    page, watch = opened(token="")
    looked_at(page, "login")
    log_in(page, OPERATOR)
    expect(page.get_by_role("heading", name="Throughput")).to_be_visible()
    stats = site.engine.stats
    until(lambda: stats().endpoint("small").dead and stats().endpoint("partner").state == "open")
    site.engine.control.create(DESK | {"url": f"{site.receiver_url}/context?token={SECRETS[2]}"})
    site.engine.control.purge(Selection(endpoint="small"))
    site.engine.control.purge(Selection(endpoint="analytics", limit=1))
    site.emit("service.5xx", 4)
    until(lambda: stats().endpoint("partner").skipped)
    expect(page.locator(".tile").first).to_contain_text(re.compile(r"\d/s"))
    page.goto("/deliveries?endpoint=partner")
    failed = page.get_by_role("row").filter(has_text="server_error").locator("a").first
    for name, path in (PAGES | {"delivery": failed.get_attribute("href") or ""}).items():
        page.goto(path)
        expect(page.locator("h1").first).to_be_attached()
        if name == "edit-endpoint":
            page.get_by_text("Delivery, retries and filters").click()
        looked_at(page, name)
        for secret in SECRETS:
            assert secret not in page.content(), (name, secret)
    page.goto("/endpoints/context")
    page.get_by_role("button", name="Rotate secret").click()
    expect(page.get_by_label("The present secret signs on for")).to_be_focused()
    looked_at(page, "rotation")
    page.get_by_role("dialog").get_by_role("button", name="Rotate secret").click()
    expect(page.locator(".secret code")).to_be_visible()
    looked_at(page, "rotated")
    assert watch.complaints == []
    foreign = {url for url in watch.requests if "://127.0.0.1:" not in url and url[:5] != "data:"}
    assert not foreign
    sent = "\n".join(watch.received)
    assert not [secret for secret in SECRETS if secret in sent]


def looked_at(page: Page, name: str) -> None:
    """Show a page at both widths in both themes. It must not scroll sideways."""
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            fits = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert fits, (name, width, theme)
            if ARTIFACTS:
                picture = f"{ARTIFACTS}/dashboard/{name}-{width}-{theme}.png"
                page.screenshot(path=picture, full_page=True)


def test_problems_are_surfaced_by_kind(site: DashboardSite, opened: Open) -> None:
    """Skipped endpoints, signature verification failures and payload size rejections have a list each,
    with the endpoint and the latest events."""
    site.behave()
    for type in ("service.5xx", "tls.handshake.fail", "policy.updated"):
        site.emit(type, 3)
    stats = site.engine.stats
    until(lambda: stats().endpoint("partner").state == "open")
    site.emit("service.5xx", 1)
    until(lambda: stats().endpoint("partner").skipped and stats().endpoint("small").size_rejections)
    page, watch = opened(path="/lists")
    for title, endpoint, event in (
        ("Skipped endpoints", "partner", "service.5xx"),
        ("Signature verification failures", "analytics", "tls.handshake.fail"),
        ("Payload size rejections", "small", "policy.updated"),
    ):
        shown = page.locator("section").filter(has_text=title)
        expect(shown.get_by_role("row").filter(has_text=f"/{endpoint}")).to_be_visible()
        expect(shown.get_by_role("row").filter(has_text=event).first).to_contain_text(endpoint)
    assert watch.complaints == []


def test_an_endpoint_whose_events_die(site: DashboardSite, opened: Open) -> None:
    """Each table of endpoints has its state, its dead letters, of what they died, and both rates; its
    own page says what failing means."""
    site.behave()
    site.emit("policy.updated", 3)
    until(lambda: site.engine.stats().endpoint("small").dead)
    page, watch = opened()
    for path in ("/", "/endpoints"):
        page.goto(path)
        row = page.get_by_role("row").filter(has_text="/small")
        for words in ("Failing", "content_too_large", "events 0 %", "attempts 0 %"):
            expect(row).to_contain_text(words)
        dead = row.get_by_role("link", name=re.compile(r"^\d+$"))
        expect(dead).to_have_attribute("href", "/dead-letters?endpoint=id:wh_3")
    page.goto("/endpoints/small")
    expect(page.locator(".trouble")).to_contain_text("events die or none succeeds")
    expect(page.locator(".pairs.figures")).to_contain_text("Dead: content_too_large")
    assert watch.complaints == []


def test_a_logout_ends_every_tab(opened: Open) -> None:
    """Another tab of the browser leads to the login by itself; another browser stays."""
    page, _ = opened()
    other, _ = opened()
    tab = page.context.new_page()
    tab.goto("/endpoints")
    expect(tab.locator("h1")).to_have_text("Endpoints")
    expect(other.locator("#main")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    for ended in (page, tab):
        expect(ended.get_by_label("Access token")).to_be_visible()
    other.reload()
    expect(other.get_by_label("Access token")).to_have_count(0)
