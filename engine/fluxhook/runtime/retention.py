"""How long a failed event is kept: for `retention` it can be looked at and replayed, then it is
written to the audit trail and erased.

"Failed events are retained for 24 hours before being purged and logged to the audit trail" (FluxGate).
An event that could not be delivered for that long, because its endpoint was paused or its breaker
open, has failed too.
"""

from __future__ import annotations

from fluxhook.runtime.snapshot import Snapshot
from fluxhook.store import DeliveryStore, State
from fluxhook.store.audit import AuditEntry, AuditTrail, timestamp
from fluxhook.store.records import Delivery

__all__ = ["Retention"]

#: deliveries that one step erases, so that none lasts long
STEP = 1000


class Retention:
    """Finds what is older than the retention, and erases what has ended."""

    def __init__(self, store: DeliveryStore, trail: AuditTrail) -> None:
        self._store = store
        self._trail = trail

    def configure(self, snapshot: Snapshot) -> None:
        self._retention_ns = snapshot.config.retention.ns
        self._names = {row.id: row.name for row in self._store.endpoints()}

    def purge(self, now_ns: int) -> bool:
        """Erases up to STEP deliveries; True if there may be more. Raises StoreError, having erased
        nothing that is not in the trail."""
        expired = self._store.expired(now_ns - self._retention_ns, STEP)
        if not expired:
            return False
        self.erase(expired, now_ns)
        return len(expired) == STEP

    def erase(self, ended: list[Delivery], now_ns: int) -> None:
        """Erases deliveries that have ended, once the trail has an entry for each that failed."""
        failed = [self._entry(d, now_ns) for d in ended if d.state != State.DELIVERED]
        if failed:
            self._trail.append(failed)
        self._store.purge(d.id for d in ended)

    def overdue(self, now_ns: int) -> list[Delivery]:
        """Deliveries that have been pending for longer than the retention."""
        return self._store.pending_since(now_ns - self._retention_ns, STEP)

    def _entry(self, delivery: Delivery, now_ns: int) -> AuditEntry:
        return AuditEntry(
            at=timestamp(now_ns),
            action="purged",
            endpoint=self._names.get(delivery.endpoint, str(delivery.endpoint)),
            event_id=delivery.event_id,
            type=delivery.type,
            accepted_at=timestamp(delivery.accepted_ns),
            ended_at=timestamp(delivery.ended_ns or now_ns),
            attempts=delivery.attempts,
            cause=delivery.cause,
            error=delivery.error,
        )
