"""`fluxhook demo`: an engine, three receivers, events of both catalogs, and the account at the end."""

from __future__ import annotations

import contextlib
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from fluxhook.cli import options
from fluxhook.cli.demo_account import Result, judge, print_account, print_measures
from fluxhook.cli.demo_load import HANGING, HEALTHY, NAMES, RECOVERING, DemoLoad, configuration
from fluxhook.cli.demo_receiver import ReceiverProcess
from fluxhook.cli.demo_view import View
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.output import number, out, print_json
from fluxhook.engine import Engine
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats

__all__ = ["command"]

#: the failing receiver recovers at this share of the steady phase
RECOVERY = 0.4
#: events that wait for the workers to start
WARM = 8
#: how long these, and the burst, may take to be delivered
SETTLE_S = 18.0
#: between two rounds of steady emitting
PACE_S = 0.002


@click.command()
@click.option(
    "--seconds",
    type=options.Seconds(1, 3600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to emit steadily.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    metavar="N",
    help="Events a second meanwhile.",
)
@click.option(
    "--burst",
    type=click.IntRange(1, 40_000),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Events of the burst that follows.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep the engine's state there; by default it is temporary.",
)
@options.as_json
@click.pass_context
def command(
    ctx: click.Context, seconds: float, rate: int, burst: int, data_dir: str | None, as_json: bool
) -> None:
    """See the whole of it at work, in half a minute.

    Starts an engine and three receivers: one healthy, one that fails for a while, one that never
    answers. Emits events of a gateway and a broker, first steadily, then in a burst; ends by itself
    with the account of every event. Needs no network but 127.0.0.1.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = out()
    with contextlib.ExitStack() as stack:
        if data_dir is None:
            data_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxhook-demo-"))
        elif Path(data_dir).exists() and any(Path(data_dir).iterdir()):
            raise click.UsageError(f"{data_dir} is not empty.")
        result = _run(data_dir, seconds, rate, burst, View(console, quiet=as_json))
    if as_json:
        print_json(result)
    else:
        print_account(console, result)
        print_measures(console, result)
    ctx.exit(ExitCode.OK if result.ok else ExitCode.FAILURE)


def _run(data_dir: str, seconds: float, rate: int, burst: int, view: View) -> Result:
    started = time.monotonic()
    secret = secrets.token_hex(16)
    with _receivers(secret) as receivers:
        config = configuration({name: r.url for name, r in receivers.items()}, secret)
        receivers[RECOVERING].behave(Behaviour(status=503))
        receivers[HANGING].behave(Behaviour(fault="hang"))
        view.begin(data_dir)
        with Engine(config, data_dir) as engine, view:
            load = DemoLoad(engine)
            _drive(engine, load, receivers, seconds, rate, burst, view)
        stats = read_stats(data_dir)
        reports = {name: receiver.stop() for name, receiver in receivers.items()}
    return judge(time.monotonic() - started, load, stats, reports)


@contextlib.contextmanager
def _receivers(secret: str) -> Iterator[dict[str, ReceiverProcess]]:
    receivers: dict[str, ReceiverProcess] = {}
    try:
        for name in NAMES:
            receivers[name] = ReceiverProcess(secret)
        yield receivers
    finally:
        for receiver in receivers.values():
            receiver.kill()


def _drive(
    engine: Engine,
    load: DemoLoad,
    receivers: dict[str, ReceiverProcess],
    seconds: float,
    rate: int,
    burst: int,
    view: View,
) -> None:
    """Run the whole demo: steady, burst, and until all is delivered that can be."""

    def show(phase: str, share: float) -> None:
        if view.due:
            reports = {name: receiver.report() for name, receiver in receivers.items()}
            view.show(phase, share, len(load.calls_ns), engine.stats(), reports)

    load.emit("warm", WARM)
    give_up_at = time.monotonic() + SETTLE_S
    while engine.stats().endpoint(HEALTHY).pending and time.monotonic() < give_up_at:
        time.sleep(0.02)
    began = time.monotonic()
    failing = True
    while (elapsed := time.monotonic() - began) < seconds:
        if failing and elapsed >= RECOVERY * seconds:
            receivers[RECOVERING].behave(Behaviour())
            failing = False
        load.emit("steady", WARM + int(elapsed * rate) - len(load.calls_ns))
        phase = f"steady, {RECOVERING} {'fails' if failing else 'is well again'}, {HANGING} hangs"
        show(phase, 0.9 * elapsed / seconds)
        time.sleep(PACE_S)
    load.emit("burst", burst)
    give_up_at = time.monotonic() + SETTLE_S
    while time.monotonic() < give_up_at:
        stats = engine.stats()
        if not stats.endpoint(HEALTHY).pending and not stats.endpoint(RECOVERING).pending:
            return
        show(f"burst of {number(burst)} events", 0.95)
        time.sleep(0.05)
