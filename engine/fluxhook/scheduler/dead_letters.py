"""Dead letters: what is given up without a report, and what the operator asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.scheduler.retention import Retention
from fluxhook.store import State, Store
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.engine_clock import EngineClock

__all__ = ["DeadLetters", "RecordRows"]

#: hears of the deliveries that are about to be changed, if there are any; what it raises prevents
#: that
RecordRows = Callable[[list[DeliveryRow]], None]


def unrecorded(rows: list[DeliveryRow]) -> None:
    """Record nothing."""


class DeadLetters:
    """Each call is a transaction."""

    def __init__(
        self, store: Store, clock: EngineClock, endpoints: Endpoints, retention: Retention
    ) -> None:
        self._store = store
        self._clock = clock
        self._endpoints = endpoints
        self._retention = retention

    # ---- what the operator asks for --------------------------------------------------------

    def replay(
        self, delivery_ids: Iterable[int], now_ns: int, record: RecordRows = unrecorded
    ) -> int:
        """Make dead letters wait again; return how many of these were any."""
        with self._store.transaction() as transaction:
            dead = self._dead(delivery_ids)
            if dead:
                record(dead)
            for delivery in dead:
                transaction.replay(transaction.copy(delivery), now_ns)
        self._endpoints.publish_stored({delivery.endpoint for delivery in dead})
        return len(dead)

    def purge(
        self, delivery_ids: Iterable[int], now_ns: int, record: RecordRows = unrecorded
    ) -> int:
        """Write dead letters to the audit trail and erase them; return how many of these were any."""
        dead = self._dead(delivery_ids)
        if dead:
            record(dead)
        self._retention.erase(dead, now_ns)
        return len(dead)

    def _dead(self, delivery_ids: Iterable[int]) -> list[DeliveryRow]:
        found = map(self._store.delivery, dict.fromkeys(delivery_ids))
        return [row for row in found if row is not None and row.state == State.DEAD]

    # ---- what is given up ------------------------------------------------------------------

    def give_up(self, endpoint_id: int, now_ns: int, limit: int) -> int:
        """Make dead letters of what waits for an endpoint that was removed or disabled, at most
        `limit`; return how many that were."""
        cause = "disabled" if self._endpoints.is_disabled(endpoint_id) else "removed"
        wall_ns = self._clock.wall_ns(now_ns)
        dead = self._store.dead_letter_all(endpoint_id, wall_ns, cause, limit=limit)
        self._endpoints.publish_stored([endpoint_id])
        return dead

    def give_up_too_large(self, row: DeliveryRow, now_ns: int) -> None:
        """Give up a delivery that came while `max_event_bytes` was larger: no worker's ring can take
        it."""
        error = (
            "larger than max_event_bytes allows now: raise that, start the engine anew, and replay"
        )
        with self._store.transaction() as transaction:
            wall_ns = self._clock.wall_ns(now_ns)
            transaction.dead_letter(transaction.copy(row), wall_ns, "payload_too_large", error)
        self._endpoints.publish_stored([row.endpoint])
