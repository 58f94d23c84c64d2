"""`fluxhook webhook rotate-secret`."""

from __future__ import annotations

import click

from fluxhook.admin.models import RotatedSecret
from fluxhook.cli import options
from fluxhook.cli.api_client import reference
from fluxhook.cli.failure import Failure
from fluxhook.cli.output import out, print_json, safe
from fluxhook.cli.remote import Remote
from fluxhook.cli.webhook.flags import explained, secret_options
from fluxhook.cli.webhook.view import print_secret

__all__ = ["command"]


@click.command()
@options.webhook
@secret_options
@click.option(
    "--overlap",
    metavar="DURATION",
    default="24h",
    show_default=True,
    help="For so long the former secret signs beside the new one; 0s ends it at once.",
)
@options.as_json
@options.remote
def command(remote: Remote, name: str, secret: str | None, overlap: str, as_json: bool) -> None:
    """Give a webhook a new secret.

    Without one of your own, one is generated and printed once. During the overlap deliveries carry
    the signatures of both, so that the receiver can change at any time.
    """
    body = {"overlap": overlap} | ({} if secret is None else {"secret": secret})
    try:
        rotated = remote.connect().post(
            f"/v1/webhooks/{reference(name)}/rotate-secret", RotatedSecret, body
        )
    except Failure as failure:
        raise explained(failure) from None
    if as_json:
        print_json(rotated)
        return
    until = f"the former one signs until {rotated.former_expires_at}"
    out().print(f"{safe(name)} has a new secret; {until}", soft_wrap=True)
    print_secret(rotated.secret)
