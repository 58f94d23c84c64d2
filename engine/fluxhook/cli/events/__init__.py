"""`fluxhook events`: what there is to subscribe to."""

from __future__ import annotations

from typing import Final

import click

from fluxhook.cli.group import Group

__all__ = ["COMMANDS", "command"]

COMMANDS: Final = {"types": "List event types with their fields."}


@click.group(cls=Group, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Look up event types and their fields."""
