"""`fluxhook deliveries retry`."""

from __future__ import annotations

import click

from fluxhook.admin.models import Progress
from fluxhook.cli import options
from fluxhook.cli.api_client import segment
from fluxhook.cli.dead_letters.choice import each
from fluxhook.cli.output import out, plural, print_json
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@options.as_json
@options.remote
def command(remote: Remote, ids: tuple[str, ...], as_json: bool) -> None:
    """Attempt deliveries now that wait for their time.

    Each attempt counts as ever: where it fails, the delivery waits for its next time, or is given up
    after the last. `webhook retry` attempts all of a webhook.
    """
    api = remote.connect()
    done = each(ids, lambda id: api.post(f"/v1/deliveries/{segment(id)}/retry", Progress))
    if as_json:
        print_json({"done": done})
    else:
        out().print(f"{plural(done, 'delivery is', 'deliveries are')} attempted now")
