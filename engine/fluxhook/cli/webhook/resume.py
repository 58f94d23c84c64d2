"""`fluxhook webhook resume`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.api_client import reference
from fluxhook.cli.output import out, print_json, safe
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@options.webhook
@options.as_json
@options.remote
def command(remote: Remote, name: str, as_json: bool) -> None:
    """End a pause, or a disabling.

    Also of a webhook that was disabled, as its receiver was gone (410) or failed for too long. What
    waited is sent.
    """
    webhook = remote.connect().post(f"/v1/webhooks/{reference(name)}/resume", dict[str, Any])
    if as_json:
        print_json(webhook)
    else:
        out().print(f"{safe(webhook['name'])} is {webhook['state']}", soft_wrap=True)
