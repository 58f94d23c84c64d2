"""`fluxhook webhook list`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.output import at_most, print_lines
from fluxhook.cli.remote import Remote
from fluxhook.cli.webhook.view import print_list

__all__ = ["command"]


@click.command()
@options.limit(None, of="the first N")
@options.as_json_lines
@options.remote
def command(remote: Remote, last: int | None, as_json: bool) -> None:
    """List all webhooks, those of the configuration file too."""
    found = list(remote.connect().pages("/v1/webhooks", dict[str, Any], whole=True))
    if as_json:
        print_lines(found[:last])
    else:
        print_list(at_most(found, last), remote.options)
