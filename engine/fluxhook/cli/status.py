"""`fluxhook status`: what was delivered and what is still owed."""

from __future__ import annotations

import contextlib
import time
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fluxhook.cli import options
from fluxhook.cli.output import number, out, print_json, safe
from fluxhook.config.url import shown_url
from fluxhook.runtime.stats import EndpointStats, Stats, read_stats

__all__ = ["command", "endpoint_state"]

_STATE_STYLES = {
    "active": "green",
    "half-open": "yellow",
    "open": "red",
    "paused": "yellow",
    "disabled": "red",
    "removed": "dim",
}
#: what the table has no column for; said below it where it is not zero
_NOTED = {
    "failed_attempts": "failed attempts",
    "skipped": "skipped",
    "refused": "refused by a full queue",
    "signature_rejections": "signature rejections",
    "size_rejections": "size rejections",
}
_COUNTERS = ("accepted", "delivered", "dead", "pending", *_NOTED)
_LATENCY = "p50/p95/p99 ms"
#: on a terminal narrower than this, latencies stand below the table
NARROW = 100


@click.command()
@options.data_dir
@options.as_json
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
def command(data_dir: str, as_json: bool, watch: bool, interval: float) -> None:
    """Show what was delivered and what is still owed.

    For each endpoint: accepted = delivered + dead + dropped + pending. Works whether the engine runs
    or not; to read stops nobody. Counters are of the data directory's whole life; latencies are of
    successful attempts.
    """
    console = out()

    def show(stats: Stats) -> None:
        if as_json:
            print_json(_plain(stats))
        else:
            console.print(_view(stats, console.width))

    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            if console.is_terminal and not as_json:
                _watch_live(console, data_dir, interval)
            while True:
                show(read_stats(data_dir))
                time.sleep(interval)
    if not watch or (console.is_terminal and not as_json):
        show(read_stats(data_dir))


def _watch_live(console: Console, data_dir: str, interval: float) -> NoReturn:
    """On a screen of its own, until Ctrl-C."""
    before, since = read_stats(data_dir), time.monotonic()
    first = _view(before, console.width)
    with Live(first, console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.refresh()
            time.sleep(interval)
            stats, now = read_stats(data_dir), time.monotonic()
            rate = (_totals(stats)["delivered"] - _totals(before)["delivered"]) / (now - since)
            live.update(_view(stats, console.width, rate))
            before, since = stats, now


def _plain(stats: Stats) -> dict[str, Any]:
    """The statistics as JSON has them: with totals, and without what a URL may hide."""
    plain: dict[str, Any] = msgspec.to_builtins(stats)
    for endpoint, figures in zip(plain["endpoints"], stats.endpoints, strict=True):
        endpoint["url"] = shown_url(figures.url)
        endpoint |= {"pending": figures.pending, "success_rate": figures.success_rate}
    return {**plain, "totals": _totals(stats)}


def _totals(stats: Stats) -> dict[str, int]:
    totals = {name: sum(getattr(e, name) for e in stats.endpoints) for name in _COUNTERS}
    totals["dropped"] = sum(sum(e.dropped.values()) for e in stats.endpoints)
    return totals


def endpoint_state(state: str) -> Text:
    return Text(state, style=_STATE_STYLES.get(state, ""))


def _view(stats: Stats, width: int, rate: float | None = None) -> Group:
    """A headline, the table, and a line for each endpoint with more to say."""
    headline = Text.assemble(
        ("● running", "bold green") if stats.running else ("○ stopped", "bold red"),
        f"  {stats.data_dir}",
        "" if rate is None else f"  {number(rate)} deliveries/s",
    )
    if not stats.endpoints:
        return Group(headline, "no endpoints")
    narrow = width < NARROW
    notes = [
        Text.assemble((f"{safe(e.name)}: ", "bold"), ", ".join(said))
        for e in stats.endpoints
        if (said := _notes(e, latency=narrow))
    ]
    return Group(headline, _table(stats, narrow), *notes)


def _table(stats: Stats, narrow: bool) -> Table:
    totals = _totals(stats)
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
        table.add_column(name, number(totals[name]), justify="right", no_wrap=True)
    if not narrow:
        table.add_column(_LATENCY, justify="right", style="dim", no_wrap=True)
    for e in stats.endpoints:
        table.add_row(
            safe(e.name),
            endpoint_state(e.state),
            number(e.accepted),
            number(e.delivered),
            Text(number(e.dead), style="red" if e.dead else ""),
            number(sum(e.dropped.values())),
            number(e.pending),
            *([] if narrow else [_latency(e)]),
        )
    return table


def _latency(endpoint: EndpointStats) -> str:
    """Three digits of each."""
    figures = (endpoint.latency_ms or {}).values()
    return "/".join(f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}" for ms in figures)


def _notes(endpoint: EndpointStats, *, latency: bool) -> list[str]:
    counted = {name: getattr(endpoint, name) for name in _NOTED}
    said = [f"{number(n)} dropped ({cause})" for cause, n in endpoint.dropped.items()]
    said += [f"{number(n)} {_NOTED[name]}" for name, n in counted.items() if n]
    if latency and endpoint.latency_ms:
        said.append(f"{_LATENCY} {_latency(endpoint)}")
    return said
