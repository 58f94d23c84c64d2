"""The command `fluxhook`: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, Final, NoReturn

import click

from fluxhook._version import VERSION
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.errors import FluxhookError
from fluxhook.events.names import hint

__all__ = ["COMMANDS", "app"]

#: Each has a module of its name with a click command `command`, imported only when it is called.
COMMANDS: Final = {
    "demo": "See the whole of it at work, in half a minute.",
    "check": "Say what a configuration will do, or what is wrong with it.",
    "serve": "Run an engine until it is told to stop.",
    "emit": "Hand events to an engine: one, or a stream of JSON lines.",
    "status": "Show what was delivered and what is still owed.",
    "audit": "Show what was given up and erased.",
    "listen": "Receive deliveries, verify and print them; fail on demand.",
}


class _HelpFormatter(click.HelpFormatter):
    """click's, with headings that stand out on a terminal."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(click.style(heading, bold=True))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(click.style(prog, bold=True), args, prefix)


class _Context(click.Context):
    formatter_class = _HelpFormatter


class _App(click.Group):
    context_class = _Context

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"fluxhook.cli.{cmd_name}").command
        command.context_class = _Context
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]!r:.80}{hint(args[0], COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(f"{code:d} {code.name}", code.meaning) for code in ExitCode])

    def invoke(self, ctx: click.Context) -> Any:
        """Every error that was foreseen ends in one clear message and a code of its own."""
        try:
            return super().invoke(ctx)
        except FluxhookError as error:
            _fail(ctx, error, ExitCode.of(error))
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(ExitCode.BROKEN_PIPE)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _fail(ctx, f"{place}{error.strerror or error}", ExitCode.FAILURE)


def _fail(ctx: click.Context, error: FluxhookError | str, code: ExitCode) -> NoReturn:
    from fluxhook.cli.output import err, print_error

    with contextlib.suppress(BrokenPipeError):
        print_error(error)
        if code is ExitCode.NOT_RUNNING:
            err().print(
                "  → start one with `fluxhook serve`, or name its --data-dir", style="green"
            )
    ctx.exit(code)


def _discard_output() -> None:
    """Points stdout nowhere, or the interpreter would complain as it flushes (docs.python.org,
    "Note on SIGPIPE")."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, message="fluxhook %(version)s")
def app() -> None:
    """Deliver webhooks: match, sign, send, retry, lose nothing."""
