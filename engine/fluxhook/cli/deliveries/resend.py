"""`fluxhook deliveries resend`."""

from __future__ import annotations

import click

from fluxhook.admin.models import TestSent
from fluxhook.cli import options
from fluxhook.cli.api_client import segment
from fluxhook.cli.output import out, print_json
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@click.argument("delivery_id", metavar="ID")
@options.as_json
@options.remote
def command(remote: Remote, delivery_id: str, as_json: bool) -> None:
    """Deliver what succeeded once more.

    A new delivery with the same event id and body. It needs the delivery in the store: that of a
    webhook with `record: all`, of a retry, or of a test event, for the retention.
    """
    sent = remote.connect().post(f"/v1/deliveries/{segment(delivery_id)}/resend", TestSent)
    if as_json:
        print_json(sent)
        return
    console = out()
    console.print(f"{sent.event_id} is delivered again as {sent.delivery_id}", soft_wrap=True)
    if sent.held_until is not None:
        console.print(
            f"  the breaker is open: it is attempted at {sent.held_until}", soft_wrap=True
        )
