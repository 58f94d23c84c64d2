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
from fluxhook.config.units import Duration
from fluxhook.logs.log import Log
from fluxhook.policy import breaker, endpoint_log
from fluxhook.policy.endpoint_log import Failures, Known, Seen
from fluxhook.policy.outcome import CAUSES
from fluxhook.policy.table import IllegalMove
from fluxhook.store.audit import timestamp
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.host_channel import EndpointStateChange
from fluxhook.transport.snapshot import Snapshot

__all__ = ["EndpointWatch"]

#: how often an endpoint is looked at that fails
LOOK_NS: Final = 1_000_000_000

log = Log("endpoint")


class EndpointWatch:
    """One supervisor's. `tell` gets each change of an endpoint's state."""

    def __init__(
        self,
        datadir: d.DataDir,
        words: EngineWords,
        clock: EngineClock,
        snapshot: Snapshot,
        tell: Callable[[EndpointStateChange], None],
    ) -> None:
        self._datadir = datadir
        self._words = words
        self._clock = clock
        self._tell = tell
        #: of the workers, by folder
        self._counters: dict[Path, shared.Counters] = {}
        #: deliveries of which the scheduler had a report, since it began
        self._reported: dict[int, int] = {}
        self._failures: dict[int, Failures] = {}
        #: those that fail, or did a while ago
        self._known: dict[int, Known] = {}
        #: the last state that was told
        self._states: dict[str, str] = {}
        self._next_look_ns = 0
        self._take_over(snapshot)
        now_ns = clock.now_ns()
        for id in snapshot.endpoints():
            seen = self._seen(id, None)
            if seen.failing_ns or seen.breaker.name != "closed":
                self._known[id] = endpoint_log.begin(seen, now_ns)
        self._states = {name: self._state(name)[0] for name in snapshot.ids}

    # ---- what happens ----------------------------------------------------------------------

    def configure(self, snapshot: Snapshot) -> None:
        """Take over a changed configuration."""
        former = self._snapshot.ids
        self._take_over(snapshot)
        gone = self._known.keys() - snapshot.endpoints().keys()
        for id in gone:
            del self._known[id]
        self._failures = {id: found for id, found in self._failures.items() if id not in gone}
        now_ns = self._clock.now_ns()
        for name in snapshot.ids.keys() - former.keys():
            self._states.setdefault(name, "active")
        for name in dict.fromkeys([*self._states, *snapshot.ids]):
            self._tell_state(name, now_ns)

    def _take_over(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._by_id = snapshot.endpoints()
        self._names = {id: name for name, id in snapshot.ids.items()}
        self._present = {endpoint.name: endpoint for endpoint in snapshot.config.endpoints}
        for folder in self._datadir.worker_folders():
            if folder not in self._counters:
                with contextlib.suppress(OSError, shared.LayoutMismatch):
                    self._counters[folder] = shared.Counters(
                        str(folder / "counters"), 0, d.WORKER_FIELDS, writable=False
                    )

    def attempt_failed(self, endpoint_id: int, cause: str, error: str) -> None:
        """Note a failed attempt whose report is committed."""
        known = self._failures.get(endpoint_id)
        self._failures[endpoint_id] = Failures(
            1 if known is None else known.attempts + 1, cause, error
        )

    def delivered(self, endpoint_id: int) -> None:
        """Note a delivery that was reported."""
        self._reported[endpoint_id] = self._reported.get(endpoint_id, 0) + 1

    # ---- looking ---------------------------------------------------------------------------

    def look(self, now_ns: int) -> None:
        """Look at those of which failures came, and once a second at all that fail."""
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_NS
            ids: Iterable[int] = {**self._known, **self._failures}
        else:
            ids = list(self._failures)
        for id in ids:
            self._look_at(id, now_ns)

    def _look_at(self, id: int, now_ns: int) -> None:
        failures = self._failures.pop(id, None)
        endpoint = self._by_id.get(id)
        if endpoint is None:
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
            self._log(endpoint.name, event)
        if events:
            self._tell_state(endpoint.name, now_ns)

    def _seen(self, id: int, failures: Failures | None) -> Seen:
        try:
            state = self._words.breaker(id)
        except IllegalMove:
            state = breaker.CLOSED
        counted = sum(
            counters.get(id, d.DELIVERED)
            for counters in self._counters.values()
            if id < counters.rows
        )
        return Seen(
            state, self._words.failing_ns(id), counted + self._reported.get(id, 0), failures
        )

    # ---- telling ---------------------------------------------------------------------------

    def _log(self, name: str, event: endpoint_log.Event) -> None:
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
            case "failing":
                log.warning("endpoint %s fails: %s", name, why, event="failing", **fields)
            case "breaker_opened":
                log.warning(
                    "endpoint %s: breaker opened after %d failed attempts: %s",
                    name, event.failed, why, event="breaker_opened", **fields,
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
                    "endpoint %s recovered after %s and %d failed attempts",
                    name, lasted, event.failed, event="recovered", **fields,
                )  # fmt: skip

    def _state(self, name: str) -> tuple[str, str]:
        """Return an endpoint's state, and why it is in it."""
        snapshot, endpoint = self._snapshot, self._present.get(name)
        if endpoint is None:
            return "removed", "It is not configured any more."
        if name in snapshot.disabled:
            return "disabled", "It is disabled; its status says why."
        if name in snapshot.held:
            return "misconfigured", snapshot.held[name]
        if endpoint.paused:
            return "paused", "It is paused."
        found = self._known.get(snapshot.ids[name], endpoint_log.WELL)
        return found.state, CAUSES[found.cause].user if found.cause in CAUSES else ""

    def _tell_state(self, name: str, now_ns: int) -> None:
        before = self._states.get(name, "active")
        state, reason = self._state(name)
        if state == "removed":
            self._states.pop(name, None)
        else:
            self._states[name] = state
        if state == before:
            return
        id = self._snapshot.ids.get(name, -1)
        found = (
            self._known.get(id, endpoint_log.WELL)
            if state in ("failing", "open")
            else endpoint_log.WELL
        )
        self._tell(
            EndpointStateChange(
                endpoint=name,
                state=state,
                before=before,
                reason=reason,
                cause=found.cause,
                error=found.error,
                at_ns=self._clock.wall_ns(now_ns),
            )
        )


def _lasting(ns: int) -> str:
    """Return a time in words: whole seconds, or less of a short one."""
    return str(Duration(ns - ns % 1_000_000_000 if ns >= 10**10 else ns - ns % 1_000_000))
