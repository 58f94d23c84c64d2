"""Watches the health of endpoints, and tells of each change: in the log, and to the host.

Every failed attempt is in a report, so an endpoint whose attempts succeed costs nothing here. Of one
that fails the words are looked at with each report, and once a second: workers move the breaker, and
before they report the attempt that moved it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from fluxhook._native import shared
from fluxhook.config.schema import Breaker
from fluxhook.config.units import Duration
from fluxhook.endpoint_state import endpoint_state
from fluxhook.logs.log import Log
from fluxhook.policy import endpoint_log
from fluxhook.policy.breaker import CLOSED
from fluxhook.policy.endpoint_log import Failures, Known, Seen
from fluxhook.policy.failing import Health, is_ignored
from fluxhook.policy.outcome import CAUSES, GIVEN_UP, NOT_ATTEMPTED
from fluxhook.policy.table import IllegalMove
from fluxhook.store import Store, StoreError
from fluxhook.store.audit import timestamp
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.host_channel import EndpointStateChange
from fluxhook.transport.snapshot import Snapshot

__all__ = ["EndpointWatch"]

#: how often an endpoint is looked at that fails
LOOK_NS: Final = 1_000_000_000
_NOTHING: Final = (0, "", "")

log = Log("endpoint")


class EndpointWatch:
    """One supervisor's. `tell` gets each change of an endpoint's state."""

    def __init__(
        self,
        datadir: d.DataDir,
        words: EngineWords,
        clock: EngineClock,
        snapshot: Snapshot,
        store: Store,
        tell: Callable[[EndpointStateChange], None],
    ) -> None:
        self._datadir = datadir
        self._store = store
        self._words = words
        self._clock = clock
        self._tell = tell
        #: of the workers, by folder
        self._counters: dict[Path, shared.Counters] = {}
        #: deliveries that are in no worker's counters, since the scheduler counts them
        self._reported = {
            id: counted.get("delivered", 0) for id, counted in store.counters().items()
        }
        #: time (of the wall), cause and error of the latest failed attempt, or death without one
        self._last = {
            row.id: (row.failed_ns or 0, row.failed_cause, row.failed_error)
            for row in store.endpoints()
            if row.failed_cause
        }
        self._failures: dict[int, Failures] = {}
        #: those that fail, or did a while ago
        self._known: dict[int, Known] = {}
        #: whose states may change by time alone, or have not been looked at since something happened
        self._unsettled: set[int] = set()
        #: the last state that was told
        self._states: dict[str, str] = {}
        self._next_look_ns = 0
        self._take_over(snapshot)
        now_ns = clock.now_ns()
        for id in snapshot.endpoints():
            seen = self._seen(id, None)
            if seen.failing_ns or seen.breaker.name != "closed":
                self._known[id] = endpoint_log.begin(seen, now_ns)
        self._states = {name: self._state(name, now_ns) for name in snapshot.ids}
        self._unsettled = {
            snapshot.ids[name] for name, state in self._states.items() if state != "active"
        }

    # ---- what happens ----------------------------------------------------------------------

    def configure(self, snapshot: Snapshot) -> None:
        """Take over a changed configuration."""
        former, present = self._snapshot, self._present
        self._take_over(snapshot)
        gone = self._known.keys() - snapshot.endpoints().keys()
        for id in gone:
            del self._known[id]
        self._failures = {id: found for id, found in self._failures.items() if id not in gone}
        now_ns = self._clock.now_ns()
        changed = [
            name
            for name in present.keys() | self._present.keys()
            if present.get(name) is not self._present.get(name)
        ]
        stopped = (former.held.keys() ^ snapshot.held.keys()) | (
            former.disabled ^ snapshot.disabled
        )
        for name in {*changed, *stopped}:
            self._tell_state(name, now_ns)

    def _take_over(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_id = snapshot.endpoints()
        self._present = {endpoint.name: endpoint for endpoint in snapshot.config.endpoints}
        for folder in self._datadir.worker_folders():
            if folder not in self._counters:
                with contextlib.suppress(OSError, shared.LayoutMismatch):
                    self._counters[folder] = shared.Counters(
                        str(folder / "counters"), 0, d.WORKER_FIELDS, writable=False
                    )

    def attempt_failed(self, endpoint_id: int, wall_ns: int, cause: str, error: str) -> None:
        """Note a failed attempt whose report is committed."""
        self._last[endpoint_id] = wall_ns, cause, error
        known = self._failures.get(endpoint_id)
        self._failures[endpoint_id] = Failures(
            1 if known is None else known.attempts + 1, cause, error
        )

    def died(self, endpoint_id: int, wall_ns: int, cause: str, error: str) -> None:
        """Note a dead letter that is committed."""
        if cause not in GIVEN_UP:
            self._last[endpoint_id] = wall_ns, cause, error
        self._unsettled.add(endpoint_id)

    def delivered(self, endpoint_id: int) -> None:
        """Note a delivery that was reported."""
        self._reported[endpoint_id] = self._reported.get(endpoint_id, 0) + 1

    @property
    def watched(self) -> set[int]:
        """Return the ids of the endpoints that are looked at once a second."""
        return self._known.keys() | self._failures.keys() | self._unsettled

    # ---- looking ---------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """Look at those of which failures came, and once a second at all that fail."""
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_NS
            ids: Iterable[int] = self.watched
        else:
            ids = list(self._failures)
        for id in ids:
            self._look_at(id, now_ns)

    def _look_at(self, id: int, now_ns: int) -> None:
        failures = self._failures.pop(id, None)
        endpoint = self._by_id.get(id)
        if endpoint is None:  # removed, or disabled
            self._unsettled.discard(id)
            return
        before = self._known.get(id, endpoint_log.WELL)
        after, events = endpoint_log.look(
            before, self._seen(id, failures), now_ns, breaker=endpoint.circuit_breaker
        )
        if after.is_forgotten(now_ns):
            self._known.pop(id, None)
        else:
            self._known[id] = after
        for event in events:
            self._log(endpoint.name, endpoint.circuit_breaker, event)
        self._tell_state(endpoint.name, now_ns, failed=failures is not None)

    def _seen(self, id: int, failures: Failures | None) -> Seen:
        try:
            state = self._words.breaker(id)
        except IllegalMove:
            state = CLOSED
        return Seen(state, self._words.failing_ns(id), self._delivered(id), failures)

    def _delivered(self, id: int) -> int:
        return self._sum(id, d.DELIVERED) + self._reported.get(id, 0)

    def _sum(self, id: int, field: int) -> int:
        """Return a counter of all workers."""
        return sum(c.get(id, field) for c in self._counters.values() if id < c.rows)

    # ---- telling ---------------------------------------------------------------------------

    def _log(self, name: str, breaker: Breaker, event: endpoint_log.Event) -> None:
        fields: dict[str, str | int | float | None] = {
            "endpoint": name,
            "cause": event.cause,
            "error": event.error,
            "for_s": event.for_ns / 1e9,
            "count": event.failed,
        }
        lasted = _lasting(event.for_ns)
        why = CAUSES[event.cause].user if event.cause in CAUSES else event.cause
        if event.next_ns is not None:
            fields["next_at"] = timestamp(self._clock.wall_ns(event.next_ns))
        if event.probes:
            fields["probes"] = event.probes
        match event.kind:
            case "first_failure":
                log.warning(
                    "endpoint %s: first failed attempt: %s", name, why,
                    event="first_failure", **fields,
                )  # fmt: skip
            case "breaker_opened":
                log.warning(
                    "endpoint %s: breaker opened for %s, after %d failures in a row: %s",
                    name, breaker.reset_timeout, breaker.failure_threshold, why,
                    event="breaker_opened", in_a_row=breaker.failure_threshold, **fields,
                )  # fmt: skip
            case "breaker_closed":
                log.info(
                    "endpoint %s: breaker closed after %s", name, lasted,
                    event="breaker_closed", **fields,
                )  # fmt: skip
            case "still_failing":
                log.warning(
                    "endpoint %s still fails, for %s: %s", name, lasted, why,
                    event="still_failing", **fields,
                )  # fmt: skip
            case "recovered":
                log.info(
                    "endpoint %s recovered after %s, failed attempts: %d",
                    name, lasted, event.failed, event="recovered", **fields,
                )  # fmt: skip

    def _state(self, name: str, now_ns: int, *, failed: bool = False) -> str:
        """Return an endpoint's state as every view shows it; a half-open breaker counts as open.
        `failed`: an attempt failed just now."""
        endpoint = self._present.get(name)
        if endpoint is None:
            return "removed"
        id = self._snapshot.ids[name]
        health = Health(
            delivered=self._delivered(id),
            failed_attempts=self._sum(id, d.FAILED),
            last_cause=self._last.get(id, _NOTHING)[1],
            # What failed just now waits, or has died, and to ask takes a while where much waits.
            waits_since=self._words.stored(id) > 0 and (failed or self._waits_since_ignored(id)),
        )
        try:
            state = endpoint_state(self._snapshot, endpoint, self._words, now_ns, health).state
        except IllegalMove:
            return "unknown"
        return "open" if state == "half-open" else state

    def _waits_since_ignored(self, id: int) -> bool:
        """Return whether the breaker ignored the latest failure, and something from before it waits."""
        failed_ns, cause, _ = self._last.get(id, _NOTHING)
        if not is_ignored(cause):
            return False
        try:
            oldest_ns = self._store.oldest_ns(id)
        except StoreError:  # the step that works with the store says so
            return True
        return oldest_ns is not None and oldest_ns <= failed_ns

    def _tell_state(self, name: str, now_ns: int, *, failed: bool = False) -> None:
        before = self._states.get(name, "active")
        state = self._state(name, now_ns, failed=failed)
        id = self._snapshot.ids.get(name, -1)
        if state in ("active", "removed"):
            self._unsettled.discard(id)
        else:
            self._unsettled.add(id)
        if state == "removed":
            self._states.pop(name, None)
        else:
            self._states[name] = state
        if state == before:
            return
        last = self._last.get(id, _NOTHING) if state in ("failing", "open") else _NOTHING
        _, cause, error = last
        self._tell(
            EndpointStateChange(
                endpoint=name,
                state=state,
                before=before,
                reason=self._reason(state, name, id, cause),
                cause=cause,
                error=error,
                at_ns=self._clock.wall_ns(now_ns),
            )
        )

    def _reason(self, state: str, name: str, id: int, cause: str) -> str:
        if state == "misconfigured":
            return self._snapshot.held.get(name, "")
        if state == "disabled":
            return next((r.disabled_reason for r in self._store.endpoints() if r.id == id), "")
        return CAUSES[cause].user if cause in CAUSES else NOT_ATTEMPTED.get(cause, "")


def _lasting(ns: int) -> str:
    """Return a time in words: whole seconds, or less of a short one."""
    return str(Duration(ns - ns % 1_000_000_000 if ns >= 10**10 else ns - ns % 1_000_000))
