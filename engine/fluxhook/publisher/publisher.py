"""The publisher: what a host program holds to emit events. It does no I/O but into mapped memory.

emit -> make the event -> match -> filter -> encode once for each style -> put into a worker's ring
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from fluxhook._native.event import EXPIRED
from fluxhook._native.ring import ACCEPTED, FORKED, least_backlog
from fluxhook._native.shared import Words
from fluxhook.config.schema import DropPolicy
from fluxhook.errors import EngineError, EngineNotRunning, EventError, QueueFull
from fluxhook.events import trace_context
from fluxhook.events.envelope import EnvelopeStyle
from fluxhook.events.event import Event, Native
from fluxhook.events.identity import is_plain_id
from fluxhook.logs.log import Log, described
from fluxhook.publisher.routing import Part, Routing
from fluxhook.publisher.slot import Slot
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.messages import EventHead
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Accepted", "OwnPublisher", "Prepared", "Publisher"]

log = Log("publisher")

#: how often `block` looks whether there is room
BLOCK_POLL_S = 0.0005

_to_json = msgspec.json.Encoder().encode


class Accepted(NamedTuple):
    """What became of an event: its id, for how many endpoints it was accepted and for how many the
    ring was full."""

    event_id: str
    endpoints: int
    refused: int


class Prepared(NamedTuple):
    """An event, whom it goes to under one version of the configuration, and what it is encoded as so
    far."""

    event: Event
    routing: Routing
    ids: tuple[int, ...]
    bodies: dict[EnvelopeStyle, bytes]


class Publisher:
    """Emits events into the engine of a data directory. Open one with `fluxhook.connect`.

    Safe to share among threads. After a fork the child's first `emit` attaches anew, so parent and
    child never write into the same ring. Accepted events are kept whether or not an engine runs.
    """

    #: the slot kept for this kind of publisher; None: the first free one
    slot_name: str | None = None
    #: it is the host that emits, whose trace OpenTelemetry knows
    in_host = True

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        drop_policy: DropPolicy | None = None,
    ) -> None:
        """Attach to the engine of `data_dir`; `fluxhook.connect` is the usual way.

        `drop_policy` is this publisher's own, instead of the configuration's; a bulk load wants
        `block`, so that it waits for the engine rather than push its own events out. Raise
        EngineNotRunning where no engine was ever started, TooManyPublishers, LayoutError.
        """
        self._datadir = d.DataDir(data_dir)
        self._drop_policy = drop_policy
        self._locks: dict[int, _Locks] = {}
        self._puts = self._synced = 0
        self._closed = False
        #: of a data directory that was removed; another thread may be putting into one
        self._former: list[Slot] = []
        self._words = self._datadir.open_words()
        self._engine_row = EngineWords(self._words).engine_row
        with self._datadir.usable():
            self._routing = self._attach(self._words)

    def emit(
        self,
        type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        raise_on_full: bool = False,
        sync: bool = True,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> int:
        """Accept an event for each endpoint that subscribed to it; return their number.

        0: nobody subscribed. An endpoint for which the ring is full is not counted (`refused` in the
        statistics counts it); with `raise_on_full` it raises QueueFull. Nor is one whose `where`,
        `sample` or `threshold` held the event back (`filtered`). `type` is one of the catalogs or of
        `event_types`. `data` is an object of the catalogs, or whatever makes a JSON object: a dict, a
        dataclass, a msgspec Struct; filters and order keys judge its JSON. `topic` is an MQTT topic
        name, by default the data's own. `event_id` is the host's own id, by default a new one. Does
        no I/O and never waits, unless the configuration says `drop_policy: block` or `durability:
        power`. Without `sync` it does not wait for the disk: `Publisher.sync` then does, for many
        events at once. `traceparent` and `tracestate` are the event's W3C Trace Context, which its
        receivers get as headers; without them it is OpenTelemetry's current one, where the
        configuration says `opentelemetry: true`.

        Raise EventError for a bad type, topic, data or trace context, PayloadTooLarge above
        `max_event_bytes`, EngineError if a file cannot be used.
        """
        _, accepted, refused = self._emit(type, data, topic, event_id, traceparent, tracestate)
        if self._routing.power and sync:
            self.sync()
        if refused and raise_on_full:
            raise _queue_full(type, accepted, refused)
        return accepted

    def accept(
        self,
        type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        raise_on_full: bool = False,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Accepted:
        """Emit an event and return its id too, for callers that pass it on.

        `type`, `data`, `topic`, `event_id`, `raise_on_full`, `traceparent` and `tracestate` are those
        of `emit`. The event has an id even if nobody subscribed; it is the given `event_id`, if there
        is one. Raise what `emit` raises.
        """
        accepted = Accepted(*self._emit(type, data, topic, event_id, traceparent, tracestate))
        if self._routing.power:
            self.sync()
        if accepted.refused and raise_on_full:
            raise _queue_full(type, accepted.endpoints, accepted.refused)
        return accepted

    def prepare(
        self,
        type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> Prepared:
        """Make an event without accepting it, for callers that accept several or none: `put` does.

        `type`, `data`, `topic`, `event_id`, `traceparent` and `tracestate` are those of `emit`. Raises
        EventError, and PayloadTooLarge where the event is too large in any of the envelopes that it
        goes out in, or has none because nobody subscribed. (`emit` accepts it for the endpoints with
        the other envelopes.)
        """
        try:
            prepared = self._make(type, data, topic, event_id, traceparent, tracestate)
            for style in prepared.routing.styles(prepared.ids):
                prepared.bodies[style] = prepared.routing.factory.encode(style, prepared.event)
            return prepared
        except ValueError:
            self._refuse_if_closed()
            raise

    def put(self, prepared: Prepared, *, raise_on_full: bool = False) -> Accepted:
        """Accept what `prepare` returned, without waiting for the disk: `sync` does.

        `prepared` may be put once. With `raise_on_full` it raises QueueFull where the ring is full for
        an endpoint. Raises EngineError if the publisher is closed, and EventError where the
        configuration has changed since then and does not allow the event any more.
        """
        try:
            routing = self._current()
            if routing is not prepared.routing:  # since then
                prepared = _addressed(prepared.event, routing)
            accepted = Accepted(*self._put(prepared))
        except ValueError:
            self._refuse_if_closed()
            raise
        if accepted.refused and raise_on_full:
            raise _queue_full(prepared.event.type, accepted.endpoints, accepted.refused)
        return accepted

    def native(self, type: str) -> Native:
        """Return whose envelope events of `type` have. Raises EventError for what is no type."""
        return self._current().factory.kind(type).native

    @property
    def is_current(self) -> bool:
        """True if no other configuration has to be read first."""
        return self._words.load(self._engine_row, d.VERSION) == self._routing.version

    def refresh(self) -> None:
        """Follow the configuration, as `emit`, `prepare` and `put` do when they have to."""
        self._current()

    def emit_many(
        self,
        events: Iterable[tuple[str, Any] | tuple[str, Any, str | None]],
        *,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> int:
        """Emit `events`, tuples (type, data) or (type, data, topic); return the sum of what `emit`
        returns. `traceparent` and `tracestate` are those of `emit`, for each of them.

        Under `durability: power` they share one sync. Stop at the first bad event and raise its error;
        those before it are accepted.
        """
        total = 0
        try:
            for i, event in enumerate(events):
                if not isinstance(event, (tuple, list)) or len(event) not in (2, 3):
                    raise EventError(
                        f"item {i} is {event!r:.80}; give (type, data) or (type, data, topic)"
                    )
                type, data, *topic = event
                name = topic[0] if topic else None
                total += self._emit(type, data, name, None, traceparent, tracestate)[1]
        finally:
            self.sync()
        return total

    def sync(self) -> None:
        """Return once all that this publisher has accepted is on the disk, under `durability: power`.

        A group commit: a caller that waited while another synced finds its events synced by the next.
        Raise EngineError if the disk fails; what was accepted stays accepted, and is synced by the
        next.
        """
        routing, mine = self._routing, self._puts
        if not routing.power:
            return
        try:
            with self._own_locks.sync, self._datadir.usable():
                if self._synced < mine:
                    mark = self._puts
                    for ring in routing.rings:
                        ring.sync()
                    self._synced = mark
        except ValueError:
            self._refuse_if_closed()
            if routing.slot is self._routing.slot:
                raise
            self.sync()  # in a forked child, which attached anew meanwhile

    def close(self) -> None:
        """Detach. What was accepted is delivered all the same; `emit` raises EngineError now.

        May be called again, also where it was interrupted. Raises nothing of its own.
        """
        self._closed = True
        self._routing.shortcuts.clear()
        for slot in (self._routing.slot, *self._former):
            slot.close()
        self._words.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- emitting --------------------------------------------------------------------------

    def _emit(
        self,
        type: str,
        data: Any,
        topic: str | None,
        event_id: str | None,
        traceparent: str | None,
        tracestate: str | None,
    ) -> tuple[str, int, int]:
        """Accept an event; return its id, the number of endpoints that it was accepted for, and of
        those that it was refused for.

        This is the short way, for what goes into one record and was seen before. Whatever is in its
        way, be it an error, a full ring or another configuration, is met on the long one.
        """
        routing = self._routing
        try:
            shortcut = routing.shortcuts.get(type)
            if (
                shortcut is not None
                and traceparent is None
                and tracestate is None
                and (event_id is None or is_plain_id(event_id))
            ):
                kind, templates = shortcut
                checked, name = kind.check(data), topic
                if name is None and kind.topic is not None:
                    name = kind.topic(checked)
                known = templates.get(None if name is None else routing.match(type, name))
                if known is not None:
                    template, endpoints = known
                    id, body = event_id or kind.new_id(), _to_json(checked)
                    result = template.put(id, body, name)
                    if result == EXPIRED:
                        template.date(*routing.now())
                        result = template.put(id, body, name)
                    if result == ACCEPTED:
                        return id, endpoints, 0
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass
        return self._emit_any(type, data, topic, event_id, traceparent, tracestate)

    def _emit_any(
        self,
        type: str,
        data: Any,
        topic: str | None,
        event_id: str | None,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> tuple[str, int, int]:
        """Do the same by the long way, which is open to every event."""
        try:
            return self._put(self._make(type, data, topic, event_id, traceparent, tracestate))
        except ValueError:
            self._refuse_if_closed()
            raise

    def _make(
        self,
        type: str,
        data: Any,
        topic: str | None,
        event_id: str | None,
        traceparent: str | None,
        tracestate: str | None,
    ) -> Prepared:
        """Make an event, and find who gets it."""
        routing = self._current()
        trace = trace_context.given(traceparent, tracestate)
        if trace is None and routing.current_trace is not None:
            trace = routing.current_trace()
        event = routing.factory.make(type, data, topic=topic, event_id=event_id, trace=trace)
        return _addressed(event, routing)

    def _put(self, prepared: Prepared) -> tuple[str, int, int]:
        """Accept an event; return what `_emit` does."""
        event, routing, ids, bodies = prepared
        if not ids:
            return event.id, 0, 0
        parts = routing.route(ids)
        if parts is None:
            if os.getpid() != routing.slot.pid:  # before anything is counted in the parent's place
                self._reattach(routing.slot)
                return self._put(_addressed(event, self._current()))
            parts = routing.filtered(ids, event)
        else:
            routing.shorten(event, ids, parts)
        if event.trace is not None and not routing.carries_traces():
            event = msgspec.structs.replace(event, trace=None)
        accepted = refused = 0
        failed: list[tuple[Part, Exception]] = []
        for part in parts:
            try:
                body = bodies.get(part.style)
                if body is None:
                    body = bodies[part.style] = routing.factory.encode(part.style, event)
                result = self._put_part(routing, part, event, body)
            except Exception as e:
                failed.append((part, e))
                continue
            if result == FORKED:  # and nothing was written: no fork happens between two parts
                self._reattach(routing.slot)
                return self._put(_addressed(event, self._current()))
            if result == ACCEPTED:
                accepted += len(part.endpoints)
            else:
                refused += len(part.endpoints)
        if failed:
            if len(failed) == len(parts):
                raise failed[0][1]
            self._refuse(routing, event, failed)
        return event.id, accepted, refused

    def _refuse(self, routing: Routing, event: Event, failed: list[tuple[Part, Exception]]) -> None:
        """Count an event that some endpoints cannot get as they want it, while the others have it."""
        for part, error in failed:
            log.error(
                "%s cannot be written as %s: %s", event.type, part.style, described(error),
                event="event_not_encoded", type=event.type,
            )  # fmt: skip
            for endpoint_id in part.endpoints:
                routing.slot.counters.add(endpoint_id, d.REFUSED)

    def _put_part(self, routing: Routing, part: Part, event: Event, body: bytes) -> int:
        """Put one record into one ring; return ACCEPTED, FORKED, or what else is in the way."""
        head = EventHead.of(event, part.order_key).encode()
        give_up_at = 0.0
        rings, counters = routing.rings, routing.slot.counters
        while True:
            if part.ring is not None:
                ring = rings[part.ring]
            else:
                ring = rings[least_backlog(rings)] if len(rings) > 1 else rings[0]
            result = ring.put(part.targets, head, body, counters)
            if result == ACCEPTED:
                self._puts += 1
                return result
            if result == FORKED:
                return result
            if routing.block_s and (not give_up_at or time.monotonic() < give_up_at):
                give_up_at = give_up_at or time.monotonic() + routing.block_s
                time.sleep(BLOCK_POLL_S)
            else:
                for endpoint_id in part.endpoints:
                    counters.add(endpoint_id, d.REFUSED)
                return result

    # ---- attaching -------------------------------------------------------------------------

    def _load(self) -> Snapshot:
        snapshot = Snapshot.load(self._datadir)
        if self._drop_policy is None:
            return snapshot
        config = msgspec.structs.replace(snapshot.config, drop_policy=self._drop_policy)
        return msgspec.structs.replace(snapshot, config=config)

    def _route(self, snapshot: Snapshot, slot: Slot, words: Words) -> Routing:
        return Routing(snapshot, slot, self._datadir, words, in_host=self.in_host)

    def _attach(self, words: Words) -> Routing:
        """Take a slot."""
        snapshot = self._load()
        slot = Slot(self._datadir, snapshot, self.slot_name)
        try:
            return self._route(snapshot, slot, words)
        except BaseException:
            slot.close()
            raise

    def _reattach(self, stale: Slot) -> None:
        """Take a slot of its own in a forked child; the inherited one is the parent's."""
        lock = self._own_locks.change
        if _is_mine(lock):  # a signal handler or a finalizer, in the middle of the lines below
            raise EngineError("this process attaches anew after a fork; emit again when it has")
        with lock, self._datadir.usable():
            if self._routing.slot is stale:
                self._routing = self._attach(self._words)
                stale.close()

    def _reconfigure(self) -> Routing:
        """Follow the configuration. A signal handler or a finalizer that emits in the middle of it
        goes on with the routing that there was, which stays good until `close`."""
        lock = self._own_locks.change
        if _is_mine(lock):
            return self._routing
        with lock, self._datadir.usable():
            if not self._words.in_place:
                return self._follow()
            snapshot, slot = self._load(), self._routing.slot
            if snapshot.version != self._routing.version:
                if not slot.fits(snapshot):
                    slot.open_rings(snapshot)
                routing = self._route(snapshot, slot, self._words)
                if os.getpid() == slot.pid:  # not in a child that was forked in the middle of this
                    self._routing = routing
            return self._routing

    def _follow(self) -> Routing:
        """Attach to the engine of the data directory that stands where the former one was removed."""
        try:
            words = self._datadir.open_words()
            routing = self._attach(words)
        except EngineNotRunning:
            raise EngineError(
                f"the data directory {self._datadir.path} was removed or replaced, and nothing is "
                "accepted until an engine is started on it again"
            ) from None
        self._former.append(self._routing.slot)
        # In this order: the version in the new words may by chance be that of the former routing.
        self._routing = routing
        self._words, self._engine_row = words, EngineWords(words).engine_row
        return routing

    @property
    def _own_locks(self) -> _Locks:
        """This process's: one that another thread of the parent held at a fork would never open."""
        return self._locks.setdefault(os.getpid(), _Locks())

    def _current(self) -> Routing:
        """Return the routing of the configuration that is in force."""
        self._refuse_if_closed()
        return self._routing if self.is_current else self._reconfigure()

    def _refuse_if_closed(self) -> None:
        """Raise EngineError where it is. Called before, and for a ValueError of the compiled layer:
        `close` may come in between."""
        if self._closed:
            raise EngineError("this publisher is closed")


class OwnPublisher(Publisher):
    """The publisher of a program of ours, which has no trace of its own."""

    in_host = False


class _Locks:
    """Both reentrant: an emit may be interrupted by a signal handler, or by a finalizer, that emits."""

    def __init__(self) -> None:
        self.change, self.sync = threading.RLock(), threading.RLock()


def _addressed(event: Event, routing: Routing) -> Prepared:
    """Find who gets an event. Raises EventError for a bad topic name."""
    try:
        return Prepared(event, routing, routing.endpoints_for(event), {})
    except ValueError as e:
        raise EventError(f"{event.type}: {e}", field="topic") from None


def _is_mine(lock: threading.RLock) -> bool:
    """Return whether the calling thread holds the lock already."""
    # What threading.Condition asks too. A flag of our own could be left behind by an exception.
    return lock._is_owned()  # type: ignore[attr-defined, no-any-return]


def _queue_full(type: str, accepted: int, refused: int) -> QueueFull:
    return QueueFull(
        f"the queue is full: {type} was refused for {refused} endpoints",
        accepted=accepted,
        refused=refused,
    )
