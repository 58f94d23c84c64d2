"""`fluxhook webhook show`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.api_client import reference
from fluxhook.cli.output import print_json
from fluxhook.cli.remote import Remote
from fluxhook.cli.webhook.view import print_webhook

__all__ = ["command"]


@click.command()
@options.webhook
@options.as_json
@options.remote
def command(remote: Remote, name: str, as_json: bool) -> None:
    """Show all options of a webhook, defaults included.

    Secrets and the values of headers are not shown.
    """
    webhook = remote.connect().get(f"/v1/webhooks/{reference(name)}", dict[str, Any])
    if as_json:
        print_json(webhook)
    else:
        print_webhook(webhook)
