"""How long a failed event is kept: for `retention` it can be looked at and replayed, then it is
written to the audit trail and erased.

"Failed events are retained for 24 hours before being purged and logged to the audit trail" (FluxGate).
An event that could not be delivered for that long, because its endpoint was paused or its breaker
open, has failed too. An engine that was away for longer than a moment finds nothing too old for the
first hour: what waited is attempted before it is given up.
"""

from __future__ import annotations

from fluxhook.store import State, Store
from fluxhook.store.audit import AuditEntry, AuditTrail, timestamp
from fluxhook.store.records import Delivery
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Retention"]

#: deliveries that one step erases, so that none lasts long
STEP = 1000
#: after an engine was away, before anything is found too old; arbitrary: time enough to attempt what
#: waited, and to look into what was about to be erased
SPARED_NS = 3600 * 1_000_000_000


class Retention:
    """Finds what is older than the retention, and erases what has ended."""

    def __init__(self, store: Store, trail: AuditTrail, clock: EngineClock) -> None:
        self._store = store
        self._trail = trail
        self._clock = clock
        self._spared_until_ns = 0

    def configure(self, snapshot: Snapshot) -> None:
        self._retention_ns = snapshot.config.retention.ns
        self._names = {row.id: row.name for row in self._store.endpoints()}

    def purge(self, now_ns: int) -> bool:
        """Erases up to STEP deliveries; True if there may be more. Raises StoreError, having erased
        nothing that is not in the trail."""
        if now_ns < self._spared_until_ns:
            return False
        # Dated earlier than anything can be that ended within the retention.
        before_ns = self._clock.known.earliest_wall_ns(now_ns - self._retention_ns)
        expired = self._store.expired(before_ns, STEP)
        if not expired:
            return False
        self.erase(expired, now_ns)
        return len(expired) == STEP

    def erase(self, ended: list[Delivery], now_ns: int) -> None:
        """Erases deliveries that have ended, once the trail has an entry for each that failed."""
        wall_ns = self._clock.wall_ns(now_ns)
        failed = [self._entry(d, wall_ns) for d in ended if d.state != State.DELIVERED]
        if failed:
            self._trail.append(failed)
        self._store.purge(d.id for d in ended)

    def overdue(self, now_ns: int) -> list[Delivery]:
        """Deliveries that have been pending for longer than the retention."""
        if now_ns < self._spared_until_ns:
            return []
        return self._store.pending_since(now_ns - self._retention_ns, STEP)

    def spare(self, now_ns: int) -> None:
        """Nothing grows too old for a while: the engine was away, for a time that it could not use,
        or that only the clock of a machine that booted makes long."""
        self._spared_until_ns = now_ns + min(SPARED_NS, self._retention_ns)

    def _entry(self, delivery: Delivery, wall_ns: int) -> AuditEntry:
        return AuditEntry(
            at=timestamp(wall_ns),
            action="purged",
            endpoint=self._names.get(delivery.endpoint, str(delivery.endpoint)),
            event_id=delivery.event_id,
            type=delivery.type,
            accepted_at=timestamp(delivery.accepted_ns),
            ended_at=timestamp(delivery.ended_ns or wall_ns),
            attempts=delivery.attempts,
            cause=delivery.cause,
            error=delivery.error,
        )
