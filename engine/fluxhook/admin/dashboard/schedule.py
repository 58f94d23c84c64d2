"""What is due when: the waiting deliveries of the store, counted by endpoint and time."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final, NamedTuple

from fluxhook.admin.models import Delivery
from fluxhook.admin.service import Service
from fluxhook.store import ReadStore, queries

__all__ = ["BUCKETS", "EndpointSchedule", "Schedule", "read_schedule"]

#: names, and the seconds from now on up to which what is due belongs to each; None: no end
BUCKETS: Final[tuple[tuple[str, int | None], ...]] = (
    ("Due now", 0),
    ("In 1 min", 60),
    ("In 10 min", 600),
    ("In 1 h", 3600),
    ("In 6 h", 6 * 3600),
    ("Later", None),
)
_END: Final = 2**63 - 1


class EndpointSchedule(NamedTuple):
    """How many deliveries of an endpoint are due in each of BUCKETS."""

    id: str
    name: str
    counts: tuple[int, ...]


class Schedule(NamedTuple):
    """`upcoming` are the next ones, the first to come first; none of endpoints that are halted."""

    endpoints: list[EndpointSchedule]
    upcoming: list[Delivery]


def read_schedule(service: Service, halted: Collection[str], limit: int = 25) -> Schedule:
    """Return what is due when; `halted` names the endpoints that nothing is sent to.

    Raises StoreError.
    """
    counts: dict[tuple[int, str], list[int]] = {}
    with ReadStore.open(service.datadir.store) as store:
        clock, after = store.clock(), -1
        now_ns = time.time_ns() - clock.offset_ns
        for _, seconds in BUCKETS:
            until = _END if seconds is None else now_ns + seconds * 1_000_000_000
            for id, name, n in queries.count_due(store, after, until):
                counts.setdefault((id, name), []).append(n)
            after = until
        snapshot = service.snapshot
        for (_, name), found in counts.items():
            _delay(found, service.endpoint_state(snapshot, name, now_ns).probe_ns, now_ns)
        rows = queries.next_due(store, halted, limit)
    return Schedule(
        [
            EndpointSchedule(f"wh_{id}", name, tuple(found))
            for (id, name), found in counts.items()
            if any(found)
        ],
        service.delivery_views(rows, clock),
    )


def _delay(counts: list[int], probe_ns: int | None, now_ns: int) -> None:
    """Count what is due before an open breaker's next probe as due then: nothing goes earlier."""
    if probe_ns is None:
        return
    ends = [_END if s is None else now_ns + s * 1_000_000_000 for _, s in BUCKETS]
    first = next(i for i, end in enumerate(ends) if probe_ns <= end)
    counts[first] += sum(counts[:first])
    counts[:first] = [0] * first
