"""What the supervisor does when it is asked for a change (control.py)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fluxhook import control as c
from fluxhook.config.units import Duration
from fluxhook.errors import Conflict, UnknownEndpoint
from fluxhook.events.names import hint
from fluxhook.scheduler.scheduler import Scheduler
from fluxhook.store import DeliveryStore
from fluxhook.supervisor.subscriptions import Subscriptions
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Changes"]


class Changes:
    """Applies one request at a time. What was changed is in effect when `apply` returns."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        store: DeliveryStore,
        scheduler: Scheduler,
        clock: EngineClock,
        publish: Callable[[], Snapshot],
    ) -> None:
        """Take what the changes need; `publish` makes every process use the present subscriptions."""
        self._subscriptions = subscriptions
        self._store = store
        self._scheduler = scheduler
        self._clock = clock
        self._publish = publish

    def apply(self, request: c.Request) -> msgspec.Struct:
        """Apply a request and return its reply. Raise FluxhookError where it cannot be granted;
        nothing was changed then."""
        now_ns = self._clock.now_ns()
        match request:
            case c.Create(layer):
                name, secret, notices = self._subscriptions.create(layer, now_ns)
                id = self._publish().ids[name]
                self._scheduler.begin_anew(id)
                return c.Subscription(name, id, secret, list(map(str, notices)))
            case c.Update(name, patch):
                notices = self._subscriptions.update(name, patch, now_ns)
                id = self._publish().ids[name]
                return c.Subscription(name, id, None, list(map(str, notices)))
            case c.Delete(name):
                self._subscriptions.delete(name)
                self._publish()
            case c.Pause(name):
                self._store.pause_endpoint(self._id(name), True)
                self._publish()
            case c.Resume(name):
                self._resume(name, now_ns)
            case c.Rotate(name, secret, overlap_ns):
                new, until_ns = self._subscriptions.rotate(
                    name, secret, Duration(overlap_ns), now_ns
                )
                self._publish()
                return c.Rotated(new, secret is None, self._clock.wall_ns(until_ns))
            case c.Test(name, type, data):
                return self._test(name, type, data, now_ns)
            case c.Replay(ids):
                return c.Done(self._scheduler.replay(ids[: c.MAX_IDS], now_ns))
            case c.Purge(ids):
                return c.Done(self._scheduler.purge(ids[: c.MAX_IDS], now_ns))
        return c.Done()

    def _resume(self, name: str, now_ns: int) -> None:
        id = self._id(name)
        self._subscriptions.resume(name, now_ns)
        self._store.pause_endpoint(id, False)
        if any(row.id == id and row.disabled_ns is not None for row in self._store.endpoints()):
            self._store.enable_endpoint(id)
        self._scheduler.begin_anew(id)
        self._publish()

    def _test(self, name: str, type: str, data: object, now_ns: int) -> c.TestSent:
        id = self._id(name)
        if reason := self._scheduler.snapshot.held.get(name):
            raise Conflict(f"{name!r:.80} is misconfigured, so nothing can be sent: {reason}")
        endpoint = self._scheduler.endpoint(id)
        if endpoint is None or endpoint.paused:
            raise Conflict(
                f"{name!r:.80} is {'paused' if endpoint else 'disabled'}; resume it first"
            )
        row = self._scheduler.send_test(id, type, data, now_ns)
        return c.TestSent(row.event_id, row.id)

    def _id(self, name: str) -> int:
        ids = self._scheduler.snapshot.ids
        if name not in ids:
            raise UnknownEndpoint(f"there is no endpoint {name!r:.80}{hint(name, ids)}")
        return ids[name]
