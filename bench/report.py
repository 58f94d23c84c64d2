"""RESULTS.md: what a run measured, as tables. Pure: the result of a run in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import model
from bench.contenders import LABELS
from bench.targets import judge

__all__ = ["line", "render", "tables"]

Row = Mapping[str, Any]

CAVEATS = """\
- The receiver is on the same machine and answers at once: connections and latency of a real network
  are not in these figures.
- On two cores "events delivered" is what one core does, emitting included: hosts, engine and
  contenders share the core that the receiver does not have.
- Figures are those of this machine at that hour; ratios are taken within a repeat, where all took
  turns, and carry over better. A row whose spread is above the criterion says so.
- `emit` latency is the time from one accepted emit to the next, the clock's reading included (about
  0.05 us), in a host that shares its core with a busy worker: the tail is the scheduler's.
- The engine's CPU is that of publishers, workers, supervisor and scheduler; a contender's that of its
  process. wrk sends one fixed request and does not compute an HMAC.
- The notifier is a Go program of our own, made after what FluxMQ's does, and not FluxMQ. It computes no
  HMAC, and its requests in flight are as many as its workers: see README.md.
- The host rows: load generator and receiver share a core, with the engine's workers too if there are
  two cores and the row does not say otherwise; what they take from each other is in the client's
  figures, and not in those from inside the host.
- nginx counts requests and does not look into them; that the events were the right ones is compared
  id by id at the slow receiver, in batches, and by the tests.
- A failing row's retries are held back until all are due, so that "store to delivered" is a rate and
  not a clock. Its events fail with 503, since nginx ends the connection after a 500.
- Memory is without mapped files, which are mostly the 64 MiB of rings; the tables have both.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; the first column to the left, all others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float | None, digits: int | None = None) -> str:
    """Return as many digits as mean something."""
    if value is None:
        return ""
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def figure(row: Row, name: str) -> float | None:
    """Return the median over the repeats."""
    entry = row["summary"].get(name)
    return None if entry is None else float(entry["median"])


def cell(row: Row, name: str, digits: int | None = None) -> str:
    return number(figure(row, name), digits)


def spread(row: Row) -> str:
    """Return the spread in percent, and a mark where the repeats did not agree."""
    if row["spread"] is None:
        return "one run"
    return f"{row['spread']:.0%}{'' if row['steady'] else ' **unsteady**'}"


def line(row: Row) -> str:
    """Return a row's outcome while the others still run."""
    names = {
        "Deliveries": ("engine.rate", "engine.cpu", "ratio.engine", "engine.emit.p50"),
        "Failures": ("engine.rate", "engine.retry.rate"),
        "Aggregated": ("engine.rate", "engine.scheduler"),
        "Idle": ("p50", "p99"),
        "Ingest": ("without.arrived.p99", "with.arrived.p99", "arrived.p99", "ingested"),
        "HostImpact": ("without.p99", "with.p99", "ratio.p99"),
        "Memory": ("worker.own", "worker.growth"),
        "Connections": ("connection",),
        "Matching": ("10", "10000"),
        "SystemCalls": ("calls",),
    }[row["experiment"]]
    figures = "  ".join(f"{name} {cell(row, name)}" for name in names if name in row["summary"])
    repeats = f"{len(row['runs'])} x n={row['n']:,}, spread {spread(row)}, losses {row['losses']}"
    return f"{row['name']:<16}{figures}  ({repeats}, {row['seconds']:.1f} s)"


def _of(rows: Iterable[Row], *experiments: str) -> list[Row]:
    return [row for row in rows if row["experiment"] in experiments]


def _count(row: Row) -> str:
    return f"{len(row['runs'])} x {row['n']:,}"


def contenders(row: Row) -> str:
    """Return all that sent the same, the fastest first."""
    lines = []
    present = [name for name in row["contenders"] if f"{name}.rate" in row["summary"]]
    ours = figure(row, "engine.cpu") or 1.0
    for name in sorted(present, key=lambda name: -(figure(row, f"{name}.rate") or 0)):
        rate = row["summary"][f"{name}.rate"]
        lost = sum(
            run.get(f"{name}.lost", 0) + run.get(f"{name}.surplus", 0) for run in row["runs"]
        )
        lines.append(
            [
                f"**{LABELS[name]}**" if name == "engine" else LABELS[name],
                number(rate["median"]),
                f"{number(rate['least'])} - {number(rate['greatest'])}",
                cell(row, f"{name}.cpu"),
                number((figure(row, f"{name}.cpu") or 0.0) / ours),
                f"{rate['spread']:.0%}",
                number(lost) if name != "wrk" else "",
            ]
        )
    lines += [[LABELS[name], why, "", "", "", "", ""] for name, why in row["absent"].items()]
    head = ("sender", "requests/s", "least - greatest", "CPU us", "CPU / ours", "spread", "losses")
    about = f"{row['payload']}-byte bodies, {row['protocol']}, {row['in_flight']} in flight."
    return f"{row['topology']}, {about}\n\n{table(head, lines)}"


def deliveries(rows: Sequence[Row]) -> str:
    head = (
        "row",
        "P x W x E",
        "bytes",
        "answer",
        "in flight",
        "durability",
        "n",
        "events/s",
        "CPU us",
        "of it worker",
        "bare loop",
        "worker / bare",
        "engine / bare",
        "emit p50",
        "p99",
        "spread",
        "losses",
    )
    lines = [
        [
            f"{row['title']} ({row['protocol']})"
            if row["protocol"] != "HTTP/1.1"
            else row["title"],
            row["topology"],
            number(row["payload"], 0),
            row["answer"],
            str(row["in_flight"]),
            row["durability"],
            _count(row),
            cell(row, "engine.rate", 0),
            cell(row, "engine.cpu"),
            cell(row, "engine.worker"),
            cell(row, "bare.cpu"),
            cell(row, "ratio.worker", 2),
            cell(row, "ratio.engine", 2),
            cell(row, "engine.emit.p50"),
            cell(row, "engine.emit.p99"),
            spread(row),
            str(row["losses"]),
        ]
        for row in rows
    ]
    return table(head, lines)


def failures(row: Row) -> str:
    cpu = "host {}, worker {}, scheduler {} us".format(
        *(cell(row, f"engine.{part}") for part in ("host", "worker", "scheduler"))
    )
    again = "worker {}, scheduler {} us".format(
        *(cell(row, f"engine.retry.{part}") for part in ("worker", "scheduler"))
    )
    lines = [
        ["fail, into the store", cell(row, "engine.rate", 0), cpu],
        ["store to delivered", cell(row, "engine.retry.rate", 0), again],
    ]
    head = ("every event 503 once, then 204", "events/s", "CPU of an event")
    return (
        f"{table(head, lines)}\n\n{row['topology']}, {row['payload']}-byte bodies, durability "
        f"{row['durability']}; n = {_count(row)}; {cell(row, 'engine.attempts', 2)} attempts an "
        f"event; the store takes {cell(row, 'engine.stored_bytes', 0)} bytes an event; spread "
        f"{spread(row)}; losses {row['losses']}."
    )


def aggregated(row: Row) -> str:
    parts = ("host", "worker", "scheduler")
    head = ("every event into a window", "events/s", *(f"{part}, CPU us" for part in parts))
    cells = [cell(row, f"engine.{part}") for part in parts]
    lines = [["emit to counted in the store", cell(row, "engine.rate", 0), *cells]]
    return (
        f"{table(head, lines)}\n\n{row['topology']}, {row['payload']}-byte bodies, durability "
        f"{row['durability']}; n = {_count(row)}; spread {spread(row)}; losses {row['losses']}."
    )


def idle(row: Row) -> str:
    lines = [["emit to first byte, us", cell(row, "p50"), cell(row, "p99"), spread(row)]]
    head = ("idle engine, one event at a time", "p50", "p99", "spread of p50")
    return f"{table(head, lines)}\n\nn = {_count(row)}."


def ingest(row: Row) -> str:
    shares = ("arrived.p50", "arrived.p99", "read.p50", "read.p99")
    lines = [
        [f"{side} ingest", *(cell(row, f"{side}.{share}") for share in shares)]
        for side in ("without", "with")
    ]
    lines.append(["with / without, within a repeat", *(cell(row, share, 2) for share in shares)])
    lines.append(
        [
            "spread without ingest",
            *(f"{row['summary'][f'without.{share}']['spread']:.0%}" for share in shares),
        ]
    )
    head = ("emit to first byte, us", "arrived, p50", "p99", "read, p50", "p99")
    return (
        f"{table(head, lines)}\n\nOne event at a time, n = {_count(row)}. Arrived: the receiver's "
        "system has it. Read: its program has it, which shares a core with the clients. "
        f"{cell(row, 'ingested', 0)} events a second came by way of `POST /v1/events` meanwhile, one a "
        "request, and were delivered to another endpoint."
    )


def host(rows: Sequence[Row]) -> str:
    lines = []
    shares = ("p50", "p99", "p99.9")
    for row in rows:
        for side in ("without", "with"):
            ours = side == "with"
            lines.append(
                [
                    f"{row['title']}, {side} Fluxhook",
                    cell(row, f"{side}.rate", 0),
                    *(cell(row, f"{side}.{share}", 0) for share in shares),
                    *(cell(row, f"{side}.inside.{share}", 0) for share in shares),
                    spread(row) if ours else "",
                    _count(row),
                    str(row["losses"]) if ours else "",
                ]
            )
        ratios = [cell(row, f"ratio.{share}", 2) for share in shares]
        inside = [cell(row, f"ratio.inside.{share}", 2) for share in shares]
        lines.append(["with / without, within a repeat", "", *ratios, *inside, "", "", ""])
    percentiles = [f"{share} {where}us" for where in ("", "inside, ") for share in shares]
    head = ("load", "requests/s", *percentiles, "spread of p99", "n", "losses")
    return (
        f"{table(head, lines)}\n\n`inside` is measured in the application, from its call to the end "
        "of its last `send`; the others by the client, from when a request was due."
    )


def memory(rows: Sequence[Row]) -> str:
    parts = []
    for row in _of(rows, "Memory"):
        lines = []
        for role in ("host", "worker", "scheduler"):
            taken = row["series"].get("memory_mb", {}).get(role)
            if not taken:
                continue
            own = [sample[2] for sample in taken]
            quarter = [own[len(own) * part // 4] for part in range(4)]
            lines.append(
                [
                    "supervisor and scheduler" if role == "scheduler" else role,
                    cell(row, f"{role}.rss", 1),
                    *(number(mb, 1) for mb in (*quarter, own[-1])),
                    f"{own[-1] - own[len(own) // 4]:+.2f}",
                ]
            )
        head = ("process, MB", "resident", "own at the start", "1/4", "1/2", "3/4", "end", "growth")
        parts.append(
            f"{table(head, lines)}\n\nn = {row['n']:,} events; `resident` has mapped files in it, "
            f"`own` has not; growth of `own` since the first quarter; losses {row['losses']}."
        )
    lines = [
        [
            row["title"],
            cell(row, "one", 1),
            cell(row, "many", 1),
            cell(row, "opened", 0),
            cell(row, "connection", 1),
            str(row["losses"]),
        ]
        for row in _of(rows, "Connections")
    ]
    if lines:
        columns = ("worker", "own with 1, MB", "own with all, MB", "opened", "kB each", "losses")
        parts.append(table(columns, lines))
    return "\n\n".join(parts)


def small(rows: Sequence[Row]) -> str:
    parts = []
    for row in _of(rows, "Matching"):
        sizes = [name for name in row["summary"] if name.isdigit()]
        head = ("match, us, one filter of N matches", *(number(float(n), 0) for n in sizes))
        parts.append(table(head, [[f"n = {_count(row)}", *(cell(row, n) for n in sizes)]]))
    for row in _of(rows, "SystemCalls"):
        said = row["absent"].get("engine")
        count = said or f"{cell(row, 'calls', 2)} a delivery, n = {_count(row)}"
        parts.append(f"System calls of the worker: {count}.")
    return "\n\n".join(parts)


def targets(rows: Sequence[Row]) -> str:
    lines = []
    for verdict in judge({row["name"]: row for row in rows}):
        target = verdict.target
        sign = "<=" if target.at_most else ">="
        bound = f"{sign} {number(target.bound, None if target.bound % 1 else 0)} {target.unit}"
        measured = "" if verdict.figure is None else f"{number(verdict.figure)} {target.unit}"
        answer = f"**{verdict.answer}**" if verdict.answer == "no" else verdict.answer
        lines.append([target.title, bound.strip(), measured.strip(), answer])
    return table(("target", "bound", "measured", "met"), lines)


def losing(rows: Sequence[Row]) -> str:
    """Say who is ahead of us, and where; and which targets we miss."""
    ahead: dict[str, list[str]] = {}
    for row in _of(rows, "Deliveries"):
        for name in row["contenders"]:
            other, ours = figure(row, f"{name}.rate"), figure(row, "engine.rate")
            if name != "engine" and other and ours and other > ours:
                ahead.setdefault(name, []).append(f"{row['title']} {other / ours:.2f} times")
    lines = [
        f"- {LABELS[name]} sends more requests a second than we do: {', '.join(where)}"
        for name, where in ahead.items()
    ]
    lines += [
        f"- target missed: {verdict.target.title}"
        for verdict in judge({row["name"]: row for row in rows})
        if verdict.answer == "no"
    ]
    return "\n".join(lines) or "Nothing in this run."


def cost_model(rows: Sequence[Row]) -> str:
    by_name = {row["name"]: row for row in rows}
    costs = model.costs(by_name)
    if costs is None:
        return f"Not in this run: it needs the rows {model.BASE} and {model.LARGE}."
    checks = [
        [
            check.row,
            number(1e6 / check.predicted_us, 0),
            number(1e6 / check.measured_us, 0),
            f"{-check.error / (1 + check.error):+.0%}",
        ]
        for check in model.check(costs, by_name)
    ]
    loads = [
        (10_000, 600, 100, 0.0),
        (50_000, 600, 500, 0.01),
        (100_000, 2_000, 1_000, 0.01),
        (200_000, 600, 1_000, 0.0),
    ]
    needs = []
    for rate, payload, connections, failing in loads:
        found = model.need(costs, rate, payload, connections, failing)
        needs.append(
            [
                f"{rate:,}/s of {payload:,} bytes, {failing:.0%} failing",
                number(found.cores, 1),
                str(found.cores_to_have),
                number(found.memory_mb, 0),
                number(found.store_mb_per_hour, 0),
            ]
        )
    head = ("load", "cores busy", f"to have ({model.UTILIZATION:.0%})", "workers MB", "store MB/h")
    return (
        f"A delivery costs {costs.delivery_us:.1f} us and {1024 * costs.byte_us:.2f} us for each "
        f"KiB of its body; a failure {costs.failure_us:.0f} us more and {costs.stored_bytes:.0f} "
        f"bytes until it is purged; a connection {costs.connection_kb:.0f} kB. Made from the rows "
        f"{model.BASE} and {model.LARGE}, and compared with rows that it was not made from:\n\n"
        + table(("row", "deliveries/s a core, predicted", "measured", "off by"), checks)
        + "\n\n"
        + table(head, needs)
    )


def tables(result: Mapping[str, Any]) -> str:
    """Return everything that was measured, without the header."""
    rows: list[Row] = result["rows"]
    sections: list[tuple[str, str]] = []
    main = next((row for row in rows if row["name"] == "main"), None)
    if main:
        sections.append(("Contenders, one core for each in turn", contenders(main)))
    if found := _of(rows, "Deliveries"):
        sections.append(("Deliveries; CPU and latency in microseconds", deliveries(found)))
    if found := _of(rows, "Failures"):
        sections.append(("Failing events, by way of the store", failures(found[0])))
    if found := _of(rows, "Aggregated"):
        sections.append(("Aggregated events", aggregated(found[0])))
    if found := _of(rows, "Idle"):
        sections.append(("Latency of an idle engine", idle(found[0])))
    if found := _of(rows, "Ingest"):
        sections.append(("The API under load beside it", ingest(found[0])))
    if found := _of(rows, "HostImpact"):
        sections.append(("A host under load, with and without", host(found)))
    if found := _of(rows, "Memory", "Connections"):
        sections.append(("Memory", memory(rows)))
    if found := _of(rows, "Matching", "SystemCalls"):
        sections.append(("Small things", small(rows)))
    sections.append(("Targets", targets(rows)))
    sections.append(("What we lose", losing(rows)))
    sections.append(("Cost model", cost_model(rows)))
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)


def render(result: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """Return the whole file."""
    criterion = result["criterion"]
    header = [[name, value] for name, value in result["machine"].items()]
    header += [["cores", result["cores"]], ["command", f"`{result['command']}`"]]
    losses = sum(row["losses"] for row in result["rows"])
    unsteady = [row["name"] for row in result["rows"] if row["steady"] is False]
    words = [
        "# Results",
        "Written by `python -m bench`; do not edit. How it measures: [README.md](README.md).",
        table(("", ""), header).replace("| ---: |", "| --- |"),
        f"It took {result['seconds']:.0f} s. Figures are medians of the repeats; n is events in a "
        f"repeat"
        + (f" ({result['scale']:.0%} of the usual)" if result["scale"] < 1 else "")
        + f". A row is repeated at least {criterion['repeats']} times and until the middle half of "
        f"its repeats lies within {criterion['spread']:.0%} of their median (`spread`: IQR / "
        "median; of engine / bare loop where nothing else is said), or its time is used up; then it "
        "is marked. "
        + (f"Unsteady: {', '.join(unsteady)}." if unsteady else "All rows are steady."),
        f"Every row compares accepted = delivered = what the receiver counted. Losses: {losses}.",
        tables(result),
    ]
    if plots:
        images = "\n".join(f"![{title}](plots/{name})" for name, title in plots.items())
        words.append(f"## Charts\n\n{images}")
    words.append(f"## Caveats\n\n{CAVEATS.rstrip()}")
    return "\n\n".join(words) + "\n"
