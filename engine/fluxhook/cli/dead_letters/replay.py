"""`fluxhook dead-letters replay`."""

from __future__ import annotations

import click

from fluxhook.admin.models import Progress
from fluxhook.cli import options
from fluxhook.cli.api_client import segment
from fluxhook.cli.dead_letters.choice import Choice, choice, count, each, walk
from fluxhook.cli.output import out, plural, print_json
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@choice
@options.as_json
@options.remote
def command(remote: Remote, which: Choice, as_json: bool) -> None:
    """Deliver dead letters again.

    Those with the IDs, or all that match every filter. Each waits for delivery like a new event, due
    now, with all of its attempts before it.
    """
    api = remote.connect()
    if which.ids:
        done = each(
            which.ids, lambda id: api.post(f"/v1/dead-letters/{segment(id)}/replay", Progress)
        )
    else:
        done = walk(api, "/v1/dead-letters/replay", which.filters, count(api, which))
    if as_json:
        print_json({"done": done})
    else:
        out().print(f"{plural(done, 'dead letter')} will be delivered again")
