"""`fluxhook listen`: a receiver to try things out with."""

from __future__ import annotations

import asyncio
import signal
from typing import get_args

import click

from fluxhook.cli import options
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.listen_view import Printer
from fluxhook.config.schema import SignatureProfile
from fluxhook.receiver import Behaviour, Receiver
from fluxhook.receiver.faults import FAULTS

__all__ = ["command"]

#: how long the last answer has to leave, before the connections are dropped
ANSWER_S = 0.05

_PROFILES = [profile for profile in get_args(SignatureProfile) if profile != "none"]


_STATUS = click.IntRange(200, 599)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Listen here.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=9000,
    show_default=True,
    metavar="PORT",
    help="0 takes a free one.",
)
@click.option(
    "--secret",
    "secrets",
    metavar="SECRET",
    multiple=True,
    envvar="FLUXHOOK_SECRET",
    show_envvar=True,
    help="Verify signatures with it, and answer 401 where that fails; repeatable.",
)
@click.option(
    "--profile",
    type=click.Choice(_PROFILES),
    default="fluxgate",
    show_default=True,
    metavar="NAME",
    help=f"How deliveries are signed: {', '.join(_PROFILES)}.",
)
@click.option(
    "--status",
    type=_STATUS,
    default=204,
    show_default=True,
    metavar="STATUS",
    help="What good deliveries are answered with.",
)
@click.option(
    "--fail-first", type=click.IntRange(0), default=0, metavar="N", help="Fail the first N."
)
@click.option(
    "--fail-rate",
    type=options.Seconds(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Fail this share of them, by chance.",
)
@click.option(
    "--fail-status",
    type=_STATUS,
    default=503,
    show_default=True,
    metavar="STATUS",
    help="What failing ones are answered with.",
)
@click.option("--hang", is_flag=True, help="Leave failing ones, or all, without an answer.")
@click.option(
    "--behave",
    metavar="NAME",
    help="Do this to failing ones, or to all; 'help' lists what there is.",
)
@click.option(
    "--delay", type=options.Seconds(0), default=0.0, metavar="SECONDS", help="Answer late."
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N deliveries.")
@click.option("-v", "--verbose", is_flag=True, help="Show headers and bodies too.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    host: str,
    port: int,
    secrets: tuple[str, ...],
    profile: SignatureProfile,
    status: int,
    fail_first: int,
    fail_rate: float,
    fail_status: int,
    delay: float,
    hang: bool,
    behave: str | None,
    count: int | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Receive deliveries, verify and print them; fail on demand.

    Ends with a summary, on Ctrl-C or after --count. With --json it prints an object a line: first
    {"listening": URL}, then one for each delivery, last {"summary": ...}.
    """
    if behave == "help":
        for name, fault in FAULTS.items():
            click.echo(f"{name:<20} {fault.about}")
        return
    if behave is not None and behave not in FAULTS:
        raise click.BadParameter(
            f"there is no behaviour {behave!r}; --behave help lists them", param_hint="--behave"
        )
    if behave is not None and hang:
        raise click.UsageError("--hang is --behave hang; give one of the two")
    if behave is not None and secrets and FAULTS[behave].kind == "http2":
        raise click.UsageError(
            f"--behave {behave} is one of HTTP/2, whose fields are not read, the signature neither; "
            "leave --secret out"
        )
    behaviour = Behaviour(
        status=status,
        fail_first=fail_first,
        fail_rate=fail_rate,
        fail_status=fail_status,
        delay_s=delay,
        fault="hang" if hang else behave,
    )
    printer = Printer(count, delay + ANSWER_S, verbose=verbose, as_json=as_json)
    receiver = Receiver(
        host,
        port,
        secrets=secrets,
        profile=profile,
        behaviour=behaviour,
        on_delivery=printer.receive,
    )
    ended_by = asyncio.run(_serve(receiver, printer, bool(secrets)))
    ctx.exit(ExitCode.INTERRUPTED if ended_by is signal.SIGINT else ExitCode.OK)


async def _serve(receiver: Receiver, printer: Printer, verifies: bool) -> signal.Signals | None:
    """Serve until the end; return the signal that ended it, if one did."""
    loop = asyncio.get_running_loop()
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        printer.ended.set()

    for ending in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(ending, end, ending)
    await receiver.start()
    printer.begin(receiver.url, verifies)
    await printer.ended.wait()
    await receiver.stop()
    if printer.error is not None:
        raise printer.error
    printer.summarize()
    return came[0] if came else None
