"""The command `fluxhook`: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Final, NoReturn

import click

from fluxhook._version import VERSION
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from fluxhook.cli.group import Group
from fluxhook.errors import FluxhookError

__all__ = ["COMMANDS", "app"]

#: Each is a module of this package, or a package of its own for a command that has commands.
COMMANDS: Final = {
    "demo": "See the whole of it at work, in half a minute.",
    "bench": "Measure throughput, CPU and latency on this machine.",
    "check": "Say what a configuration will do, or what is wrong with it.",
    "serve": "Run an engine until it is told to stop.",
    "wait": "Wait until an engine is ready.",
    "emit": "Hand events to an engine: one, or a stream of JSON lines.",
    "status": "Show what was delivered and what is still owed.",
    "webhook": "Create, change, pause, test and remove webhooks.",
    "events": "Look up event types and their fields.",
    "deliveries": "Look at deliveries and their attempts.",
    "dead-letters": "Look at what was given up; deliver it again, or erase it.",
    "audit": "Show what was given up and erased.",
    "listen": "Receive deliveries, verify and print them; fail on demand.",
    "admin": "Run the admin API beside an engine that runs elsewhere.",
    "completion": "Print a script that completes commands and names in a shell.",
}


class _App(Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(f"{code:d} {code.name}", code.meaning) for code in ExitCode])

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        """Do as click does, but for Ctrl-C, of which it makes status 1 outside of `invoke`."""
        try:
            return super().make_context(*given, **more)
        except KeyboardInterrupt:
            sys.exit(ExitCode.INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every error that was foreseen ends in one clear message and a code of its
        own."""
        try:
            return super().invoke(ctx)
        except FluxhookError as error:
            _fail(ctx, error, error.code if isinstance(error, Failure) else ExitCode.of(error))
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)
        except click.Abort as abort:  # of a question
            if isinstance(abort.__context__, KeyboardInterrupt):
                ctx.exit(ExitCode.INTERRUPTED)
            raise
        except BrokenPipeError:
            _discard_output()
            ctx.exit(ExitCode.BROKEN_PIPE)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _fail(ctx, f"{place}{error.strerror or error}", ExitCode.FAILURE)


def _fail(ctx: click.Context, error: FluxhookError | str, code: ExitCode) -> NoReturn:
    from fluxhook.cli.output import print_error, print_remedy

    with contextlib.suppress(BrokenPipeError):
        print_error(error)
        if code is ExitCode.NOT_RUNNING and not isinstance(error, Failure):
            print_remedy("start one with `fluxhook serve -c FILE`, or name its --data-dir")
    ctx.exit(code)


def _discard_output() -> None:
    """Point stdout nowhere, or the interpreter would complain as it flushes (docs.python.org, "Note
    on SIGPIPE")."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=_App,
    package="fluxhook.cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(VERSION, message="fluxhook %(version)s")
def app() -> None:
    """Deliver webhooks: match, sign, send, retry, lose nothing."""
