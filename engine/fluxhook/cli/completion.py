"""`fluxhook completion`: the script that makes a shell complete."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

__all__ = ["command"]

_SHELLS: Final[dict[str, type[ShellComplete]]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command()
@click.argument("shell", metavar="SHELL", type=click.Choice(list(_SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands and names in SHELL: bash, zsh or fish.

    \b
      bash  eval "$(fluxhook completion bash)"            in ~/.bashrc
      zsh   eval "$(fluxhook completion zsh)"             in ~/.zshrc
      fish  fluxhook completion fish > ~/.config/fish/completions/fluxhook.fish

    Names of webhooks are those of the data directory.
    """
    root = ctx.find_root().command
    # Not source(), which runs a bash to ask for its version.
    complete = _SHELLS[shell](root, {}, "fluxhook", "_FLUXHOOK_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
