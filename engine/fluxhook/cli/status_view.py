"""The statistics of an engine as a headline, a table, and what the table has no room for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, cast

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fluxhook.admin.models import Status, WebhookStatus
from fluxhook.cli.output import number, plural, safe
from fluxhook.endpoint_state import StateName
from fluxhook.stats import EndpointStats, LastError, Stats

__all__ = ["deaths", "endpoint_state", "percent", "stats_of", "status_view", "totals"]

STATE_STYLES: Final[dict[StateName, str]] = {
    "active": "green",
    "failing": "red",
    "half-open": "yellow",
    "open": "red",
    "misconfigured": "red",
    "paused": "yellow",
    "disabled": "red",
    "removed": "dim",
    "unknown": "yellow",
}
#: what the table has no column for; said below it where it is not zero
_NOTED: Final = {
    "aggregated": "aggregated into notifications",
    "failed_attempts": "failed attempts",
    "skipped": "skipped",
    "refused": "refused by a full queue",
    "filtered": "filtered",
    "signature_rejections": "signature rejections",
    "size_rejections": "size rejections",
    "faults": "errors of the engine's own",
}
_COUNTERS: Final = ("accepted", "delivered", "dead", "pending", *_NOTED)
_LATENCY: Final = "p50/p95/p99 ms"
#: on a terminal narrower than this, success and latencies stand below the table
NARROW: Final = 120
#: states, those first that ask for somebody
_TROUBLE: Final = (
    *("misconfigured", "disabled", "failing", "open", "unknown", "half-open"),
    *("active", "paused", "removed"),
)
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60))


def status_view(
    stats: Stats,
    width: int,
    rate: float | None = None,
    *,
    limit: int | None = None,
    height: int | None = None,
) -> Group:
    """Return a headline, the table, and a line for each endpoint with more to say.

    Of more than `limit` endpoints, or than a screen of `height` lines shows, those in most trouble; it
    says how many are left out. Their lines stand below as far as there is room.
    """
    if not stats.running:
        state = "○ stopped", "bold red"
    elif stats.serving == 0:
        state = "○ running, but no worker serves; its log says why", "bold red"
    else:
        state = "● running", "bold green"
    headline = Text.assemble(
        state,
        f"  {safe(stats.data_dir)}",
        "" if rate is None else f"  {number(rate)} deliveries/s",
    )
    problems = [Text(safe(problem), style="yellow") for problem in stats.problems]
    if not stats.endpoints:
        return Group(headline, *problems, "no endpoints")
    narrow, now_ns = width < NARROW, time.time_ns()
    notes = {
        e.id: Text.assemble((f"{safe(e.name)}: ", "bold"), ", ".join(said))
        for e in stats.endpoints
        if (said := _notes(e, now_ns, narrow=narrow))
    }
    screen = _Screen(stats, [headline, *problems], notes, width, height or sys.maxsize)
    shown = stats.endpoints
    if (limit is None or len(shown) <= limit) and screen.takes(shown):
        return Group(*screen.above(shown), *screen.below(shown))
    return screen.fitted(sorted(shown, key=_trouble)[:limit])


class _Screen:
    """What a status is put together of, and the lines that there are for it."""

    def __init__(
        self, stats: Stats, head: list[Text], notes: dict[int, Text], width: int, height: int
    ) -> None:
        """Take the lines above the table, and those below it by the ids of their endpoints."""
        self._stats, self._head, self._notes = stats, head, notes
        self._width, self._height = width, height
        self._console = Console(width=width)

    def above(self, endpoints: list[EndpointStats]) -> list[RenderableType]:
        left_out = len(self._stats.endpoints) - len(endpoints)
        more = [Text(f"and {plural(left_out, 'endpoint')} more", style="dim")] if left_out else []
        return [*self._head, _table(self._stats, endpoints, self._width < NARROW), *more]

    def below(self, endpoints: list[EndpointStats]) -> list[Text]:
        return [self._notes[e.id] for e in endpoints if e.id in self._notes]

    def takes(self, endpoints: list[EndpointStats]) -> bool:
        """Return whether there is room for these with all of their lines."""
        if self._height == sys.maxsize:
            return True
        parts = self.above(endpoints), self.below(endpoints)
        return len(endpoints) <= self._height and self._lines(*parts[0], *parts[1]) <= self._height

    def fitted(self, endpoints: list[EndpointStats]) -> Group:
        """Return as many of the first ones as there is room for, a third of it for their lines."""
        shown = endpoints[: self._height]
        room = min(self._height // 3, self._lines(*self.below(shown)))
        while shown and self._lines(*self.above(shown)) + room > self._height:
            shown.pop()
        parts = self.above(shown)
        for note in self.below(shown):
            if self._lines(*parts, note) > self._height:
                break
            parts.append(note)
        return Group(*parts)

    def _lines(self, *parts: RenderableType) -> int:
        return len(self._console.render_lines(Group(*parts), pad=False))


def _trouble(endpoint: EndpointStats) -> tuple[int, int, int, int]:
    """Return what sorts the endpoints in most trouble first."""
    e = endpoint
    rank = _TROUBLE.index(e.state) if e.state in _TROUBLE else len(_TROUBLE)
    return rank, -e.dead, -sum(e.dropped.values()), -e.pending


def totals(stats: Stats) -> dict[str, int]:
    sums = {name: sum(getattr(e, name) for e in stats.endpoints) for name in _COUNTERS}
    sums["dropped"] = sum(sum(e.dropped.values()) for e in stats.endpoints)
    return sums


def endpoint_state(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(cast(StateName, state), ""))


def deaths(by_cause: Mapping[str, int]) -> str:
    """Return the causes, the commonest first: `payload_too_large 2,201, timeout 3`."""
    ordered = sorted(by_cause.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{safe(cause)} {number(n)}" for cause, n in ordered)


def percent(share: float | None) -> str:
    """Return a share, rounded down: only what never failed is 100 %, only what never succeeded 0 %."""
    return "" if share is None else f"{int(max(share * 1000, share > 0)) / 10:g} %"


def stats_of(status: Status, url: str) -> Stats:
    """Return the API's answer as the statistics of the engine at the URL, as far as they are shown."""
    endpoints = [_endpoint(one) for one in status.webhooks]
    return Stats(
        data_dir=url,
        running=status.running,
        serving=status.serving,
        version=status.version,
        endpoints=endpoints,
    )


def _endpoint(one: WebhookStatus) -> EndpointStats:
    last = one.last_error
    copied = EndpointStats.__struct_fields__
    same = {name: getattr(one, name) for name in WebhookStatus.__struct_fields__ if name in copied}
    return EndpointStats(
        **same
        | {
            "id": int(one.id.removeprefix("wh_")),
            "oldest_pending_ns": _ns(one.oldest_pending_at),
            "next_retry_ns": _ns(one.next_retry_at),
            "next_probe_ns": _ns(one.next_probe_at),
            "failing_since_ns": _ns(one.failing_since),
            "past_due_ns": int(one.past_due_s * 1e9),
            "last_error": last and LastError(_ns(last.at) or 0, last.cause, last.error),
        }
    )


def _ns(time: str | None) -> int | None:
    return None if time is None else int(datetime.fromisoformat(time).timestamp() * 1000) * 10**6


def _table(stats: Stats, endpoints: Sequence[EndpointStats], narrow: bool) -> Table:
    sums = totals(stats)
    table = Table(
        box=None,
        header_style="bold",
        padding=(0, 1 if narrow else 2, 0, 0),
        show_footer=len(stats.endpoints) > 1,
        footer_style="bold",
    )
    table.add_column("endpoint", "total", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("accepted", "delivered", "dead", "dropped", "pending"):
        table.add_column(name, number(sums[name]), justify="right", no_wrap=True)
    if not narrow:
        for name in ("events ok", "attempts ok"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column(_LATENCY, justify="right", style="dim", no_wrap=True)
    for e in endpoints:
        table.add_row(
            safe(e.name),
            endpoint_state(e.state),
            number(e.accepted),
            number(e.delivered),
            Text(number(e.dead), style="red" if e.dead else ""),
            number(sum(e.dropped.values())),
            number(e.pending),
            *([] if narrow else [*_success(e), _latency(e)]),
        )
    return table


def _success(endpoint: EndpointStats) -> tuple[str, str]:
    """Return the shares of the events and of the attempts that succeeded."""
    return percent(endpoint.event_success_rate), percent(endpoint.success_rate)


def _latency(endpoint: EndpointStats) -> str:
    """Return three digits of each."""
    figures = (endpoint.latency_ms or {}).values()
    return "/".join(f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}" for ms in figures)


def _notes(endpoint: EndpointStats, now_ns: int, *, narrow: bool) -> list[str]:
    e = endpoint
    said = [f"disabled: {safe(e.disabled_reason)}"] if e.state == "disabled" else []
    if e.misconfigured_reason:
        said.append(f"misconfigured, its events wait: {safe(e.misconfigured_reason, 500)}")
    waiting = {"queued": e.queued, "stored": e.stored}
    said += [f"{number(n)} {where}" for where, n in waiting.items() if n]
    if e.next_retry_ns is not None:
        said.append(f"next retry {_until(e.next_retry_ns - now_ns)}")
    if e.next_probe_ns is not None:
        said.append(f"next probe {_until(e.next_probe_ns - now_ns)}")
    if e.past_due_ns >= 1_000_000_000:
        said.append(f"past due for {_span(e.past_due_ns)}")
    if e.dead_by_cause:
        said.append(f"dead: {deaths(e.dead_by_cause)}")
    said += [f"{number(n)} dropped ({cause})" for cause, n in e.dropped.items()]
    counted = {name: getattr(e, name) for name in _NOTED}
    said += [f"{number(n)} {_NOTED[name]}" for name, n in counted.items() if n]
    if narrow:
        names = zip(("events", "attempts"), _success(e), strict=True)
        if rates := [f"{name} {rate}" for name, rate in names if rate]:
            said.append(f"succeeded: {', '.join(rates)}")
    if narrow and e.latency_ms:
        said.append(f"{_LATENCY} {_latency(e)}")
    if e.failing_since_ns is not None:
        said.append(f"nothing but failure for {_span(now_ns - e.failing_since_ns)}")
    if e.last_error is not None:
        why = ": ".join(
            safe(text, 120) for text in (e.last_error.cause, e.last_error.error) if text
        )
        said.append(f"last error {_span(now_ns - e.last_error.at_ns)} ago ({why})")
    return said


def _until(ns: int) -> str:
    return f"in {_span(ns)}" if ns > 0 else "now"


def _span(ns: int) -> str:
    """Return a text such as `3 s`, `2 m`, `5 h`, rounded down."""
    seconds = max(0, ns) // 1_000_000_000
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
