"""`fluxhook dead-letters purge`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.api_client import segment
from fluxhook.cli.confirm import confirm
from fluxhook.cli.dead_letters.choice import Choice, choice, count, each, walk
from fluxhook.cli.output import out, plural, print_json, safe
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@choice
@options.yes
@options.as_json
@options.remote
def command(remote: Remote, which: Choice, yes: bool, as_json: bool) -> None:
    """Erase dead letters.

    Those with the IDs, or all that match every filter. Each has a line in the audit trail before it
    goes; it cannot be delivered any more.
    """
    api = remote.connect()
    total = count(api, which)
    confirm(_question(which, total), yes)
    if which.ids:
        done = each(which.ids, lambda id: api.delete(f"/v1/dead-letters/{segment(id)}"))
    else:
        body: dict[str, Any] = {**which.filters} if which.filters else {"all": True}
        done = walk(api, "/v1/dead-letters/purge", body, total)
    if as_json:
        print_json({"done": done})
    else:
        out().print(f"{plural(done, 'dead letter was', 'dead letters were')} erased")


def _question(which: Choice, total: int | None) -> str:
    many = "the dead letters" if total is None else plural(total, "dead letter")
    filters = ", ".join(f"{name} {safe(value)}" for name, value in which.filters.items())
    return f"Erase {many}{f' ({filters})' if filters else ''}? They cannot be delivered any more."
