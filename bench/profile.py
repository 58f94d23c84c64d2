"""Where the CPU of a delivery goes: samples of the host, the worker and the scheduler, by part.

    python -m bench.profile                      the row `main`
    python -m bench.profile --row fail           every event fails once

`perf` (Debian: linux-perf) takes the samples on the CPU's clock; what a part takes is its share of a
process's samples times what that process spends on a delivery. The table goes into docs/performance.md.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.machine import Cores, pin
from bench.measure import Figures
from bench.receiver import Missing, Nginx, find_program
from bench.report import table
from bench.rows import ROWS
from bench.stage import Stage

__all__ = ["PARTS", "part_of", "shares"]

#: Each part, and what the name of its object file contains; the first that fits.
PARTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("kernel", ("[kernel", "[guest.kernel")),
    ("libcurl", ("libcurl", "libnghttp", "libssl")),
    ("sign", ("libcrypto", "/signing.")),
    ("pycurl", ("pycurl",)),
    ("ring", ("/ring.",)),
    ("match", ("/topics.",)),
    ("encode (msgspec)", ("msgspec",)),
    ("SQLite", ("sqlite",)),
    ("libc", ("libc.so", "libc-2", "ld-linux", "[vdso]", "libm.so", "libpthread")),
    ("CPython", ("python",)),
)
FREQUENCY: Final = 4_999


def part_of(object_file: str) -> str:
    """Return whose code it is; "other" if nobody's that we know."""
    return next((part for part, marks in PARTS if any(m in object_file for m in marks)), "other")


def shares(samples: Iterable[str]) -> dict[int, dict[str, float]]:
    """Return for each process what share of its samples fell into each part.

    `samples` are lines of `perf script -F pid,ip,dso`: `1234  7f00deadbeef (/usr/lib/libc.so.6)`.
    """
    counts: dict[int, Counter[str]] = {}
    for line in samples:
        pid, _, rest = line.strip().partition(" ")
        if pid.isdigit() and "(" in rest:
            object_file = rest[rest.index("(") + 1 :].rstrip(")")
            counts.setdefault(int(pid), Counter())[part_of(object_file)] += 1
    return {
        pid: {part: n / total for part, n in parts.items()}
        for pid, parts in counts.items()
        if (total := sum(parts.values()))
    }


def render(by_role: Mapping[str, Mapping[str, float]], cost_us: Figures) -> str:
    """Return microseconds of a delivery, by part and process."""
    roles = [role for role in ("host", "worker", "scheduler") if role in by_role]
    parts = [name for name, _ in PARTS] + ["other"]
    lines = []
    for part in parts:
        spent = [by_role[role].get(part, 0.0) * cost_us[role] for role in roles]
        if sum(spent) >= 0.01:
            lines.append(
                [part, *(f"{us:.2f}" if us >= 0.005 else "" for us in spent), f"{sum(spent):.2f}"]
            )
    totals = [cost_us[role] for role in roles]
    lines.append(["**all**", *(f"**{us:.2f}**" for us in totals), f"**{sum(totals):.2f}**"])
    return table(("CPU of a delivery, us", *roles, "all"), lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--row", choices=[row.name for row in ROWS], default="main")
    parser.add_argument("--events", type=int, default=150_000)
    options = parser.parse_args()
    row = next(row for row in ROWS if row.name == options.row)
    perf = find_program("perf", "linux-perf")
    cores = Cores.divide()
    pin(0, cores.receiver)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fluxhook-bench-")))
        nginx = stack.enter_context(Nginx(directory, row.load.endpoints))
        stage = stack.enter_context(Stage(row.load, cores, nginx))
        if row.experiment != "Failures":
            stage.warm_up()
        record = directory / "samples"
        command = [perf, "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "-o", str(record)]
        roles = stage.processes()
        pids = ",".join(str(pid) for each in roles.values() for pid in each)
        recorder = subprocess.Popen([*command, "-p", pids], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        if row.experiment == "Failures":
            figures = stage.fail(options.events, nginx)
        elif row.experiment == "Aggregated":
            figures = stage.aggregate(options.events)
        else:
            figures = stage.deliver(options.events)
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
        script = [perf, "script", "-i", str(record), "-F", "pid,ip,dso"]
        lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    of = shares(lines.splitlines())
    by_role = {
        role: next((of[pid] for pid in pids if pid in of), {}) for role, pids in roles.items()
    }
    print(f"row {row.name}, n = {options.events:,}, losses {figures['lost']:.0f}\n")
    print(render(by_role, figures))


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(f"bench: {missing}")
