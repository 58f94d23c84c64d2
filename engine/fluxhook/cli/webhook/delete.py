"""`fluxhook webhook delete`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.api_client import reference
from fluxhook.cli.confirm import confirm
from fluxhook.cli.output import out, safe
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@options.webhook
@options.yes
@options.remote
def command(remote: Remote, name: str, yes: bool) -> None:
    """Remove a webhook.

    It gets no event any more; what waits for it becomes dead letters.
    """
    api, path = remote.connect(), f"/v1/webhooks/{reference(name)}"
    if not yes:
        webhook = api.get(path, dict[str, Any])
        what = f"{safe(webhook['name'])} ({safe(webhook['url'])})"
        confirm(f"Delete {what}? What waits for it becomes dead letters.", yes)
    api.delete(path)
    out().print(f"{safe(name)} was deleted", soft_wrap=True)
