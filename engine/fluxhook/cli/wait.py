"""`fluxhook wait`: until an engine is ready."""

from __future__ import annotations

import click

from fluxhook.cli import options
from fluxhook.cli.output import out, safe
from fluxhook.cli.ready import WAIT_S, wait_until_ready
from fluxhook.cli.remote import Remote

__all__ = ["command"]


@click.command()
@click.option(
    "--timeout",
    "timeout_s",
    type=options.Seconds(min=0),
    default=WAIT_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up after this time.",
)
@options.remote
def command(remote: Remote, timeout_s: float) -> None:
    """Wait until an engine is ready.

    It is when it runs, a worker of it serves, and its admin API answers, if it has one; with --api,
    when the engine there says so. Its data directory need not be there yet. The exit code is 0 then;
    after the timeout it is 4 where no engine runs or no worker serves, and 8 where the admin API
    cannot be reached, or cannot answer.
    """
    wait_until_ready(remote, timeout_s)
    out().print(f"ready: {safe(remote.url or remote.data_dir)}")
