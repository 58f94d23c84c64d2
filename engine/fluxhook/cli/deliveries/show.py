"""`fluxhook deliveries show`."""

from __future__ import annotations

import click

from fluxhook.admin.models import DeliveryDetail
from fluxhook.cli import options
from fluxhook.cli.api_client import segment
from fluxhook.cli.delivery_view import attempts, delivery_facts, sent_request
from fluxhook.cli.output import out, print_json
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@click.argument("delivery_id", metavar="ID")
@options.as_json
@options.remote
def command(remote: Remote, delivery_id: str, as_json: bool) -> None:
    """Show a delivery: its attempts with their timings, its request, what was answered.

    Signatures, and the values of headers that may be secret, are not shown.
    """
    delivery = remote.connect().get(f"/v1/deliveries/{segment(delivery_id)}", DeliveryDetail)
    if as_json:
        print_json(delivery)
        return
    console = out()
    console.print(delivery.id, style="bold")
    console.print(delivery_facts(delivery))
    console.print("attempts", style="bold")
    for line in attempts(delivery):
        console.print(line, soft_wrap=True)
    if not delivery.history:
        console.print("  none yet")
    console.print("request", style="bold")
    if delivery.request is None:
        console.print("  its body was erased")
    else:
        for line in sent_request(delivery.request):
            console.print(line, soft_wrap=True)
