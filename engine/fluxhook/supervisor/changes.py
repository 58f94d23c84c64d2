"""What the supervisor does when it is asked for a change (control.py)."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from fluxhook import control as c
from fluxhook.config.definition import default_endpoint
from fluxhook.config.schema import Endpoint
from fluxhook.config.shown import endpoint_difference
from fluxhook.config.units import Duration
from fluxhook.errors import Conflict, FluxhookError, UnknownEndpoint
from fluxhook.events.names import hint
from fluxhook.scheduler.dead_letters import RecordRows
from fluxhook.scheduler.scheduler import Scheduler
from fluxhook.store import DeliveryRow, DeliveryStore, State
from fluxhook.store.audit import timestamp
from fluxhook.store.delivery_id import shown_id
from fluxhook.supervisor.change_log import ChangeLog
from fluxhook.supervisor.subscriptions import Record, Subscriptions
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import EventHead
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Changes"]

#: ids of deliveries that an entry names, the first ones; arbitrary
MAX_NAMED: Final = 20
#: between two steps that are one change; arbitrary, above what a step of a busy client takes
STEP_S: Final = 60.0
#: walks that are remembered, the latest; arbitrary
MAX_WALKS: Final = 64


class Changes:
    """Applies one request at a time. What was changed is in effect when `apply` returns.

    Each change that is made is one entry of the trail of changes, which is on the disk before it is
    made. Killed in between, the engine has an entry of a change that it did not make, never the other
    way round.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        store: DeliveryStore,
        scheduler: Scheduler,
        clock: EngineClock,
        publish: Callable[[], Snapshot],
        trail: ChangeLog,
    ) -> None:
        """Take what the changes need; `publish` makes every process use the present subscriptions."""
        self._subscriptions = subscriptions
        self._store = store
        self._scheduler = scheduler
        self._clock = clock
        self._publish = publish
        self._trail = trail
        self._walks = _Walks()

    def apply(self, request: c.Request, origin: c.Origin) -> msgspec.Struct:
        """Apply a request and return its reply. Raise FluxhookError where it cannot be granted;
        nothing was changed then."""
        change = _Change(self._trail, origin)
        try:
            return self._apply(request, change, self._clock.now_ns())
        except FluxhookError as e:
            change.failed(e)
            raise

    def _apply(self, request: c.Request, change: _Change, now_ns: int) -> msgspec.Struct:
        match request:
            case c.Create(layer):
                record = self._recorder(change, "webhook.create")
                name, secret, notices = self._subscriptions.create(layer, now_ns, record)
                id = self._publish().ids[name]
                self._scheduler.begin_anew(id)
                return c.Subscription(name, id, secret, list(map(str, notices)))
            case c.Update(name, patch):
                record = self._recorder(change, "webhook.update")
                notices = self._subscriptions.update(name, patch, now_ns, record)
                id = self._publish().ids[name]
                return c.Subscription(name, id, None, list(map(str, notices)))
            case c.Delete(name):
                self._subscriptions.delete(name, self._recorder(change, "webhook.delete"))
                self._publish()
            case c.Pause(name):
                self._pause(name, change)
            case c.Resume(name):
                self._resume(name, change, now_ns)
            case c.Rotate(name, secret, overlap_ns):
                overlap = Duration(overlap_ns)
                record = self._recorder(change, "webhook.rotate", overlap=str(overlap))
                new, until_ns = self._subscriptions.rotate(name, secret, overlap, now_ns, record)
                self._publish()
                return c.Rotated(new, secret is None, self._clock.wall_ns(until_ns))
            case c.CloseBreaker(name):
                self._close_breaker(name, change)
            case c.Test(name, type, data):
                return self._test(name, type, data, change, now_ns)
            case c.Replay(ids, walk):
                some = ids[: c.MAX_IDS]
                record_step = self._step_recorder(change, "dead-letters.replay", some, walk)
                return c.Done(self._scheduler.replay(some, now_ns, record_step))
            case c.Purge(ids, walk):
                some = ids[: c.MAX_IDS]
                record_step = self._step_recorder(change, "dead-letters.purge", some, walk)
                return c.Done(self._scheduler.purge(some, now_ns, record_step))
            case c.Retry(name, ids, walk):
                id = self._sending(name)
                if not walk.after:  # later it may have opened by what the steps before have sent
                    self._check_breaker(name, id, now_ns)
                some = ids[: c.MAX_IDS]
                record_step = self._step_recorder(change, "webhook.retry", some, walk)
                return c.Done(self._scheduler.hurry(id, some, now_ns, record_step))
            case c.RetryDelivery(id):
                return self._retry_delivery(id, change, now_ns)
            case c.Resend(id):
                return self._resend(id, change, now_ns)
        return c.Done()

    # ---- endpoints -------------------------------------------------------------------------

    def _pause(self, name: str, change: _Change) -> None:
        id = self._id(name)
        if "paused" in self._halts(name, id):
            change.record("webhook.pause", name)
        else:
            change.record("webhook.pause", name, before={"paused": False}, after={"paused": True})
        self._store.pause_endpoint(id, True)
        self._publish()

    def _resume(self, name: str, change: _Change, now_ns: int) -> None:
        id = self._id(name)
        self._subscriptions.check_resumable(name)
        halts = self._halts(name, id)
        before, after = dict.fromkeys(halts, True), dict.fromkeys(halts, False)
        change.record("webhook.resume", name, before=before, after=after)
        self._subscriptions.resume(name, now_ns)
        self._store.pause_endpoint(id, False)
        if "disabled" in halts:
            self._store.enable_endpoint(id)
        self._scheduler.begin_anew(id)
        self._publish()

    def _halts(self, name: str, id: int) -> list[str]:
        """Return what holds an endpoint back: paused, disabled."""
        endpoint = self._scheduler.snapshot.endpoint(name)
        found = ["paused"] if endpoint is not None and endpoint.paused else []
        disabled = any(r.id == id and r.disabled_ns is not None for r in self._store.endpoints())
        return [*found, "disabled"] if disabled else found

    def _close_breaker(self, name: str, change: _Change) -> None:
        id = self._sending(name)
        before = self._scheduler.breaker(id)
        differs = {} if before == "closed" else {"breaker": before}
        after = {"breaker": "closed"} if differs else {}
        change.record("webhook.close-breaker", name, before=differs, after=after)
        self._scheduler.close_breaker(id)

    def _recorder(self, change: _Change, action: str, **more: str) -> Record:
        """Return what records a change of an endpoint, with `more` that is there after it."""

        def record(before: Endpoint | None, after: Endpoint | None) -> None:
            default = default_endpoint(self._subscriptions.config)
            old, new = endpoint_difference(before, after, default)
            name = (after or before or default).name
            change.record(action, name, before=old, after={**new, **more})

        return record

    # ---- deliveries ------------------------------------------------------------------------

    def _test(self, name: str, type: str, data: object, change: _Change, now_ns: int) -> c.TestSent:
        id = self._sending(name)
        event, body = self._scheduler.make_test(id, type, data, now_ns)
        change.record("webhook.test", name, after={"event_id": event.event_id, "type": type})
        return self._send(id, event, body, now_ns)

    def _resend(self, delivery_id: int, change: _Change, now_ns: int) -> c.Resent:
        self._scheduler.check_committed()
        row = self._store.delivery(delivery_id)
        if row is None:
            return c.Resent(None)
        shown = shown_id(delivery_id)
        if row.state != State.DELIVERED:
            raise Conflict(f"{shown} was not delivered: it {_STATES[State(row.state)]}")
        body = self._store.body(delivery_id)
        if body is None:
            raise Conflict(f"the body of {shown} is not kept, so it cannot be sent again")
        name = self._sending_of(row)
        change.record("delivery.resend", shown, endpoint=name, after=_event(row))
        return c.Resent(self._send(row.endpoint, row.event, body, now_ns))

    def _send(self, id: int, event: EventHead, body: bytes, now_ns: int) -> c.TestSent:
        """Have an event delivered to one endpoint, and say until when an open breaker holds it."""
        held_ns = self._scheduler.held_until_ns(id, now_ns)
        cause = "" if held_ns is None else "breaker_open"
        row = self._scheduler.send(id, event, body, now_ns, cause)
        until_ns = None if held_ns is None else self._clock.wall_ns(held_ns)
        return c.TestSent(row.event_id, row.id, until_ns)

    def _retry_delivery(self, delivery_id: int, change: _Change, now_ns: int) -> c.Done:
        self._scheduler.check_committed()
        row = self._store.delivery(delivery_id)
        if row is None:
            return c.Done(0)
        shown = shown_id(delivery_id)
        if row.state != State.WAITING:
            raise Conflict(f"{shown} does not wait for its time: it {_STATES[State(row.state)]}")
        name = self._sending_of(row)
        self._check_breaker(name, row.endpoint, now_ns)
        if self._store.is_leased(delivery_id):
            raise Conflict(f"{shown} is with a worker already, and is attempted now")
        if row.cause == "suspect":
            raise Conflict(
                f"{shown} is tried by itself within seconds: a worker ended while it had it"
            )

        def record(rows: list[DeliveryRow]) -> None:
            due_at = timestamp(self._clock.wall_ns(row.due_ns))
            now_at = timestamp(self._clock.wall_ns(now_ns))
            change.record(
                "delivery.retry", shown, endpoint=name,
                before={"due_at": due_at}, after={"due_at": now_at},
            )  # fmt: skip

        self._scheduler.hurry(row.endpoint, [delivery_id], now_ns, record)
        return c.Done(1)

    def _step_recorder(
        self, change: _Change, action: str, ids: list[int], walk: c.Walk | None
    ) -> RecordRows:
        """Return what records a step of a change of many deliveries, unless it goes on with one that
        has its entry."""
        key = (change.origin, action, json.dumps(walk and walk.chosen, sort_keys=True))
        goes_on = walk is not None and self._walks.go_on(key, walk.after)
        ends_at = ids[-1] if walk is not None and walk.more and ids else None
        if goes_on and ends_at is not None:
            self._walks.expect(key, ends_at)

        def record(rows: list[DeliveryRow]) -> None:
            if goes_on:
                return
            if walk is None and len(rows) == 1:
                (row,) = rows
                target, name = shown_id(row.id), self._name(row.endpoint)
                change.record(action, target, endpoint=name, after=_event(row))
                return
            after, name = self._counted(rows), ""
            if walk is not None:
                after = {"chosen": _chosen(walk.chosen), **after}
                name = str(walk.chosen.get("endpoint", ""))
            if ends_at is not None:
                after["more"] = True
            change.record(action, name, after=after)
            if ends_at is not None:
                self._walks.expect(key, ends_at)

        return record

    def _counted(self, rows: list[DeliveryRow]) -> dict[str, Any]:
        """Return how many there are, of which endpoints, and which are the first."""
        of = Counter(self._name(row.endpoint) for row in rows)
        return {
            "count": len(rows),
            "endpoints": dict(of.most_common(MAX_NAMED)),
            "ids": [shown_id(row.id) for row in rows[:MAX_NAMED]],
        }

    # ---- what stands in the way ------------------------------------------------------------

    def _sending(self, name: str) -> int:
        """Return the id of an endpoint to which something can be sent. Raise UnknownEndpoint,
        Conflict."""
        id = self._id(name)
        snapshot = self._scheduler.snapshot
        if reason := snapshot.held.get(name):
            raise Conflict(f"{name!r:.80} is misconfigured, so nothing can be sent: {reason}")
        if not snapshot.config.enabled:
            raise Conflict("nothing is sent: the configuration says enabled: false")
        endpoint = self._scheduler.endpoint(id)
        if endpoint is None or endpoint.paused:
            raise Conflict(
                f"{name!r:.80} is {'paused' if endpoint else 'disabled'}; resume it first"
            )
        return id

    def _sending_of(self, row: DeliveryRow) -> str:
        """Return the name of a delivery's endpoint, if something can be sent there. Raise Conflict."""
        name = self._name(row.endpoint)
        if name not in self._scheduler.snapshot.ids:
            raise Conflict(f"its webhook {name!r:.80} was removed, so nothing can be sent there")
        self._sending(name)
        return name

    def _check_breaker(self, name: str, id: int, now_ns: int) -> None:
        """Raise Conflict while an open breaker lets nothing go."""
        held_ns = self._scheduler.held_until_ns(id, now_ns)
        if held_ns is not None:
            at = timestamp(self._clock.wall_ns(held_ns))
            raise Conflict(
                f"the breaker of {name!r:.80} is open until {at}, so nothing is sent now; close it "
                "first (close-breaker)"
            )

    def _name(self, id: int) -> str:
        """Return the name of an endpoint, be it removed."""
        return self._scheduler.endpoints.name(id)

    def _id(self, name: str) -> int:
        ids = self._scheduler.snapshot.ids
        if name not in ids:
            raise UnknownEndpoint(f"there is no endpoint {name!r:.80}{hint(name, ids)}")
        return ids[name]


class _Change:
    """One request, which has at most one entry, and one more if the change fails after all."""

    def __init__(self, trail: ChangeLog, origin: c.Origin) -> None:
        self.origin = origin
        self._trail = trail
        self._recorded: tuple[str, dict[str, str]] | None = None

    def record(
        self,
        action: str,
        target: str,
        *,
        endpoint: str | None = None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the entry of a change that is about to be made. Raise StoreError where that fails."""
        which = {"target": target, "endpoint": target if endpoint is None else endpoint}
        self._trail.record(
            self.origin, action, **which, before=dict(before or {}), after=dict(after or {})
        )
        self._recorded = action, which

    def failed(self, error: FluxhookError) -> None:
        """Note that the change was not made, if it has an entry."""
        if self._recorded is not None:
            action, which = self._recorded
            self._trail.note(self.origin, action, **which, error=f"{error}"[:500])


class _Walks:
    """Changes that are made in steps, each by a request, so that they have one entry together."""

    def __init__(self) -> None:
        #: where the next step of each begins, and until when it is one
        self._expected: dict[Any, tuple[int, float]] = {}

    def go_on(self, key: Any, after: int) -> bool:
        """Return whether a step that begins there is the next one of a change that has an entry."""
        begins, until = self._expected.pop(key, (-1, 0.0))
        return bool(after) and begins == after and time.monotonic() < until

    def expect(self, key: Any, after: int) -> None:
        while len(self._expected) >= MAX_WALKS:
            del self._expected[next(iter(self._expected))]
        self._expected[key] = after, time.monotonic() + STEP_S


_STATES: Final = {
    State.WAITING: "waits for an attempt; retry it instead",
    State.BLOCKED: "waits behind an earlier delivery of its order key; retry that one",
    State.DELIVERED: "was delivered; resend it instead",
    State.DEAD: "is a dead letter; replay it instead",
    State.DROPPED: "was dropped by a policy",
}


def _event(row: DeliveryRow) -> dict[str, Any]:
    return {"event_id": row.event_id, "type": row.type}


def _chosen(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a selection as an entry has it."""
    return {
        name.removesuffix("_ns"): timestamp(value) if name.endswith("_ns") else f"{value:.200}"
        for name, value in chosen.items()
    }
