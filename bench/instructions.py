"""Instructions of the hot path, from an emit to a report: a guard that no busy machine upsets.

    python -m bench.instructions             counts, and compares with bench/instructions.json
    python -m bench.instructions --update    records what it counted

callgrind counts what the processor executes. Two lengths of each loop are compared, so that neither
the interpreter's start nor the preparations are counted. The figures are those of a build of Python
(and a little of the compiler): each build has a record of its own. One that has none is compared with
another's, in proportion to a loop that has nothing of ours in it, and more tolerantly.

Ends with status 1 if an operation takes more than it may; with 2 if valgrind is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.machine import ROOT
from bench.programs.counted import LONG, OPERATIONS, REFERENCE, SHORT, configuration
from bench.receiver import Missing, find_program
from fluxhook.supervisor.supervisor import Supervisor

__all__ = ["RECORD", "Finding", "build", "compare", "count", "slopes"]

RECORD = Path(__file__).with_name("instructions.json")
#: how much more than recorded an operation may take; the counts themselves repeat to 1 %
TOLERANCE = 0.10
#: the same for what a worker does, most of which is Python
WORKER_TOLERANCE = {"dispatch plain": 0.02, "dispatch judged": 0.02, "report": 0.02}
#: the same for a build without a record; Debian's 3.11 and one from python.org differ by less
FOREIGN_TOLERANCE = 0.35
_TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)

#: instructions by operation
Counts = dict[str, int]


class Finding(NamedTuple):
    operation: str
    counted: int
    #: what it may be at most
    limit: int
    recorded: int

    @property
    def passed(self) -> bool:
        return self.counted <= self.limit

    def __str__(self) -> str:
        change = self.counted / self.recorded - 1
        verdict = "" if self.passed else f": more than the {self.limit:,} that it may take"
        return (
            f"{self.operation:<16}{self.counted:>8,} instructions, recorded {self.recorded:,} "
            f"({change:+.1%}){verdict}"
        )


def build() -> str:
    """Return the name of what the figures belong to."""
    return " ".join(
        (
            platform.python_implementation(),
            platform.python_version(),
            platform.python_compiler(),
            platform.machine(),
        )
    )


def slopes(totals: list[int]) -> Counts:
    """Return the instructions of one operation each, from what was counted up to each mark: the start
    and a warm-up, SHORT, LONG, and so on; what comes after the last mark is not looked at."""
    expected = 3 * len(OPERATIONS)
    if len(totals) < expected:
        raise ValueError(f"callgrind wrote {len(totals)} parts instead of {expected}")
    return {
        name: round((totals[3 * n + 2] - totals[3 * n + 1]) / (LONG - SHORT))
        for n, name in enumerate(OPERATIONS)
    }


def compare(counts: Counts, record: Mapping[str, Counts], name: str) -> list[Finding]:
    """Return each operation beside the record of this build, or otherwise of the one whose reference
    is nearest. Raise ValueError for an empty record."""
    if not record:
        raise ValueError(
            f"{RECORD.name} records nothing; run python -m bench.instructions --update"
        )
    own = record.get(name)
    if own is not None:
        factor, tolerances, tolerance = 1.0, WORKER_TOLERANCE, TOLERANCE
    else:
        reference = counts[REFERENCE]
        own = min(record.values(), key=lambda other: abs(other[REFERENCE] - reference))
        factor, tolerances, tolerance = reference / own[REFERENCE], {}, FOREIGN_TOLERANCE
    findings = []
    for operation in OPERATIONS:
        if operation != REFERENCE:
            recorded = round(own[operation] * factor)
            limit = int(recorded * (1 + tolerances.get(operation, tolerance)))
            findings.append(Finding(operation, counts[operation], limit, recorded))
    return findings


def count() -> Counts:
    """Run bench.programs.counted under callgrind, for about 20 s. Raise Missing."""
    valgrind = find_program("valgrind", "valgrind")
    directory = Path(tempfile.mkdtemp(prefix="fluxhook-bench-"))
    try:
        Supervisor(directory / "data", configuration()).close()
        run = subprocess.run(
            [
                valgrind,
                "--tool=callgrind",
                "--dump-before=getppid",
                f"--callgrind-out-file={directory / 'out'}",
                sys.executable,
                "-m",
                "bench.programs.counted",
                str(directory / "data"),
            ],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise RuntimeError(f"callgrind ended with status {run.returncode}:\n{run.stderr}")
        parts = sorted(directory.glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = [int(found[1]) for path in parts if (found := _TOTAL.search(path.read_text()))]
        return slopes(totals)
    finally:
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="record what was counted")
    options = parser.parse_args()
    try:
        counts = count()
    except Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        sys.exit(2)
    record: dict[str, Counts] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if options.update:
        record[build()] = counts
        RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        print(f"{build()}: {counts}")
        return
    print(build() + ("" if build() in record else " (no record: compared with another build)"))
    findings = compare(counts, record, build())
    print(*findings, sep="\n")
    if not all(finding.passed for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
