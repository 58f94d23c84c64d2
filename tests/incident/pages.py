"""The dashboard under an incident: what its pages show, read by a browser, and what they look like."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect, sync_playwright

from incident.figures import ALL, View, causes, count, milliseconds
from support.incident_scene import DEADLINE_S, IncidentScene

__all__ = [
    "chromium",
    "endpoint_pages_view",
    "endpoints_view",
    "lists_view",
    "opened",
    "photograph",
]

WIDTHS: Final = {1280: 900, 400: 800}
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")

#: what the pills say
_STATES: Final = {
    "Active": "active",
    "Failing": "failing",
    "Breaker open": "open",
    "Paused": "paused",
    "Disabled": "disabled",
    "Misconfigured": "misconfigured",
}
#: of an endpoint's page
_COUNTERS: Final = {
    "Accepted": "accepted",
    "Delivered": "delivered",
    "Dead letters": "dead",
    "Pending": "pending",
    "Aggregated into notifications": "aggregated",
    "Refused, the queue was full": "refused",
    "Filtered": "filtered",
    "Skipped by the breaker": "skipped",
    "Failed attempts": "failed attempts",
    "Signature verification failures": "signature rejections",
    "Payload size rejections": "size rejections",
}
#: what stands where there is nothing
_NONE: Final = ("", "-", "\N{EN DASH}")
#: the rows of a table: of each cell its first line, and what stands below it or is shown on hovering
_READ: Final = """table => [...table.querySelectorAll("tbody tr")].map(row => Object.fromEntries(
    [...row.querySelectorAll("td")].map(cell => [cell.dataset.label, {
        text: cell.innerText.trim(),
        link: cell.querySelector("a")?.innerText ?? "",
        sub: cell.querySelector(".sub")?.innerText ?? "",
        title: cell.querySelector("[title]")?.title ?? "",
        cause: cell.querySelector(".cause")?.innerText ?? "",
    }])))"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's."""
    path = shutil.which("chromium")
    assert path is not None, "no chromium is installed; the dashboard's pages need one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, scene: IncidentScene) -> Iterator[Page]:
    """Open a page whose browser must not complain; close it afterwards."""
    complaints: list[str] = []
    context = browser.new_context(
        base_url=scene.url, viewport={"width": 1280, "height": WIDTHS[1280]}
    )
    context.set_default_timeout(DEADLINE_S * 1000)
    context.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    context.on("weberror", lambda e: complaints.append(str(e.error)))
    try:
        yield context.new_page()
    finally:
        context.close()
    assert complaints == []


def photograph(page: Page, folder: Path, name: str) -> None:
    """Photograph a page at both widths in both themes. It must not scroll sideways."""
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, width)
        for theme in THEMES:
            page.emulate_media(color_scheme=theme)
            page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": WIDTHS[1280]})


# ---- what the pages say ----------------------------------------------------------------------


def endpoints_view(page: Page) -> View:
    """Return what the overview says: its table of endpoints, and its tiles."""
    page.goto("/")
    expect(page.get_by_role("table", name="Endpoints").locator("tbody tr").first).to_be_visible()
    view: View = {}
    for row in _rows(page, "Endpoints"):
        dead, error, success = row["Dead"], row["Last error"], row["Success"]
        died, _, dropped = dead["title"].partition("Dropped: ")
        below = re.fullmatch(r"([a-z_]*)(?:, )?(?:([\d,]+) dropped)?", dead["sub"])
        assert below is not None, dead
        events = re.search(r"events (.*)", success["text"])
        attempts = re.search(r"attempts (.*)", success["text"])
        view[row["Endpoint"]["link"]] = {
            "state": _STATES.get(row["State"]["text"], row["State"]["text"]),
            "dead": dead["link"] or dead["text"].split("\n")[0],
            "dead by cause": _causes(died),
            "dead cause": below[1] or "none",
            "dropped": below[2] or "0",
            "dropped by policy": _causes(dropped),
            "pending": row["Pending"]["text"],
            "p95": _milliseconds(row["p95"]["text"]),
            "events ok": _shown(events and events[1]),
            "attempts ok": _shown(attempts and attempts[1]),
            "last error": "none" if error["cause"] in ("", "misconfigured") else error["cause"],
            "reason": error["sub"][:40] if error["cause"] == "misconfigured" else "",
        }
    for one in view.values():
        if not one["reason"]:
            del one["reason"]
    return view | {ALL: _overview_tiles(page)}


def _overview_tiles(page: Page) -> dict[str, str]:
    tiles = _tiles(page)
    pending = re.fullmatch(r"([\d,]+) queued, ([\d,]+) stored", tiles["Pending"][1])
    assert pending is not None
    return {
        "accepted": tiles["Accepted"][1].removesuffix(" in all"),
        "delivered": tiles["Delivered"][1].removesuffix(" in all"),
        "failed attempts": tiles["Failed attempts"][1].removesuffix(" in all"),
        "pending": tiles["Pending"][0],
        "queued": pending[1],
        "stored": pending[2],
        "dead": tiles["Dead letters"][0],
    }


def endpoint_pages_view(page: Page, names: list[str]) -> View:
    """Return what the page of each endpoint says."""
    view: View = {}
    for name in names:
        page.goto(f"/endpoints/{quote(name, safe='')}")
        expect(page.locator("dl.figures dt").first).to_be_visible()
        pairs = dict(
            zip(
                page.locator("dl.figures dt").all_inner_texts(),
                page.locator("dl.figures dd").all_inner_texts(),
                strict=True,
            )
        )
        dead = {k.removeprefix("Dead: "): _number(n) for k, n in pairs.items() if "Dead: " in k}
        dropped = {
            k.removeprefix("Dropped: "): _number(n) for k, n in pairs.items() if "Dropped: " in k
        }
        tiles = _tiles(page)
        state = page.locator("h1 fh-state").inner_text()
        queued, stored = re.findall(r"\d[\d,]*", tiles["Pending"][1])
        view[name] = {
            "state": _STATES.get(state, state),
            **{figure: pairs[label] for label, figure in _COUNTERS.items() if label in pairs},
            "dead by cause": causes(dead),
            "dead cause": tiles["Dead letters"][1].removeprefix("most: "),
            "dropped": count(sum(dropped.values())),
            "dropped by policy": causes(dropped),
            "queued": queued,
            "stored": stored,
            "events ok": _shown(tiles["Success rate"][0]),
            "attempts ok": _shown(tiles["Success rate"][1].removeprefix("of events; attempts ")),
            "p95": _milliseconds(tiles["Latency p95"][0]),
        }
    return view


def lists_view(page: Page, names: list[str], dying: list[str]) -> View:
    """Return what the pages of problems, retries and dead letters say; the last of all together, and of
    those that are dying."""
    view: View = {name: {} for name in names}
    page.goto("/lists")
    for title, column, figure in (
        ("Skipped endpoints", "Skipped", "skipped"),
        ("Signature verification failures", "Refused", "signature rejections"),
        ("Payload size rejections", "Too large", "size rejections"),
    ):
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        found = {row["Endpoint"]["link"]: row for row in _rows(page, f"{title} by endpoint")}
        for name, figures in view.items():
            figures[figure] = found[name][column]["text"] if name in found else "0"
    page.goto("/retries")
    expect(page.get_by_role("heading", name="By endpoint")).to_be_visible()
    waiting: dict[str, str] = defaultdict(lambda: "0")
    for row in _rows(page, "Retries by endpoint and time"):
        waiting[row["Endpoint"]["link"]] = row["In all"]["text"]
    for name, figures in view.items():
        figures["stored"] = waiting[name]
    page.goto("/dead-letters")
    options = page.get_by_label("Endpoint").locator("option").all()
    refs = {one.inner_text(): one.get_attribute("value") or "" for one in options}
    for name in dying:
        view[name]["dead"] = _replayable(page, f"/dead-letters?endpoint={quote(refs[name])}")
    view[ALL] = {"dead": _replayable(page, "/dead-letters")}
    return view


def _replayable(page: Page, path: str) -> str:
    """Return of how many dead letters the page says that it would replay them; replay none."""
    page.goto(path)
    replay = page.get_by_role("button", name="Replay all")
    expect(replay).to_be_visible()
    if replay.is_disabled():
        return "0"
    replay.click()
    dialog = page.get_by_role("dialog")
    found = re.search(r"Replay ([\d,]+) dead letter", dialog.inner_text())
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    return found[1] if found else dialog.inner_text()


def _rows(page: Page, caption: str) -> list[dict[str, dict[str, str]]]:
    rows: list[dict[str, dict[str, str]]] = []
    for table in page.locator(f"table[aria-label='{caption}']").all():
        rows += table.evaluate(_READ)
    return rows


def _tiles(page: Page) -> dict[str, tuple[str, str]]:
    """Return of each tile its figure and the line below."""
    tiles: Any = page.evaluate(
        """[...document.querySelectorAll(".tile")].map(tile => [tile.querySelector("dt").innerText,
            tile.querySelector(".figure").innerText, tile.querySelector(".note-line").innerText])"""
    )
    return {name: (figure, note) for name, figure, note in tiles}


def _causes(text: str) -> str:
    return causes({cause: _number(n) for cause, n in re.findall(r"(\w+) (\d[\d,]*)", text)})


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _shown(percent: str | None) -> str:
    return "none" if percent in (None, *_NONE) else str(percent)


def _milliseconds(text: str) -> str:
    """Return a duration as the dashboard writes it: `49 ms`, `1.57 s`."""
    found = re.fullmatch(r"([\d.]+) (ms|s)", text)
    if found is None:
        return "none" if text in _NONE else text
    return milliseconds(float(found[1]) * (1000 if found[2] == "s" else 1))
