"""`fluxhook deliveries`: what became of events, one webhook each."""

from __future__ import annotations

from typing import Final

import click

from fluxhook.cli.group import Group

__all__ = ["COMMANDS", "command"]

COMMANDS: Final = {
    "list": "List deliveries, the newest first.",
    "show": "Show a delivery and its attempts.",
    "tail": "Show new deliveries as they come.",
    "retry": "Attempt deliveries now that wait.",
    "resend": "Deliver what succeeded once more.",
}


@click.group(cls=Group, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Look at deliveries and their attempts.

    The store has those that did not succeed at once, and all of a webhook with `record: all`.
    """
