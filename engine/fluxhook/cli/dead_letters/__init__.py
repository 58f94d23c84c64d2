"""`fluxhook dead-letters`: what was given up."""

from __future__ import annotations

from typing import Final

import click

from fluxhook.cli.group import Group

__all__ = ["COMMANDS", "command"]

COMMANDS: Final = {
    "list": "List dead letters, the latest first.",
    "replay": "Deliver dead letters again.",
    "purge": "Erase dead letters.",
}


@click.group(cls=Group, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Look at what was given up; deliver it again, or erase it.

    A dead letter is kept for `retention` (24 hours by default), then it is erased with a line in the
    audit trail.
    """
