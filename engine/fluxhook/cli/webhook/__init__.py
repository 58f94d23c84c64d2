"""`fluxhook webhook`: endpoints that come, change and go while the engine runs."""

from __future__ import annotations

from typing import Final

import click

from fluxhook.cli.group import Group

__all__ = ["COMMANDS", "command"]

COMMANDS: Final = {
    "create": "Create a webhook.",
    "list": "List all webhooks.",
    "show": "Show all options of a webhook.",
    "update": "Change options of a webhook.",
    "delete": "Remove a webhook.",
    "pause": "Have a webhook's events wait.",
    "resume": "End a pause, or a disabling.",
    "close-breaker": "Send to a webhook again at once.",
    "retry": "Attempt now what waits for its time.",
    "rotate-secret": "Give a webhook a new secret.",
    "test": "Send a test event, and say what became of it.",
}


@click.group(cls=Group, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Create, change, pause, test and remove webhooks.

    Through the admin API of a running engine: that of the data directory, or one given by --api.
    Webhooks of the configuration file can be shown, paused, resumed and tested; all else about them
    is the file's.
    """
