"""The books of an engine that starts: what was accepted, less all that is accounted for.

They balance unless a file was damaged or replaced. While they are read no worker is at work, but
publishers may be.
"""

from __future__ import annotations

from pathlib import Path

from fluxhook.logs.log import Log
from fluxhook.stats import EndpointStats, read_stats
from fluxhook.transport.repair import Repair

__all__ = ["close", "discrepancies", "explain", "summary"]

log = Log("store")


def close(data_dir: Path, repair: Repair) -> None:
    """Log what was lost: which file, and by the books how many events."""
    found = discrepancies(data_dir)
    for loss in (*repair.losses, *(repair.suspects if found else ())):
        log.error("%s; %s", loss, summary(found))
    for endpoint, n in found:
        log.error(
            "endpoint %s: %s", endpoint.name, explain(endpoint, n),
            event="books", endpoint=endpoint.name, count=n,
        )  # fmt: skip


def discrepancies(data_dir: Path) -> list[tuple[EndpointStats, int]]:
    """Return each endpoint whose books do not balance, and by how much: positive for events that are
    lost, negative for more that came out than were accepted."""
    stats = read_stats(data_dir)
    found = [(e, e.balance) for e in stats.endpoints if e.balance]
    if not found:
        return []
    # A publisher may have accepted more between the reading of its counters and of its rings.
    later = {e.id: e.accepted for e in read_stats(data_dir).endpoints}
    corrected = [
        (e, n if n > 0 else min(0, n + later[e.id] - e.accepted)) for e, n in found if e.id in later
    ]
    return [(e, n) for e, n in corrected if n]


def explain(endpoint: EndpointStats, n: int) -> str:
    """Return one line for the log."""
    e = endpoint
    return (
        f"{_words(n)} (accepted {e.accepted}, delivered {e.delivered}, dead {e.dead}, "
        f"dropped {sum(e.dropped.values())}, aggregated {e.aggregated}, pending {e.pending})"
    )


def summary(found: list[tuple[EndpointStats, int]]) -> str:
    """Return what the books of all endpoints come to."""
    lost = sum(n for _, n in found if n > 0)
    surplus = sum(n for _, n in found if n < 0)
    said = " and ".join(_words(n) for n in (lost, surplus) if n)
    return f"by the books {said or 'nothing is lost'}"


def _words(n: int) -> str:
    if n > 0:
        return f"{n} accepted events are not accounted for"
    return f"{-n} more events are accounted for than were accepted"
