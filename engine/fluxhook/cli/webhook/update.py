"""`fluxhook webhook update`."""

from __future__ import annotations

from typing import Any

import click

from fluxhook.cli import options
from fluxhook.cli.api_client import reference
from fluxhook.cli.failure import Failure
from fluxhook.cli.output import print_json
from fluxhook.cli.remote import Remote
from fluxhook.cli.webhook.flags import assign, explained, secret_options, webhook_flags
from fluxhook.cli.webhook.view import print_created

__all__ = ["command"]


@click.command()
@options.webhook
@webhook_flags
@secret_options
@click.option(
    "--unset",
    metavar="KEY",
    multiple=True,
    help="Take a field back to its default, such as threshold or headers.X-Team; repeatable.",
)
@options.as_json
@options.remote
def command(
    remote: Remote,
    name: str,
    layer: dict[str, Any],
    secret: str | None,
    unset: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change options of a webhook.

    Only what is given changes: a list is replaced as a whole, headers are added to those there are. A
    secret replaces the former one at once; `webhook rotate-secret` has both sign for a time. A URL of
    another scheme, host or port, another proxy or another tls.ca needs the headers and the secret
    again.
    """
    if secret is not None:
        assign(layer, "secret", secret)
    for field in unset:
        assign(layer, field, None)
    if not layer:
        raise click.UsageError("Nothing to change: give an option of the webhook.")
    try:
        made = remote.connect().patch(f"/v1/webhooks/{reference(name)}", dict[str, Any], layer)
    except Failure as failure:
        raise explained(failure) from None
    if as_json:
        print_json(made)
    else:
        print_created(made, "was changed")
