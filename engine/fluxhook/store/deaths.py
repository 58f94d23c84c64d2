"""Of what deliveries died: counted in the transaction of each death, by endpoint and cause.

Two kinds of counters of the store go on with the cause. `dead.<cause>` is how many dead letters there
are of it: they add up to `EndpointRow.dead`, and a replay or a purge takes from them. `died.<cause>` is
how many deaths there ever were: it never goes down, and an event that is replayed and dies again counts
twice.

Earlier versions counted no causes. Those of the dead letters that are there stand in their rows; of
what such a version purged the cause is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

__all__ = ["DEAD", "DIED", "PURGED", "UNKNOWN", "Deaths", "deaths"]

DEAD: Final = "dead."
DIED: Final = "died."
PURGED: Final = "dropped.purged"
UNKNOWN: Final = "unknown"


class Deaths(NamedTuple):
    """How many are dead, and how many ever died, by cause."""

    dead: dict[str, int]
    died: dict[str, int]


def deaths(
    dead: int, counted: Mapping[str, int], dead_rows: Callable[[], dict[str, int]]
) -> Deaths:
    """Return what an endpoint's counters say of its deaths. `dead` is how many dead letters there are;
    `dead_rows` counts them by cause, and is asked only where the counters do not add up to that."""
    by_cause, died = _named(counted, DEAD), _named(counted, DIED)
    if sum(by_cause.values()) != dead or any(n < 0 for n in by_cause.values()):
        by_cause = dead_rows()
        died |= {cause: max(n, died.get(cause, 0)) for cause, n in by_cause.items()}
    missed = dead + counted.get(PURGED, 0) - sum(died.values())
    if missed > 0:
        died[UNKNOWN] = died.get(UNKNOWN, 0) + missed
    return Deaths({cause: n for cause, n in by_cause.items() if n}, died)


def _named(counted: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in counted.items() if name.startswith(prefix)}
