"""`fluxhook status`: what was delivered and what is still owed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

import click
import msgspec
from rich.console import Console, Group
from rich.live import Live

from fluxhook.admin.models import Status
from fluxhook.cli import options
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.output import out, print_json
from fluxhook.cli.remote import Remote
from fluxhook.cli.status_view import stats_of, status_view, totals
from fluxhook.config.url import shown_url
from fluxhook.stats import Stats, read_stats

__all__ = ["command"]

#: what the figures of an endpoint say besides their fields
_DERIVED: Final = ("pending", "success_rate", "event_success_rate", "dead_cause")


@click.command()
@options.as_json
@click.option("-w", "--watch", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--interval",
    type=options.Seconds(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@options.limit(None, of="the N endpoints in most trouble, in the table")
@options.remote
@click.pass_context
def command(
    ctx: click.Context,
    remote: Remote,
    as_json: bool,
    watch: bool,
    interval: float,
    last: int | None,
) -> None:
    """Show what was delivered and what is still owed.

    For each endpoint: accepted = delivered + dead + dropped + aggregated + pending. Reads the data
    directory, whether its engine runs or not, and stops nobody; with --api, asks the engine there.
    Counters are of the data directory's whole life; latencies are of successful attempts. The exit
    status is 4 where an engine runs and no worker of it serves.
    """
    console, look = out(), _looking(remote)

    def show() -> None:
        found = look()
        if as_json:
            print_json(_plain(found))
        else:
            console.print(status_view(_stats(found, remote), console.width, limit=last))
        if found.running and found.serving == 0 and not watch:
            ctx.exit(ExitCode.NOT_RUNNING)

    live = console.is_terminal and not as_json
    if watch and live:
        try:
            _watch_live(console, lambda: _stats(look(), remote), interval, last)
        except KeyboardInterrupt:  # the screen is gone: leave what it showed last
            show()
            raise
    while watch:
        show()
        time.sleep(interval)
    show()


def _looking(remote: Remote) -> Callable[[], Stats | Status]:
    if remote.url is None:
        return lambda: read_stats(remote.data_dir)
    api = remote.connect()
    return lambda: api.get("/v1/webhooks/status", Status)


def _stats(found: Stats | Status, remote: Remote) -> Stats:
    return found if isinstance(found, Stats) else stats_of(found, remote.url or "")


def _watch_live(
    console: Console, look: Callable[[], Stats], interval: float, limit: int | None
) -> NoReturn:
    """Show the status on a screen of its own, until Ctrl-C."""
    before, since = look(), time.monotonic()

    def view(stats: Stats, rate: float | None = None) -> Group:
        return status_view(stats, console.width, rate, limit=limit, height=console.height)

    with Live(view(before), console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.refresh()
            time.sleep(interval)
            stats, now = look(), time.monotonic()
            rate = (totals(stats)["delivered"] - totals(before)["delivered"]) / (now - since)
            live.update(view(stats, rate))
            before, since = stats, now


def _plain(found: Stats | Status) -> Any:
    """Return it as JSON has it: the API's own answer; of a data directory the statistics with totals,
    and without what a URL may hide."""
    if isinstance(found, Status):
        return found
    plain: dict[str, Any] = msgspec.to_builtins(found)
    for endpoint, figures in zip(plain["endpoints"], found.endpoints, strict=True):
        endpoint["url"] = shown_url(figures.url)
        endpoint |= {name: getattr(figures, name) for name in _DERIVED}
    return {**plain, "totals": totals(found)}
