"""`fluxhook webhook retry`."""

from __future__ import annotations

import click

from fluxhook.cli import options
from fluxhook.cli.api_client import reference
from fluxhook.cli.dead_letters.choice import walk
from fluxhook.cli.output import out, plural, print_json, safe
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@options.webhook
@options.as_json
@options.remote
def command(remote: Remote, name: str, as_json: bool) -> None:
    """Attempt now what waits for its time.

    All deliveries of the webhook that wait for a retry are due now, and are sent as its limits let
    them. Each attempt counts as ever: where it fails, the delivery waits for its next time, or is given
    up after the last.
    """
    done = walk(remote.connect(), f"/v1/webhooks/{reference(name)}/retry", {}, None)
    if as_json:
        print_json({"done": done})
    elif done:
        said = plural(done, "delivery is", "deliveries are")
        out().print(f"{said} attempted now", soft_wrap=True)
    else:
        out().print(f"nothing of {safe(name)} waits for its time", soft_wrap=True)
