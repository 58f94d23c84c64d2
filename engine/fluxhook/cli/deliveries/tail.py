"""`fluxhook deliveries tail`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import click

from fluxhook.admin.models import Delivery
from fluxhook.admin.paging import parse_delivery_id
from fluxhook.cli import options
from fluxhook.cli.api_client import Api
from fluxhook.cli.delivery_view import delivery_line
from fluxhook.cli.output import out, print_lines
from fluxhook.cli.remote import Remote
from fluxhook.store.delivery_id import PER_US, shown_id

__all__ = ["command"]

#: newest deliveries that are looked at each time; arbitrary
TRACKED: Final = 100
#: An id begins with the microsecond in which a worker made it. Workers commit by turns, so one may
#: appear after others with a higher id, but not by much.
_LATE: Final = 10_000_000 * PER_US


@click.command()
@options.endpoint
@options.event_type
@options.limit(10, of="the newest N to begin with", least=0)
@click.option(
    "--interval",
    "interval_s",
    type=options.Seconds(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@options.as_json_lines
@options.remote
def command(
    remote: Remote,
    endpoint: str | None,
    event_type: str | None,
    last: int,
    interval_s: float,
    as_json: bool,
) -> None:
    """Show new deliveries as they come, until Ctrl-C, the oldest first.

    Each is shown again when it was attempted or has ended, as long as it is among the newest hundred.
    """
    tail = _Tail(remote.connect(), endpoint, event_type)
    console = out()
    begun = tail.begin(last)
    while True:
        if as_json:
            print_lines(begun)
        else:
            for row in begun:
                console.print(delivery_line(row), soft_wrap=True)
        time.sleep(interval_s)
        begun = tail.new()


class _Tail:
    def __init__(self, api: Api, endpoint: str | None, event_type: str | None) -> None:
        self._api = api
        self._endpoint, self._type = endpoint, event_type
        #: what was seen of the latest ones: state and attempts by id
        self._seen: dict[str, tuple[str, int]] = {}
        #: what has an id from here on, and was not seen, is new
        self._floor = ""

    def begin(self, last: int) -> list[Delivery]:
        """Return the newest ones. All that exist count as seen."""
        rows = list(self._pages(last=max(last, TRACKED)))
        if rows:
            self._floor = rows[-1].id
        self._remember(rows)
        return rows[:last][::-1]

    def new(self) -> list[Delivery]:
        """Return what came or changed since, the oldest first."""
        rows = list(self._recent())
        found = [row for row in rows if self._is_news(row)]
        self._remember(rows)
        return found[::-1]

    def _is_news(self, row: Delivery) -> bool:
        seen = self._seen.get(row.id)
        return row.id >= self._floor if seen is None else seen != (row.state, row.attempts)

    def _remember(self, rows: list[Delivery]) -> None:
        self._seen = {row.id: (row.state, row.attempts) for row in rows}
        if rows:
            newest = parse_delivery_id(rows[0].id)
            self._floor = max(self._floor, shown_id(max(0, newest - _LATE)))

    def _recent(self) -> Iterator[Delivery]:
        for n, row in enumerate(self._pages()):
            if n >= TRACKED and row.id < self._floor:
                return
            yield row

    def _pages(self, last: int | None = None) -> Iterator[Delivery]:
        return self._api.pages(
            "/v1/deliveries",
            Delivery,
            last=last,
            page=TRACKED,
            endpoint=self._endpoint,
            type=self._type,
        )
