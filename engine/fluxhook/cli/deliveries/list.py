"""`fluxhook deliveries list`."""

from __future__ import annotations

from typing import get_args

import click

from fluxhook.admin.models import Delivery, DeliveryState
from fluxhook.cli import options
from fluxhook.cli.delivery_view import delivery_list
from fluxhook.cli.output import at_most, out, print_lines
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@options.endpoint
@options.event_type
@click.option("--state", type=click.Choice(get_args(DeliveryState)), help="Only in this state.")
@click.option("--cause", metavar="CAUSE", help="Only those that failed by it, such as timeout.")
@click.option("--event", "event_id", metavar="ID", help="Only this event's.")
@options.span("those accepted")
@options.limit(100)
@options.as_json_lines
@options.remote
def command(
    remote: Remote,
    endpoint: str | None,
    event_type: str | None,
    state: str | None,
    cause: str | None,
    event_id: str | None,
    since: str | None,
    until: str | None,
    last: int,
    as_json: bool,
) -> None:
    """List deliveries, the newest first.

    Those that did not succeed at once, and all of a webhook with `record: all`.
    """
    found = remote.connect().pages(
        "/v1/deliveries",
        Delivery,
        last=last if as_json else last + 1,
        endpoint=endpoint,
        type=event_type,
        state=state,
        cause=cause,
        event_id=event_id,
        since=since,
        until=until,
    )
    if as_json:
        print_lines(found)
        return
    console, rows = out(), at_most(list(found), last)
    if rows:
        console.print(delivery_list(rows, console))
    else:
        console.print("no deliveries; those that succeed at once are kept with `record: all` only")
