"""How long a failed event is kept: for `retention` it can be looked at and replayed, then it is
written to the audit trail and erased.

"Failed events are retained for 24 hours before being purged and logged to the audit trail" (FluxGate).
An event that could not be delivered for that long, because its endpoint was paused or its breaker
open, has failed too. An engine that was away for longer than a moment finds nothing too old for the
first hour: what waited is attempted before it is given up.
"""

from __future__ import annotations

from typing import Final

from fluxhook.logs.log import Log
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.store import State, Store, StoreError
from fluxhook.store.audit import AuditEntry, AuditTrail, timestamp
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Retention"]

log = Log("store")

#: deliveries that one step erases, so that none lasts long
STEP: Final = 1000
#: how often the store is looked through
CHECK_NS: Final = 1_000_000_000
#: after an engine was away, before anything is found too old; arbitrary: time enough to attempt what
#: waited, and to look into what was about to be erased
SPARED_NS: Final = 3600 * 1_000_000_000


class Retention:
    """Gives up what has been pending for longer than that, and erases what ended as long ago."""

    def __init__(
        self, store: Store, trail: AuditTrail, clock: EngineClock, endpoints: Endpoints
    ) -> None:
        self._store = store
        #: of what is given up and erased
        self.trail = trail
        self._clock = clock
        self._endpoints = endpoints
        self._spared_until_ns = 0
        self._next_overdue_ns = self._next_purge_ns = 0
        #: the audit trail cannot be written
        self.purge_fails = False
        self.configure(endpoints.snapshot)

    def configure(self, snapshot: Snapshot) -> None:
        self._retention_ns = snapshot.config.retention.ns
        self._names = {row.id: row.name for row in self._store.endpoints()}

    def step(self, now_ns: int) -> int:
        """Make dead letters of what could not be delivered for too long, and erase what ended long ago;
        return when to do so again."""
        if now_ns >= self._next_overdue_ns:
            overdue = self._give_up_overdue(now_ns)
            self._next_overdue_ns = now_ns + (0 if overdue else CHECK_NS)
        if now_ns >= self._next_purge_ns:
            more = self._purge_unless_full(now_ns)
            self._next_purge_ns = now_ns + (0 if more else CHECK_NS)
        return min(self._next_overdue_ns, self._next_purge_ns)

    def _give_up_overdue(self, now_ns: int) -> bool:
        """Give up what is overdue; return True if there were any, and so may be more."""
        overdue = [d for d in self.overdue(now_ns) if not self._store.is_leased(d.id)]
        wall_ns = self._clock.wall_ns(now_ns)
        with self._store.transaction() as transaction:
            for delivery in overdue:
                transaction.dead_letter(
                    transaction.copy(delivery), wall_ns, "retention", event="overdue"
                )
        self._endpoints.publish_stored({delivery.endpoint for delivery in overdue})
        return bool(overdue)

    def _purge_unless_full(self, now_ns: int) -> bool:
        """Purge what has expired; return True if there may be more. Deliveries do not wait until the
        audit trail has room."""
        try:
            more = self.purge(now_ns)
        except StoreError as e:
            if not self.purge_fails:
                log.error("nothing is purged until the audit trail can be written: %s", e)
            self.purge_fails = True
            return False
        if self.purge_fails:
            log.info("the audit trail is written again")
        self.purge_fails = False
        return more

    def purge(self, now_ns: int) -> bool:
        """Erase up to STEP deliveries; True if there may be more. Raises StoreError, having erased
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

    def erase(self, ended: list[DeliveryRow], now_ns: int) -> None:
        """Erase deliveries that have ended, once the trail has an entry for each that failed."""
        wall_ns = self._clock.wall_ns(now_ns)
        failed = [self._entry(d, wall_ns) for d in ended if d.state != State.DELIVERED]
        if failed:
            self.trail.append(failed)
        self._store.purge(d.id for d in ended)

    def overdue(self, now_ns: int) -> list[DeliveryRow]:
        """Return deliveries that have been pending for longer than the retention."""
        if now_ns < self._spared_until_ns:
            return []
        return self._store.pending_since(now_ns - self._retention_ns, STEP)

    def spare(self, now_ns: int) -> None:
        """Find nothing too old for a while: the engine was away, for a time that it could not use,
        or that only the clock of a machine that booted makes long."""
        self._spared_until_ns = now_ns + min(SPARED_NS, self._retention_ns)

    def _entry(self, delivery: DeliveryRow, wall_ns: int) -> AuditEntry:
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
