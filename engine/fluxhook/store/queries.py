"""Pages of the store's rows for people: filtered, newest first, each by the key of the one before."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from fluxhook.store.database import translated
from fluxhook.store.delivery_id import first_at
from fluxhook.store.reader import COLUMNS, ReadStore
from fluxhook.store.rows import DeliveryRow, PastAttempt, State
from fluxhook.transport.messages import Attempt

__all__ = [
    "ALL",
    "AttemptRow",
    "DeliveryFilter",
    "attempts",
    "count_dead_letters",
    "count_due",
    "count_waiting",
    "dead_letters",
    "deliveries",
    "known_events",
    "next_due",
]

_ATTEMPT: Final = ", ".join(f"a.{name}" for name in Attempt.__struct_fields__)
_LAST: Final = 2**63 - 1

# An id begins with the microsecond in which the delivery came to the store (store/delivery_id.py),
# after it was accepted: what has a lower one than the earliest of `since` need not be read.
# NOT INDEXED keeps to the order of ids; any other way ends in sorting what may be a million.
_DELIVERIES: Final = f"""
SELECT {COLUMNS} FROM deliveries AS d NOT INDEXED
WHERE d.id < :before AND d.id >= :since_id
  AND (:endpoint IS NULL OR d.endpoint = :endpoint) AND (:type IS NULL OR d.type = :type)
  AND (:state IS NULL OR d.state = :state) AND (:cause IS NULL OR d.cause = :cause)
  AND (:event_id IS NULL OR d.event_id = :event_id)
  AND (:since IS NULL OR d.accepted_ns >= :since) AND (:until IS NULL OR d.accepted_ns < :until)
ORDER BY d.id DESC LIMIT :limit
"""

# The newest of each endpoint, merged: with the endpoint first in the index, one that has dead
# half a million does not stand in the way of another's.
_DEAD: Final = f"""
SELECT {COLUMNS} FROM endpoints AS e CROSS JOIN deliveries AS d ON d.id IN (
    SELECT id FROM deliveries INDEXED BY ended
    WHERE endpoint = e.id AND state = {State.DEAD:d} AND ended_ns <= :ended_ns
      AND (ended_ns, id) < (:ended_ns, :id)
      AND (:since IS NULL OR ended_ns >= :since) AND (:until IS NULL OR ended_ns < :until)
      AND (:type IS NULL OR type = :type) AND (:cause IS NULL OR cause = :cause)
    ORDER BY ended_ns DESC, id DESC LIMIT :limit)
WHERE e.dead > 0 AND (:endpoint IS NULL OR e.id = :endpoint)
ORDER BY d.ended_ns DESC, d.id DESC LIMIT :limit
"""

_COUNT_DEAD: Final = f"""
SELECT coalesce(sum((SELECT count(*) FROM deliveries INDEXED BY ended
    WHERE endpoint = e.id AND state = {State.DEAD:d} AND ended_ns >= 0
      AND (:since IS NULL OR ended_ns >= :since) AND (:until IS NULL OR ended_ns < :until)
      AND (:type IS NULL OR type = :type) AND (:cause IS NULL OR cause = :cause))), 0)
FROM endpoints AS e WHERE e.dead > 0 AND (:endpoint IS NULL OR e.id = :endpoint)
"""

_ATTEMPTS: Final = f"""
SELECT a.id, a.n, {_ATTEMPT}, d.id, d.endpoint, d.event_id, d.type
FROM attempts AS a CROSS JOIN deliveries AS d ON d.id = a.delivery
WHERE a.id < :before
  AND (:endpoint IS NULL OR d.endpoint = :endpoint) AND (:type IS NULL OR d.type = :type)
  AND (:cause IS NULL OR a.cause = :cause)
  AND (:since IS NULL OR a.started_ns >= :since) AND (:until IS NULL OR a.started_ns < :until)
ORDER BY a.id DESC LIMIT :limit
"""

# Both search the index `due` for each endpoint: (endpoint, due_ns) of what waits.
_COUNT_DUE: Final = f"""
SELECT e.id, e.name, (SELECT count(*) FROM deliveries INDEXED BY due
    WHERE state = {State.WAITING:d} AND endpoint = e.id AND due_ns > :after AND due_ns <= :until)
FROM endpoints AS e WHERE e.pending > 0 ORDER BY e.id
"""
_COUNT_WAITING: Final = f"""
SELECT count(*) FROM deliveries INDEXED BY due
WHERE state = {State.WAITING:d} AND endpoint = :endpoint AND due_ns > :now
  AND (:cause IS NULL OR cause = :cause)
"""

_NEXT_DUE: Final = f"""
SELECT {COLUMNS}, e.name FROM endpoints AS e CROSS JOIN deliveries AS d ON d.id IN (
    SELECT id FROM deliveries INDEXED BY due WHERE state = {State.WAITING:d} AND endpoint = e.id
    ORDER BY due_ns LIMIT :limit)
WHERE e.pending > 0 AND e.name NOT IN (SELECT value FROM json_each(:halted))
ORDER BY d.due_ns, d.id LIMIT :limit
"""

# Reads the whole table, as the search for one event id does.
_KNOWN: Final = """
SELECT event_id, max(id), count(*) FROM deliveries NOT INDEXED
WHERE event_id IN (SELECT value FROM json_each(:events)) GROUP BY event_id
"""


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted: all that is given must hold.

    `endpoint` is a name. `cause` is that of a delivery's last failure, or the outcome of an attempt.
    The span begins with `since_ns` and ends before `until_ns`, in nanoseconds of the wall clock.
    """

    endpoint: str | None = None
    type: str | None = None
    state: State | None = None
    cause: str | None = None
    event_id: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None


#: no filter at all
ALL: Final = DeliveryFilter()


class AttemptRow(NamedTuple):
    past: PastAttempt
    delivery: int
    endpoint: int
    event_id: str
    type: str


def deliveries(
    store: ReadStore, which: DeliveryFilter, *, before: int | None, limit: int
) -> list[DeliveryRow]:
    """Return deliveries by their ids; the span is of when their events were accepted."""
    since = which.since_ns
    more = {
        "since_id": 0 if since is None else first_at(store.clock().earliest_ns(since)),
        "before": _LAST if before is None else before,
        "limit": limit,
    }
    return [DeliveryRow(*row) for row in _all(store, _DELIVERIES, _wanted(store, which) | more)]


def dead_letters(
    store: ReadStore, which: DeliveryFilter, *, before: tuple[int, int] | None, limit: int
) -> list[DeliveryRow]:
    """Return dead letters, the latest to die first; the span is of when they died.

    `before` is (ended_ns, id).
    """
    ended_ns, id = before or (_LAST, _LAST)
    more = {"ended_ns": ended_ns, "id": id, "limit": limit}
    return [DeliveryRow(*row) for row in _all(store, _DEAD, _wanted(store, which) | more)]


def count_dead_letters(store: ReadStore, which: DeliveryFilter) -> int:
    """Return how many dead letters match; the span is of when they died."""
    n: int = _all(store, _COUNT_DEAD, _wanted(store, which))[0][0]
    return n


def attempts(
    store: ReadStore, which: DeliveryFilter, *, before: int | None, limit: int
) -> list[AttemptRow]:
    """Return attempts in the order of their commits; the span is of when they began."""
    more = {"before": _LAST if before is None else before, "limit": limit}
    return [
        AttemptRow(PastAttempt(id, n, Attempt(*rest[:-4])), *rest[-4:])
        for id, n, *rest in _all(store, _ATTEMPTS, _wanted(store, which) | more)
    ]


def known_events(store: ReadStore, events: Collection[str]) -> list[tuple[str, int, int]]:
    """Return those of the events with these ids that have deliveries: the id, the newest delivery, and
    the number of deliveries."""
    return _all(store, _KNOWN, {"events": json.dumps(list(events))})


def count_due(store: ReadStore, after_ns: int, until_ns: int) -> list[tuple[int, str, int]]:
    """Return for each endpoint with deliveries that wait its id, its name, and the number of those that
    are due after the one time and up to the other, in engine time.

    It counts index entries: some 10 ms for each 100,000 deliveries that wait.
    """
    return _all(store, _COUNT_DUE, {"after": after_ns, "until": until_ns})


def count_waiting(store: ReadStore, endpoint: int, now_ns: int, cause: str | None) -> int:
    """Return how many deliveries of an endpoint are due later than now (engine time), those with this
    cause if one is given."""
    where = {"endpoint": endpoint, "now": now_ns, "cause": cause}
    ((n,),) = _all(store, _COUNT_WAITING, where)
    return int(n)


def next_due(
    store: ReadStore, halted: Collection[str], limit: int
) -> list[tuple[DeliveryRow, str]]:
    """Return the deliveries that are due next, with the names of their endpoints; none of those
    endpoints that are `halted`."""
    rows = _all(store, _NEXT_DUE, {"halted": json.dumps(list(halted)), "limit": limit})
    return [(DeliveryRow(*row[:-1]), row[-1]) for row in rows]


def _wanted(store: ReadStore, which: DeliveryFilter) -> dict[str, Any]:
    """Return the parameters that a filter gives a query."""
    endpoint = None
    if which.endpoint is not None:
        rows = _all(store, "SELECT id FROM endpoints WHERE name = :name", {"name": which.endpoint})
        endpoint = rows[0][0] if rows else -1  # nothing is of an endpoint that there is not
    return {
        "endpoint": endpoint,
        "type": which.type,
        "state": which.state,
        "cause": which.cause,
        "event_id": which.event_id,
        "since": which.since_ns,
        "until": which.until_ns,
    }


def _all(store: ReadStore, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    with translated(store.path):
        return store.db.execute(sql, parameters).fetchall()
