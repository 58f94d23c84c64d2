"""`fluxhook bench`: what an engine of this installation does on this machine."""

from __future__ import annotations

import contextlib
import signal
import tempfile

import click

from fluxhook.cli import options
from fluxhook.cli.bench_load import Result, configuration, measure
from fluxhook.cli.bench_receiver import BenchReceiver
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.output import err, facts, number, out, plural, print_json
from fluxhook.config.workers import processes
from fluxhook.engine import Engine

__all__ = ["command"]

LOOPBACK = ("127.0.0.0/8",)


@click.command()
@click.option(
    "--url",
    metavar="URL",
    help="Deliver there, to a receiver of your own; by default to one that comes with it.",
)
@click.option(
    "--endpoints",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="Share the events among so many endpoints.",
)
@click.option(
    "--payload",
    type=click.IntRange(0, 200_000),
    default=256,
    show_default=True,
    metavar="BYTES",
    help="Text in each event's data; the envelope comes on top.",
)
@click.option(
    "--seconds",
    type=options.Seconds(0.5, 300),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to emit as fast as events are taken.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Worker processes; by default as many as a configuration gets that does not say.",
)
@options.allow_network
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    url: str | None,
    endpoints: int,
    payload: int,
    seconds: float,
    workers: int | None,
    allow_networks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure throughput, CPU and latency on this machine.

    Starts an engine in a temporary directory and a receiver on 127.0.0.1, which share this machine's
    cores with the emitting program; the receiver's CPU is not counted. Emits at an easy rate, for the
    latency, then as fast as events are taken. Ends with status 1 if an accepted event was lost.

    With --url the load goes there: only to a receiver that you may put under full load.
    """
    if workers is not None and workers > processes(workers):
        raise click.BadParameter(
            f"{workers} is more than the {processes(workers)} that an engine has on this machine.",
            param_hint="--workers",
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxhook-bench-"))
        receiver = None
        if url is None:
            receiver = stack.enter_context(contextlib.closing(BenchReceiver()))
            url, allow_networks = receiver.url, LOOPBACK
        config = configuration(url, endpoints, workers, allow_networks)
        engine = stack.enter_context(Engine(config, folder))
        if not as_json:
            err().print(f"emitting for {seconds:g} s ...", style="dim")
        result = measure(engine, seconds, endpoints, payload, receiver)
    if as_json:
        print_json(result)
    else:
        _print(result, receiver is None)
    ctx.exit(ExitCode.FAILURE if result.lost > 0 else ExitCode.OK)


def _us(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} us"


def _print(result: Result, to_url: bool) -> None:
    latency = ", ".join(f"{name} {value:.2f} ms" for name, value in result.latency_ms.items())
    of = "of requests, under the load" if to_url else "from emit to receiver, at an easy rate"
    account = f"{number(result.accepted)} accepted, {number(result.delivered)} delivered"
    left = (("dead", result.dead), ("dropped", result.dropped), ("pending", result.pending))
    for name, n in left:
        account += f", {number(n)} {name}" if n else ""
    if result.failed_attempts:
        account += f"; {plural(result.failed_attempts, 'failed attempt')}"
    duplicates = "" if result.duplicates is None else f", {number(result.duplicates)} duplicates"
    out().print(
        facts(
            {
                "throughput": f"{number(result.events_per_s)} events/s, "
                f"{plural(result.workers, 'worker')}, {plural(result.endpoints, 'endpoint')}, "
                f"{plural(result.payload_bytes, 'byte')} of data",
                "CPU": f"{_us(result.emit_cpu_us)} in emit for each event accepted, "
                f"{_us(result.engine_cpu_us)} in the engine for each delivered",
                "latency": f"{latency} ({of})" if latency else "none was delivered",
                "account": account,
                "lost": f"{number(result.lost)}{duplicates}",
            }
        )
    )
