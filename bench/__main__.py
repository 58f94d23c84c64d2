"""The engine end to end, beside other ways to send the same requests, in one run.

    python -m bench                              all rows, about three and a half minutes; RESULTS.md
    python -m bench --only main,tls              some of them
    python -m bench --budget 30 --only main      quickly: fewer events and repeats
    python -m bench --versions                   the machine and the versions, nothing else

Ends with status 1 if an event was lost, or a receiver counted other requests than were made; with 2
if something is missing.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import report, runner
from bench.charts import draw
from bench.experiments import Scene
from bench.machine import ROOT, Cores, describe, pin
from bench.measure import MAX_SPREAD, MIN_REPEATS
from bench.receiver import Missing, Nginx
from bench.rows import Row, rows

RESULTS = ROOT / "bench" / "RESULTS.md"


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    try:
        result = _measure(options)
    except Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        sys.exit(2)
    if result is None:
        return
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.results:
        plots = draw(result, options.results.parent / "plots")
        options.results.write_text(report.render(result, plots))
        print(f"\nwritten: {options.results}")
    else:
        print("\n" + report.tables(result))
    if any(row["losses"] for row in result["rows"]):
        print("BOOKS DO NOT BALANCE: see the column of losses", file=sys.stderr)
        sys.exit(1)


def _measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """Measure the rows; return None if only the versions were asked for."""
    chosen: list[Row] = options.only
    cores = Cores.divide()
    directory = Path(tempfile.mkdtemp(prefix="fluxhook-bench-nginx-"))
    pin(0, cores.receiver)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        hosts = max(row.load.endpoints for row in chosen)
        nginx = stack.enter_context(Nginx(directory, hosts))
        machine = describe(nginx.version, directory)
        for name, value in (machine | {"cores": str(cores)}).items():
            print(f"{name:<10} {value}")
        if options.versions:
            return None
        print(flush=True)
        scale = min(1.0, options.budget / runner.NOMINAL_S) if options.budget else 1.0
        scene = Scene(cores, nginx, directory, scale)
        begun = time.monotonic()
        outcomes = []
        weights = [row.weight for row in chosen]
        budget_s = options.budget or runner.NOMINAL_S
        for row, share in zip(chosen, runner.shares(weights, budget_s), strict=True):
            share_s = share(time.monotonic() - begun)
            outcomes.append(runner.run(row, scene, share_s, options.repeat))
            print(report.line(outcomes[-1]), flush=True)
        return {
            "machine": machine,
            "cores": str(cores),
            "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
            "seconds": time.monotonic() - begun,
            "criterion": {"spread": MAX_SPREAD, "repeats": options.repeat},
            "scale": scale,
            "rows": outcomes,
        }


def _options() -> argparse.Namespace:
    known = {row.name: row for row in rows()}
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="rows: " + ", ".join(known),
    )
    parser.add_argument("--only", metavar="ROW,...", help="some rows; RESULTS.md stays as it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything measured, as JSON")
    parser.add_argument(
        "--results", type=Path, metavar="FILE", help="where to write the tables (bench/RESULTS.md)"
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help=f"about how long it may take ({runner.NOMINAL_S:g}); less time means fewer events",
    )
    parser.add_argument(
        "--repeat", type=int, default=MIN_REPEATS, metavar="N", help="at least so often (3)"
    )
    parser.add_argument(
        "--versions", action="store_true", help="print machine and versions, and end"
    )
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat is at least 1")
    if options.budget is not None and options.budget <= 0:
        parser.error("--budget is more than 0")
    names = options.only.split(",") if options.only else list(known)
    for name in names:
        if name not in known:
            parser.error(f"--only: there is no row {name!r}; choose from {', '.join(known)}")
    if options.only is None and options.results is None:
        options.results = RESULTS
    options.only = [known[name] for name in names]
    return options


if __name__ == "__main__":
    main()
