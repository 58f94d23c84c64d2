"""`fluxhook webhook close-breaker`."""

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
    """Send to a webhook again at once, although its breaker is open.

    The breaker closes, and what it held back is sent now. If attempts go on failing it opens again, as
    ever. What failed waits for its own time: `webhook retry` attempts that now.
    """
    webhook = remote.connect().post(f"/v1/webhooks/{reference(name)}/close-breaker", dict[str, Any])
    if as_json:
        print_json(webhook)
    else:
        said = (
            f"the breaker of {safe(webhook['name'])} was closed; the webhook is {webhook['state']}"
        )
        out().print(said, soft_wrap=True)
