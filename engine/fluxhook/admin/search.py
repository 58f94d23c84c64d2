"""Pages of the store's rows for people: filtered, newest first, each by the key of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fluxhook.store import ReadStore
from fluxhook.store.database import translated
from fluxhook.store.delivery_id import first_at
from fluxhook.store.reader import COLUMNS
from fluxhook.store.rows import Delivery, PastAttempt, State
from fluxhook.transport.messages import Attempt

__all__ = ["AttemptRow", "attempts", "dead_letters", "deliveries"]

_ATTEMPT: Final = ", ".join(f"a.{name}" for name in Attempt.__struct_fields__)
_LAST: Final = 2**63 - 1

# An id begins with the microsecond in which the delivery came to the store (store/delivery_id.py),
# after it was accepted: what has a lower one than the earliest of `since` need not be read.
_DELIVERIES: Final = f"""
SELECT {COLUMNS} FROM deliveries AS d NOT INDEXED
WHERE d.id < :before AND d.id >= :since_id
  AND (:endpoint IS NULL OR d.endpoint = :endpoint) AND (:type IS NULL OR d.type = :type)
  AND (:state IS NULL OR d.state = :state) AND (:cause IS NULL OR d.cause = :cause)
  AND (:event_id IS NULL OR d.event_id = :event_id)
  AND (:since IS NULL OR d.accepted_ns >= :since) AND (:until IS NULL OR d.accepted_ns < :until)
ORDER BY d.id DESC LIMIT :limit
"""

# The newest of each endpoint, merged, as in store.reader.
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

_ATTEMPTS: Final = f"""
SELECT a.id, a.n, {_ATTEMPT}, d.id, d.endpoint, d.event_id, d.type
FROM attempts AS a CROSS JOIN deliveries AS d ON d.id = a.delivery
WHERE a.id < :before
  AND (:endpoint IS NULL OR d.endpoint = :endpoint) AND (:type IS NULL OR d.type = :type)
  AND (:outcome IS NULL OR a.cause = :outcome)
  AND (:since IS NULL OR a.started_ns >= :since) AND (:until IS NULL OR a.started_ns < :until)
ORDER BY a.id DESC LIMIT :limit
"""


class AttemptRow(NamedTuple):
    past: PastAttempt
    delivery: int
    endpoint: int
    event_id: str
    type: str


def deliveries(
    store: ReadStore,
    *,
    endpoint: int | None,
    type: str | None,
    state: State | None,
    cause: str | None,
    event_id: str | None,
    since: int | None,
    until: int | None,
    before: int | None,
    limit: int,
) -> list[Delivery]:
    """Deliveries accepted from `since` on and before `until`, by their ids."""
    where = {
        "endpoint": endpoint,
        "type": type,
        "state": state,
        "cause": cause,
        "event_id": event_id,
        "since": since,
        "since_id": 0 if since is None else first_at(store.clock().earliest_ns(since)),
        "until": until,
        "before": _LAST if before is None else before,
        "limit": limit,
    }
    return [Delivery(*row) for row in _all(store, _DELIVERIES, where)]


def dead_letters(
    store: ReadStore,
    *,
    endpoint: int | None,
    type: str | None,
    cause: str | None,
    since: int | None,
    until: int | None,
    before: tuple[int, int] | None,
    limit: int,
) -> list[Delivery]:
    """Dead letters that died from `since` on and before `until`, the latest first; `before` is
    (ended_ns, id)."""
    ended_ns, id = before or (_LAST, _LAST)
    where = {
        "endpoint": endpoint,
        "type": type,
        "cause": cause,
        "since": since,
        "until": until,
        "ended_ns": ended_ns,
        "id": id,
        "limit": limit,
    }
    return [Delivery(*row) for row in _all(store, _DEAD, where)]


def attempts(
    store: ReadStore,
    *,
    endpoint: int | None,
    type: str | None,
    outcome: str | None,
    since: int | None,
    until: int | None,
    before: int | None,
    limit: int,
) -> list[AttemptRow]:
    """Attempts begun from `since` on and before `until`, in the order of their commits."""
    where = {
        "endpoint": endpoint,
        "type": type,
        "outcome": outcome,
        "since": since,
        "until": until,
        "before": _LAST if before is None else before,
        "limit": limit,
    }
    return [
        AttemptRow(PastAttempt(id, n, Attempt(*rest[:-4])), *rest[-4:])
        for id, n, *rest in _all(store, _ATTEMPTS, where)
    ]


def _all(store: ReadStore, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
    with translated(store.path):
        return store.db.execute(sql, parameters).fetchall()
