"""The account at the end of the demo: three counts held against each other, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fluxhook.cli.demo_load import HEALTHY, NAMES, DemoLoad
from fluxhook.cli.demo_receiver import Report, percentiles
from fluxhook.cli.output import number
from fluxhook.stats import EndpointStats, Stats

__all__ = ["Account", "Result", "judge", "print_account", "print_measures"]


class Account(msgspec.Struct):
    """One endpoint at the end. `emitted` is what the demo counted as it emitted, `received` what
    the receiver counted as it answered with success; the rest is the engine's own."""

    endpoint: str
    emitted: int
    accepted: int
    delivered: int
    dead: int
    dropped: int
    pending: int
    refused: int
    failed_attempts: int
    received: int
    requests: int
    bad_signatures: int
    faults: list[str]


class Result(msgspec.Struct):
    """What --json prints. Latencies of `emit` are in microseconds, from emit to the receiver in
    milliseconds; the rate is of the healthy receiver in the burst."""

    ok: bool
    seconds: float
    events: int
    endpoints: list[Account]
    emit_us: dict[str, float]
    delivery_ms: dict[str, dict[str, float]]
    burst_events: int
    burst_deliveries_per_s: float


def judge(seconds: float, load: DemoLoad, stats: Stats, reports: Mapping[str, Report]) -> Result:
    accounts = [
        _account(load.expected[name], stats.endpoint(name), reports[name]) for name in NAMES
    ]
    timings = reports[HEALTHY].timings
    rate, burst_events = 0.0, 0
    if burst := timings.get("burst"):
        burst_events = burst.events
        rate = burst.events / (burst.last_arrived_ns - burst.first_emitted_ns) * 1e9
    return Result(
        ok=not any(account.faults for account in accounts),
        seconds=seconds,
        events=len(load.calls_ns),
        endpoints=accounts,
        emit_us={name: ns / 1000 for name, ns in percentiles(load.calls_ns).items()},
        delivery_ms={p: timings[p].latency_ms for p in ("steady", "burst") if p in timings},
        burst_events=burst_events,
        burst_deliveries_per_s=rate,
    )


def _account(emitted: int, e: EndpointStats, report: Report) -> Account:
    """Hold the three counts against each other: the demo's, the engine's, the receiver's."""
    faults = []
    if e.balance:
        faults.append(f"{e.balance} accepted events are not accounted for")
    if emitted != e.accepted + e.refused:
        faults.append(f"{emitted} were emitted, {e.accepted} accepted and {e.refused} refused")
    if report.accepted_events < e.delivered:
        faults.append(f"{e.delivered} are counted as delivered, {report.accepted_events} arrived")
    if report.bad_signatures:
        faults.append(f"{report.bad_signatures} signatures were wrong")
    if e.name == HEALTHY and report.accepted_events != emitted:
        faults.append(f"{report.accepted_events} of {emitted} arrived")
    return Account(
        endpoint=e.name,
        emitted=emitted,
        accepted=e.accepted,
        delivered=e.delivered,
        dead=e.dead,
        dropped=sum(e.dropped.values()),
        pending=e.pending,
        refused=e.refused,
        failed_attempts=e.failed_attempts,
        received=report.accepted_events,
        requests=report.requests,
        bad_signatures=report.bad_signatures,
        faults=faults,
    )


def print_account(console: Console, result: Result) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("endpoint")
    for column in ("accepted", "= delivered", "+ dead", "+ dropped", "+ pending"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.add_column("at the receiver", style="dim", justify="right")
    for a in result.endpoints:
        table.add_row(
            a.endpoint,
            *map(number, (a.accepted, a.delivered, a.dead, a.dropped, a.pending)),
            Text("✗", style="bold red") if a.faults else Text("✓", style="bold green"),
            f"{number(a.received)} in {number(a.requests)} requests",
        )
    console.print(table)
    for a in result.endpoints:
        for fault in a.faults:
            console.print(f"✗ {a.endpoint}: {fault}", style="bold red", soft_wrap=True)


def print_measures(console: Console, result: Result) -> None:
    def ms(phase: str) -> str:
        figures = result.delivery_ms.get(phase, {})
        return ", ".join(
            f"{name} {ms / 1000:.1f} s" if ms >= 1000 else f"{name} {ms:.3g} ms"
            for name, ms in figures.items()
        )

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "emit",
        f"{number(result.events)} calls, "
        + ", ".join(f"{name} {us:,.1f} µs" for name, us in result.emit_us.items()),
    )
    table.add_row("steady", f"from emit to the healthy receiver: {ms('steady')}")
    table.add_row(
        "burst",
        f"{number(result.burst_events)} events at {number(result.burst_deliveries_per_s)} "
        f"deliveries/s to the healthy receiver: {ms('burst')}",
    )
    requests = sum(account.requests for account in result.endpoints)
    wrong = sum(account.bad_signatures for account in result.endpoints)
    table.add_row("signed", f"{number(requests)} requests, {number(wrong)} with a bad signature")
    console.print()
    console.print(table)
    console.print(f"\n{'All is accounted for' if result.ok else 'Something is wrong'}", end="")
    console.print(f", after {result.seconds:.0f} s.")
