"""`fluxhook dead-letters list`."""

from __future__ import annotations

import click

from fluxhook.admin.models import Delivery
from fluxhook.cli import options
from fluxhook.cli.delivery_view import delivery_list
from fluxhook.cli.output import at_most, out, print_lines
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@options.endpoint
@options.event_type
@click.option("--cause", metavar="CAUSE", help="Only those that failed by it, as server_error.")
@options.span("those that died")
@options.limit(100)
@options.as_json_lines
@options.remote
def command(
    remote: Remote,
    endpoint: str | None,
    event_type: str | None,
    cause: str | None,
    since: str | None,
    until: str | None,
    last: int,
    as_json: bool,
) -> None:
    """List dead letters, the latest first."""
    found = remote.connect().pages(
        "/v1/dead-letters",
        Delivery,
        last=last if as_json else last + 1,
        endpoint=endpoint,
        type=event_type,
        cause=cause,
        since=since,
        until=until,
    )
    if as_json:
        print_lines(found)
        return
    console, rows = out(), at_most(list(found), last)
    if rows:
        console.print(delivery_list(rows, console, ended=True))
    else:
        console.print("no dead letters")
