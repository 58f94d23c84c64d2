"""`fluxhook admin`: the admin API by itself."""

from __future__ import annotations

import contextlib
import os
import signal
from importlib.util import find_spec

import click
from msgspec.structs import replace

from fluxhook.cli import options
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from fluxhook.cli.output import print_notice
from fluxhook.cli.remote import announced
from fluxhook.config.check import unencrypted
from fluxhook.stats import is_running
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.process import name_process
from fluxhook.transport.snapshot import Snapshot

__all__ = ["command"]


@click.command()
@options.data_dir
@click.option(
    "--listen", metavar="HOST:PORT", help="Instead of admin.listen; port 0 takes a free one."
)
@click.pass_context
def command(ctx: click.Context, data_dir: str, listen: str | None) -> None:
    """Run the admin API beside an engine that runs elsewhere.

    `fluxhook serve` has one of its own; this is for an engine that another program embeds. It listens
    where that one's configuration says (admin.listen), and ends with Ctrl-C or SIGTERM; the engine
    goes on.
    """
    if find_spec("litestar") is None or find_spec("uvicorn") is None:
        raise Failure(
            "the admin API needs packages that are not installed",
            remedy="pip install 'fluxhook[admin]'",
        )
    from fluxhook.admin.server import serve

    datadir = DataDir(data_dir)
    where = str(datadir.path)
    admin = Snapshot.load(datadir).config.admin  # says it if no engine was ever started
    if (other := announced(datadir)) is not None:
        raise Failure(
            f"the admin API of {where} runs already, at {other.url}",
            ExitCode.CONFLICT,
            remedy="use that one, or end it first",
        )
    if not is_running(datadir):
        print_notice(f"no engine runs on {where}: there is much to look at, and nothing to change")
    if listen is not None:
        admin = replace(admin, listen=listen)
    with contextlib.suppress(ValueError):  # `serve` says that it is no address
        if said := unencrypted(admin):
            print_notice(said)
    name_process("admin", where)
    told_read, told_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    interrupted = False

    def end(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        os.write(told_write, b"d")

    signal.signal(signal.SIGINT, end)
    try:
        serve(where, told_read, listen=listen)
    finally:
        os.close(told_read)
        os.close(told_write)
    ctx.exit(ExitCode.INTERRUPTED if interrupted else ExitCode.OK)
