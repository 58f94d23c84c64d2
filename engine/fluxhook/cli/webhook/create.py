"""`fluxhook webhook create`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.failure import Failure
from fluxhook.cli.output import print_json
from fluxhook.cli.remote import Remote
from fluxhook.cli.webhook.flags import explained, secret_options, webhook_flags
from fluxhook.cli.webhook.view import print_created

__all__ = ["command"]


@click.command()
@webhook_flags
@secret_options
@click.option("--generate-secret", is_flag=True, help="Have a secret made; it is printed once.")
@click.option("--name", metavar="NAME", help="By default, the host of the URL.")
@click.option("--paused", is_flag=True, help="Have its events wait until `webhook resume`.")
@options.as_json
@options.remote
def command(
    remote: Remote,
    layer: dict[str, Any],
    secret: str | None,
    generate_secret: bool,
    name: str | None,
    paused: bool,
    as_json: bool,
) -> None:
    """Create a webhook.

    --type and --url are needed, and a secret unless the signature is none. What is not given has the
    default of the configuration. Events that are emitted from now on reach it.

    \b
      fluxhook webhook create --type route.error --url https://hooks.example.com/fg \\
          --secret sk_live_9x8m2p --timeout 3s
    """
    if not layer.get("events"):
        raise click.UsageError('Which events? Give --type, or --type "*" for all.')
    if not layer.get("url"):
        raise click.UsageError("Where are they to be sent? Give --url.")
    if generate_secret and secret is not None:
        raise click.UsageError("Give a secret or --generate-secret, not both.")
    more = {"name": name, "secret": secret, "generate_secret": generate_secret, "paused": paused}
    body = {**layer, **{field: value for field, value in more.items() if value}}
    try:
        made = remote.connect().post("/v1/webhooks", dict[str, Any], body)
    except Failure as failure:
        raise explained(failure) from None
    if as_json:
        print_json(made)
    else:
        print_created(made, "was created")
