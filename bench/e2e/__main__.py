"""The engine end to end against nginx, beside the bare pycurl loop and wrk, in one run.

    python -m bench.e2e                                1 publisher x 1 worker x 1 endpoint
    python -m bench.e2e --workers 2 --publishers 4 --endpoints 4 --payload 4096
    python -m bench.e2e --only deliver --json

Each repeat measures all contenders one after the other, so that a machine that changes its speed
changes it for all of them; ratios are taken within a repeat. Ends with status 1 if an event was lost,
or if nginx counted other requests than were delivered.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.e2e import contenders, report
from bench.e2e.machine import Cores, describe, pin
from bench.e2e.receiver import Nginx
from bench.e2e.stage import Figures, Load, Stage, first_byte

PARTS = ("deliver", "bare", "wrk", "fail", "idle")
IDLE_EVENTS = 1000


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    load = Load(
        options.publishers,
        options.workers,
        options.endpoints,
        options.payload,
        options.in_flight,
        options.durability,
    )
    cores = Cores.divide()
    command = shlex.join(["python", "-m", "bench.e2e", *sys.argv[1:]])
    result: dict[str, Any] = {"load": load._asdict(), "pinning": str(cores)}
    directory = Path(tempfile.mkdtemp(prefix="fluxhook-bench-nginx-"))
    pin(0, cores.receiver)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        nginx = stack.enter_context(Nginx(directory, load.endpoints))
        result["machine"] = describe(command, nginx.version, directory)
        if not options.json:
            _print_header(result["machine"], load, cores)
        runs = _measure(options, load, cores, nginx, directory, result)
    result["runs"] = runs
    result["summary"] = report.summarize(runs)
    faults = [
        f"{part}: {name} {int(run[key])}"
        for run in runs
        for part in ("deliver", "fail")
        for name in report.BOOKS
        if run.get(key := f"{part}.{name}")
    ]
    result["faults"] = faults
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        _print_result(result, options)
    if faults:
        sys.exit(1)


def _measure(
    options: argparse.Namespace,
    load: Load,
    cores: Cores,
    nginx: Nginx,
    directory: Path,
    result: dict[str, Any],
) -> list[Figures]:
    """All repeats. The engines stay up between them, idle while others are measured."""
    runs = []
    url = f"{nginx.urls[0]}/"
    with ExitStack() as stack:
        healthy = failing = None
        if "deliver" in options.only:
            healthy = stack.enter_context(Stage(load, cores, nginx))
            healthy.warm_up()
        if "fail" in options.only:
            failing = stack.enter_context(Stage(load, cores, nginx, "/flaky"))
            nginx.recover(True)
            failing.warm_up()
        for repeat in range(options.repeat):
            _progress(options, f"repeat {repeat + 1} of {options.repeat}")
            run: dict[str, Figures] = {}
            if "bare" in options.only:
                run["bare"] = contenders.bare(url, load, cores, options.events)
            if healthy is not None:
                run["deliver"] = healthy.deliver(options.events)
            if "wrk" in options.only and (floor := contenders.wrk(url, load, cores, directory)):
                run["wrk"] = floor
            if failing is not None:
                run["fail"] = failing.fail(options.failing)
            runs.append(report.flatten(run))
        for name, stage in (("deliver", healthy), ("fail", failing)):
            if stage is not None:
                endpoint = stage.stats().endpoints[0]
                result[name] = {"memory_mb": stage.memory(), "latency_ms": endpoint.latency_ms}
    if "idle" in options.only:
        for run_figures in runs:
            idle = first_byte(load, cores, IDLE_EVENTS)
            run_figures |= {f"idle.{name}": value for name, value in idle.items()}
    return runs


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.e2e",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    number = {"type": int, "metavar": "N"}
    parser.add_argument("--events", default=150_000, help="events a run (150000)", **number)
    parser.add_argument("--failing", default=30_000, help="events that fail (30000)", **number)
    parser.add_argument("--payload", default=572, help="bytes of a body (572)", **number)
    parser.add_argument("--workers", default=1, **number)
    parser.add_argument("--publishers", default=1, help="host processes", **number)
    parser.add_argument("--endpoints", default=1, help="events go to them in turn", **number)
    parser.add_argument("--in-flight", default=32, help="requests at a time", **number)
    parser.add_argument("--repeat", default=3, **number)
    parser.add_argument("--durability", default="process", help='or "power", "interval:100ms"')
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="everything measured, as JSON")
    options = parser.parse_args()
    options.only = options.only.split(",")
    for part in options.only:
        if part not in PARTS:
            parser.error(f"--only: there is no {part!r}; choose from {', '.join(PARTS)}")
    for name in ("events", "failing", "workers", "publishers", "endpoints", "in_flight", "repeat"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is at least 1")
    return options


def _print_header(machine: dict[str, str], load: Load, cores: Cores) -> None:
    print("Fluxhook, end to end\n")
    for name, value in machine.items():
        print(f"  {name:<10} {value}")
    print(f"  {'load':<10} {load}")
    print(f"  {'cores':<10} {cores}\n", flush=True)


def _print_result(result: dict[str, Any], options: argparse.Namespace) -> None:
    print(report.table(result["summary"]))
    for name in ("deliver", "fail"):
        if name not in result:
            continue
        memory = ", ".join(
            f"{role} {mb['rss']:.0f} MB ({mb['own']:.0f} its own)"
            for role, mb in result[name]["memory_mb"].items()
        )
        print(f"\n{name}: resident memory: {memory}")
        if latency := result[name]["latency_ms"]:
            times = ", ".join(f"{share} {ms:g} ms" for share, ms in latency.items())
            print(f"{name}: a successful attempt takes (within half of it): {times}")
    print(f"\n{options.repeat} runs of each, one after the other.")
    print(f"n = {options.events} events a run, {options.failing} that fail.")
    if result["faults"]:
        print("BOOKS DO NOT BALANCE: " + "; ".join(result["faults"]))
    else:
        print("Losses: 0. accepted = delivered = what nginx counted, in every run.")


def _progress(options: argparse.Namespace, text: str) -> None:
    if not options.json and sys.stderr.isatty():
        print(f"\r{text}", end="\r", file=sys.stderr, flush=True)


main()
