"""Writes the diagrams and tables of docs/policies.md from the tables that the policies run on, and that
of the drop policies from the oracle by which the tests drive them.

    python tools/diagrams.py          rewrites the generated parts
    python tools/diagrams.py --check  exits 1 if they are out of date

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_args

from fluxhook.config.schema import Endpoint, Retry
from fluxhook.config.units import Duration
from fluxhook.events import where
from fluxhook.policy import breaker, delivery, outcome
from fluxhook.policy.retry import max_attempts, next_delay_ns
from fluxhook.policy.table import Table

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from oracles import overflow  # noqa: E402

DOC: Final = ROOT / "docs/policies.md"
_PART: Final = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(doc: str) -> str:
    """Return the document with every generated part made again."""
    return _PART.sub(lambda m: f"{m[1]}\n{PARTS[m[2]]()}\n\n{m[3]}", doc)


def machine(table: Table[Any, Any, Any], first: str) -> str:
    """Return a state diagram, which leaves out what changes nothing, and the whole table."""
    moves = list(table)
    edges = [f"    [*] --> {first}"]
    for move in moves:
        if move.action != "ignore":
            label = ", ".join(filter(None, (move.event, move.condition)))
            action = f" / {move.action}" if move.action else ""
            edges.append(f"    {move.state} --> {move.to} : {label}{action}")
    goes_on = {move.state for move in moves}
    ends = dict.fromkeys(move.to for move in moves if move.to not in goes_on)
    edges += [f"    {state} --> [*]" for state in ends]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *edges, "```"])
    return f"{diagram}\n\n{_table(('state', 'event', 'where', 'next', 'action'), moves)}"


def delays() -> str:
    """Return when two policies try again, without jitter, if an attempt takes no time."""
    policies = {
        "FluxGate: `schedule: [15s, 2m, 10m, 1h]`": Endpoint(name="", url="").retry,
        "FluxMQ's backoff, with `max_attempts: 8`": Retry(max_attempts=8),
    }
    rows = []
    for name, retry in policies.items():
        due_ns = [0]
        for failed in range(1, max_attempts(retry)):
            delay_ns = next_delay_ns(retry, failed, 0.0, since_first_ns=due_ns[-1])
            due_ns.append(due_ns[-1] + (delay_ns or 0))
        rows.append((name, ", ".join(str(Duration(ns)) for ns in due_ns[1:])))
    return _table(("policy", "retries after the first failure"), rows)


def outcomes() -> str:
    """Draw the way from the status, or what the transport met, to the verdict under the default
    retry_on."""
    retry_on = Retry().retry_on
    statuses: dict[outcome.Outcome, list[int]] = {}
    for status in range(200, 600):
        statuses.setdefault(outcome.classify(status, None, retry_on), []).append(status)
    edges = [_edge(f's{group[0]}["{_ranges(group)}"]', o) for o, group in statuses.items()]
    edges += [
        _edge("none[no final status]", outcome.classify(0, cause, retry_on))
        for cause in get_args(outcome.TransportCause)
    ]
    return "\n".join(["```mermaid", "flowchart LR", *edges, "```"])


def _edge(source: str, o: outcome.Outcome) -> str:
    return f"    {source} --> cause_{o.cause}[{o.cause}] --> {o.verdict}([{o.verdict}])"


def _ranges(numbers: Iterable[int]) -> str:
    """Write 200, 201, 202, 204 as "200-202, 204"."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in spans)


def causes() -> str:
    rows = [
        (
            f"`{word}`",
            cause.user,
            {None: "never", "status": "its status or class"}.get(
                cause.retried_by, f"`{cause.retried_by}`"
            ),
            cause.breaker,
            f"{cause.rejection} rejection" if cause.rejection else "",
        )
        for word, cause in outcome.CAUSES.items()
    ]
    return _table(("cause", "meaning", "tried again by", "breaker", "counted as"), rows)


def not_attempted() -> str:
    rows = [(f"`{word}`", meaning) for word, meaning in outcome.NOT_ATTEMPTED.items()]
    return _table(("cause", "meaning"), rows)


def operators() -> str:
    rows = [
        (f"`{sign}`", ", ".join(kinds), holds) for sign, (holds, kinds) in where.OPERATORS.items()
    ]
    return _table(("operator", "takes a", "holds if"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "breaker": lambda: machine(breaker.MOVES, "closed"),
    "delivery": lambda: machine(delivery.MOVES, "sending"),
    "overflow": lambda: machine(overflow.MOVES, "offered"),
    "delays": delays,
    "outcomes": outcomes,
    "causes": causes,
    "not-attempted": not_attempted,
    "operators": operators,
}


def main() -> int:
    old = DOC.read_text()
    new = render(old)
    if "--check" in sys.argv[1:]:
        return int(old != new)
    DOC.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
