"""/endpoints/{ref}: one endpoint: how it does, its options, and what can be done with it."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import Request
from nicegui import ui
from nicegui.element import Element

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, complain
from fluxhook.admin.dashboard.widgets.charts import (
    BACKLOG,
    LATENCY,
    PAST_DUE,
    THROUGHPUT,
    LineChart,
)
from fluxhook.admin.dashboard.widgets.delivery_table import DeliveryTable
from fluxhook.admin.dashboard.widgets.dialogs import confirm
from fluxhook.admin.dashboard.widgets.dom import button, icon, link, state_pill, tag, text, time
from fluxhook.admin.dashboard.widgets.frame import card, failure_page, frame
from fluxhook.admin.dashboard.widgets.option_list import show_options
from fluxhook.admin.dashboard.widgets.retrying import close_breaker, retry_now
from fluxhook.admin.dashboard.widgets.rotation import rotate
from fluxhook.admin.dashboard.widgets.tiles import Tile
from fluxhook.admin.models import Delivery, Status, TestRequest, Webhook, WebhookStatus
from fluxhook.admin.references import by_id
from fluxhook.errors import FluxhookError, UnknownEndpoint
from fluxhook.store.queries import DeliveryFilter

__all__ = ["register"]

#: how long the result of a test event is waited for on the page; its delivery goes on by itself
TEST_S: Final = 60.0
TEST_POLL_S: Final = 0.25
_RECENT: Final = 10
_CHARTS: Final = (THROUGHPUT, LATENCY, BACKLOG, PAST_DUE)


def register(context: DashboardContext) -> None:
    @ui.page("/endpoints/{ref}", response_timeout=30)
    async def endpoint(request: Request, ref: str) -> None:
        viewer = Viewer(context, request)
        try:
            webhook = await viewer.ask(viewer.service.webhook, ref)
        except UnknownEndpoint:
            failure_page(viewer, 404, f"There is no endpoint {ref!r:.80}", "/endpoints")
            return
        await _Page(viewer, webhook).build()


class _Page:
    def __init__(self, viewer: Viewer, webhook: Webhook) -> None:
        self.viewer = viewer
        self.service = viewer.service
        self.webhook = webhook
        self.number = int(webhook.id.removeprefix("wh_"))
        #: by which the service knows it, whatever names there are
        self.ref = by_id(webhook.id)
        #: buttons, and whether they belong to an endpoint that is halted
        self.toggles: dict[Element, bool] = {}
        self.told: object = None
        self.counted: dict[str, int] = {}

    async def build(self) -> None:
        status = await self.viewer.status()
        recent = await self._recent()
        with frame(self.viewer, self.webhook.name, "/endpoints") as page:
            self.page = page
            self._head()
            with tag("dl", "tiles"):
                self.delivered = Tile("Delivered", "/s")
                self.failed = Tile("Failed attempts", "/s")
                self.rate = Tile("Success rate")
                self.pending = Tile("Pending")
                self.dead = Tile("Dead letters", href=f"/dead-letters?endpoint={self.ref}")
                self.latency_tile = Tile("Latency p95")
            with tag("div", "grid two"):
                self.charts = [LineChart(chart) for chart in _CHARTS]
            with card("Latest deliveries in the store") as side:
                self.table = DeliveryTable(
                    "Nothing in the store",
                    "What succeeds at once is kept only where the endpoint says record: all.",
                    endpoint=False,
                )
                with side:
                    link("Search", f"/deliveries?endpoint={self.ref}")
            with tag("div", "grid two"):
                with card("Counters"):
                    self.counters = tag("dl", "pairs figures")
                with card("Options"):
                    self.options = tag("div", "stack")
                with self.options:
                    show_options(self.webhook)
        self._show(status, recent)
        page.every(self._refresh)

    def _head(self) -> None:
        webhook = self.webhook
        with tag("div", "crumbs"):
            link("Endpoints", "/endpoints")
        with tag("div", "page-head"):
            with tag("div", "title"):
                with tag("h1"):
                    text("span", webhook.name)
                    self.pill = state_pill(webhook.state)
                text("p", webhook.url, "mono quiet break")
            if self.viewer.may_write:
                with tag("div", "buttons"):
                    button("Send test event", "send", "primary").on("click", self._test)
                    pause, resume = button("Pause", "pause"), button("Resume", "play")
                    pause.on("click", self._pause)
                    resume.on("click", self._resume)
                    self.toggles = {pause: False, resume: True}
                    self.retry_button = button("Retry now", "replay")
                    self.retry_button.on("click", self._retry)
                    self.close_button = button("Close breaker", "play")
                    self.close_button.on("click", self._close_breaker)
                    if webhook.source == "api":
                        with tag("a", "button", href=endpoint_path(webhook.id) + "/edit"):
                            icon("edit")
                            text("span", "Edit")
                        if webhook.signature != "none":
                            button("Rotate secret", "key").on("click", self._rotate)
                        button("Delete", "trash", "danger").on("click", self._delete)
        self.result = tag("div", "result", role="status")
        self.result.set_visibility(False)
        self.trouble = tag("div", "trouble")

    async def _recent(self) -> list[Delivery]:
        page = await self.viewer.ask(
            self.service.deliveries, DeliveryFilter(endpoint=self.ref), limit=_RECENT
        )
        return page.items

    async def _refresh(self) -> None:
        self._show(await self.viewer.status(), await self._recent())

    def _show(self, status: Status, recent: list[Delivery]) -> None:
        self.page.engine(status.running)
        one = next((w for w in status.webhooks if w.id == self.webhook.id), None)
        if one is None:
            self.pill.props["state"] = "removed"
            return
        now = self.viewer.now(self.number)
        self.pill.props["state"] = one.state
        halted = one.paused or one.state == "disabled"
        for control, wanted in self.toggles.items():
            control.set_visibility(wanted == halted)
        if self.toggles:
            self.retry_button.set_visibility(bool(one.stored) and not halted)
            self.close_button.set_visibility(one.state in ("open", "half-open"))
        self.delivered.show(words.per_second(now and now.delivered), f"{one.delivered:,} in all")
        self.failed.show(words.per_second(now and now.failed), f"{one.failed_attempts:,} in all")
        self.rate.show(
            words.percent(one.event_success_rate),
            f"of events; attempts {words.percent(one.success_rate)}",
        )
        self.pending.show(words.count(one.pending), f"{one.queued:,} queued, {one.stored:,} stored")
        self.dead.show(
            words.count(one.dead),
            f"most: {one.dead_cause}" if one.dead else "none",
            bad=one.dead > 0,
        )
        p = one.latency_ms or {}
        self.latency_tile.show(
            words.milliseconds(p.get("p95")),
            f"p50 {words.milliseconds(p.get('p50'))}, p99 {words.milliseconds(p.get('p99'))}",
        )
        points = self.viewer.line(self.number)
        for chart in self.charts:
            chart.show(points)
        self.table.show(recent)
        self._show_trouble(one)
        self._count(one)

    def _count(self, one: WebhookStatus) -> None:
        figures = _counters(one)
        if figures == self.counted:
            return
        self.counted = figures
        self.counters.clear()
        with self.counters:
            for name, n in figures.items():
                text("dt", name)
                text("dd", words.count(n))

    def _show_trouble(self, one: WebhookStatus) -> None:
        last = one.last_error
        paused = "Paused: its events wait until it is resumed." if one.paused else ""
        reasons = (one.misconfigured_reason, one.disabled_reason, paused)
        dead = words.causes(one.dead_by_cause)
        told = (one.state, *reasons, one.failing_since, one.next_probe_at, last, dead)
        if told == self.told:
            return
        self.told = told
        self.trouble.clear()
        failing = one.state == "failing"
        self.trouble.set_visibility(any((last, *reasons, one.next_probe_at, failing, dead)))
        with self.trouble:
            if failing:
                text("p", "Failing: requests are sent, but events die or none succeeds.", "bad")
            if one.misconfigured_reason:
                text(
                    "p",
                    f"It cannot be sent to, and its events wait: {one.misconfigured_reason}",
                    "bad break",
                )
            if one.disabled_reason:
                text("p", f"Disabled: {one.disabled_reason}", "bad break")
            if paused:
                text("p", paused)
            if dead:
                text("p", f"Dead letters, by cause: {dead}.", "break")
            if last is not None:
                with tag("p"):
                    text("strong", "Last error ")
                    time(last.at)
                    text("span", f": {words.cause_sentence(last.cause)}")
                    text("span", f" {last.error}", "quiet break")
            if one.failing_since is not None:
                with tag("p"):
                    text("span", "Nothing but failures since ")
                    time(one.failing_since)
            if one.next_probe_at is not None:
                with tag("p"):
                    text("span", "The breaker is open; its next probe is due ")
                    time(one.next_probe_at)

    # ---- what can be done --------------------------------------------------------------------

    async def _pause(self) -> None:
        await self.viewer.attempt("Paused. New events wait.", self.service.pause, self.ref)
        await self._refresh_now()

    async def _resume(self) -> None:
        await self.viewer.attempt("Resumed.", self.service.resume, self.ref)
        await self._refresh_now()

    async def _retry(self) -> None:
        await retry_now(self.viewer, self.ref, self.webhook.name)
        await self._refresh_now()

    async def _close_breaker(self) -> None:
        await close_breaker(self.viewer, self.ref, self.webhook.name)
        await self._refresh_now()

    async def _refresh_now(self) -> None:
        self.viewer.expire()
        await self._refresh()

    async def _rotate(self) -> None:
        if not await rotate(self.viewer, self.webhook):
            return
        try:
            self.webhook = await self.viewer.ask(self.service.webhook, self.ref)
        except FluxhookError as error:
            complain(error)
            return
        self.options.clear()
        with self.options:
            show_options(self.webhook)

    async def _delete(self) -> None:
        agreed = await confirm(
            f"Delete {self.webhook.name}?",
            "It gets nothing more, and what waits for it becomes dead letters.",
            "Delete endpoint",
            dangerous=True,
        )
        if agreed:
            try:
                await self.viewer.change(self.service.delete, self.ref)
            except FluxhookError as error:
                complain(error)
            else:
                ui.navigate.to("/endpoints")

    async def _test(self) -> None:
        sent = await self.viewer.attempt("", self.service.send_test, self.ref, TestRequest())
        if sent is None:
            return
        self.result.clear()
        self.result.set_visibility(True)
        with self.result:
            pill = state_pill("waiting", "On its way" if sent.held_until is None else "Held")
            said = text("span", "The test event is on its way.")
            if sent.held_until is not None:
                said.say("The breaker is open. The test event is attempted ")
                time(sent.held_until)
            link("See the delivery", f"/deliveries/{sent.delivery_id}")
        give_up_at = asyncio.get_running_loop().time() + TEST_S
        while asyncio.get_running_loop().time() < give_up_at and not self.result.client.is_deleted:
            try:
                detail = await self.viewer.ask(self.service.delivery, sent.delivery_id)
            except FluxhookError as error:
                said.say(str(error))
                return
            last = detail.history[-1] if detail.history else None
            if last is not None:
                answer = f"status {last.status}" if last.status else last.error
                took = words.milliseconds(last.timings.total_ms)
                pill.props["state"] = detail.state
                pill.props["label"] = ""
                if detail.state == "delivered":
                    said.say(f"Delivered in {took}, {answer}.")
                else:
                    said.say(f"Attempt {last.n} failed after {took}: {answer}.")
            elif detail.cause and sent.held_until is None:
                said.say(words.cause_sentence(detail.cause))  # it is held back
            if detail.ended_at is not None:
                return
            await asyncio.sleep(TEST_POLL_S if last is None else 1.0)


def _counters(one: WebhookStatus) -> dict[str, int]:
    return {
        "Accepted": one.accepted,
        "Delivered": one.delivered,
        "Dead letters": one.dead,
        **{f"Dead: {cause}": n for cause, n in one.dead_by_cause.items()},
        "Pending": one.pending,
        "Aggregated into notifications": one.aggregated,
        **{f"Dropped: {cause}": n for cause, n in one.dropped.items()},
        "Refused, the queue was full": one.refused,
        "Filtered": one.filtered,
        "Skipped by the breaker": one.skipped,
        "Failed attempts": one.failed_attempts,
        "Signature verification failures": one.signature_rejections,
        "Payload size rejections": one.size_rejections,
    }
