"""The publisher: what a host program holds to emit events. It does no I/O but into mapped memory.

emit -> make the event -> match -> encode once for each style -> put into a worker's ring
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from fluxhook._native.ring import ACCEPTED, FORKED, MAX_TARGETS, least_waiting
from fluxhook._native.topics import Matcher
from fluxhook.config.schema import DropPolicy
from fluxhook.errors import EngineError, EventError, PayloadTooLarge, QueueFull
from fluxhook.events.envelope import Envelopes, EnvelopeStyle
from fluxhook.events.event import Event, EventMaker, order_key_of
from fluxhook.runtime.slot import Slot
from fluxhook.runtime.snapshot import Snapshot
from fluxhook.transport import datadir as d

__all__ = ["Publisher"]

#: how often `block` looks whether there is room
BLOCK_POLL_S = 0.0005
#: routes remembered; arbitrary, far above the sets of endpoints that real events match
MAX_ROUTES = 4096


class _Part(NamedTuple):
    """The endpoints of a route that share one record: same bytes, same choice of worker."""

    style: EnvelopeStyle
    #: the worker's index, None: the one with most room
    home: int | None
    order_key: str | None
    endpoints: tuple[int, ...]
    targets: bytes


class Publisher:
    """Emits events into the engine of a data directory. Open one with `fluxhook.connect`.

    Safe to share among threads. After a fork the child's first `emit` attaches anew, so parent and
    child never write into the same ring. Accepted events are kept whether or not an engine runs.
    """

    def __init__(
        self, data_dir: str | os.PathLike[str], *, drop_policy: DropPolicy | None = None
    ) -> None:
        """`drop_policy`: this publisher's own, instead of the configuration's; a bulk load wants
        `block`, so that it waits for the engine rather than push its own events out."""
        self._datadir = d.DataDir(data_dir)
        self._drop_policy = drop_policy
        self._locks: dict[int, threading.Lock] = {}
        self._sync_lock = threading.Lock()
        self._puts = self._synced = 0
        self._closed = False
        self._words = self._datadir.open_words()
        self._engine_row = self._words.rows - 1
        self._attach()

    def emit(
        self,
        type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        raise_on_full: bool = False,
    ) -> int:
        """Accepts an event for each endpoint that subscribed to it; returns their number.

        0: nobody subscribed. An endpoint for which the ring is full is not counted (`refused` in the
        statistics counts it); with `raise_on_full` it raises QueueFull. `data` is an object of the
        catalogs, or a dict; `topic` an MQTT topic name, by default the data's own. Does no I/O and
        never waits, unless the configuration says `drop_policy: block` or `durability: power`.

        Raises EventError for a bad type, topic or data, PayloadTooLarge above `max_event_bytes`.
        """
        accepted, refused = self._emit(type, data, topic, event_id)
        if self._power:
            self._sync()
        if refused and raise_on_full:
            raise QueueFull(
                f"the queue is full: {type} was refused for {refused} endpoints",
                accepted=accepted,
                refused=refused,
            )
        return accepted

    def emit_many(self, events: Iterable[tuple[str, Any] | tuple[str, Any, str | None]]) -> int:
        """Emits (type, data) or (type, data, topic) tuples; returns the sum of what `emit` returns.

        Under `durability: power` they share one sync. Stops at the first bad event, whose error it
        raises; those before it are accepted.
        """
        total = 0
        try:
            for type, data, *topic in events:
                total += self._emit(type, data, topic[0] if topic else None, None)[0]
        finally:
            if self._power:
                self._sync()
        return total

    def close(self) -> None:
        """Detaches. What was accepted is delivered all the same; `emit` raises EngineError now."""
        if not self._closed:
            self._closed = True
            self._slot.close()
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
        self, type: str, data: Any, topic: str | None, event_id: str | None
    ) -> tuple[int, int]:
        if self._closed:
            raise EngineError("this publisher is closed")
        if self._words.load(self._engine_row, d.VERSION) != self._version:
            self._reconfigure()
        event = self._make(type, data, topic=topic, event_id=event_id)
        try:
            ids = self._match(event.type, event.topic)
        except ValueError as e:
            raise EventError(f"{event.type}: {e}") from None
        if not ids:
            return 0, 0
        accepted = refused = 0
        bodies: dict[str, bytes] = {}
        for part in self._routes.get(ids) or self._route(ids):
            body = bodies.get(part.style)
            if body is None:
                body = bodies[part.style] = self._encode(part.style, event)
            if self._put(part, event, body):
                accepted += len(part.endpoints)
            else:
                refused += len(part.endpoints)
        return accepted, refused

    def _put(self, part: _Part, event: Event, body: bytes) -> bool:
        """One record into one ring; False if it is full."""
        if len(body) > self._max_bytes:
            raise PayloadTooLarge(
                f"{event.type}: {len(body)} bytes are over max_event_bytes ({self._max_bytes}); "
                "send a reference instead of the content, or raise the limit"
            )
        key = order_key_of(event, part.order_key) if part.order_key else ""
        head = "\0".join((event.id, event.type, event.topic or "", key)).encode()
        give_up_at = 0.0
        while True:
            slot = self._slot
            rings = slot.rings
            if part.home is not None:
                ring = rings[part.home]
            else:
                ring = rings[least_waiting(rings)] if len(rings) > 1 else rings[0]
            result = ring.put(part.targets, head, body, slot.counters)
            if result == ACCEPTED:
                self._puts += 1
                return True
            if result == FORKED:
                self._reattach(slot)
            elif self._block_s and (not give_up_at or time.monotonic() < give_up_at):
                give_up_at = give_up_at or time.monotonic() + self._block_s
                time.sleep(BLOCK_POLL_S)
            else:
                for endpoint_id in part.endpoints:
                    slot.counters.add(endpoint_id, d.REFUSED)
                return False

    def _sync(self) -> None:
        """Group commit: whoever waited while another synced finds its records synced by the next."""
        mine = self._puts
        with self._sync_lock:
            if self._synced < mine:
                mark = self._puts
                for ring in self._slot.rings:
                    ring.sync()
                self._synced = mark

    # ---- attaching -------------------------------------------------------------------------

    def _load(self) -> Snapshot:
        snapshot = Snapshot.load(self._datadir)
        if self._drop_policy is None:
            return snapshot
        config = msgspec.structs.replace(snapshot.config, drop_policy=self._drop_policy)
        return msgspec.structs.replace(snapshot, config=config)

    def _attach(self) -> None:
        snapshot = self._load()
        self._slot = Slot(self._datadir, snapshot)
        self._configure(snapshot)

    def _reattach(self, stale: Slot) -> None:
        """In a forked child: takes a slot of its own; the inherited one is the parent's."""
        # A lock that another thread of the parent held at the fork would never open here.
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            if self._slot is stale:
                stale.close()
                self._sync_lock = threading.Lock()
                self._attach()

    def _reconfigure(self) -> None:
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            snapshot = self._load()
            if snapshot.version == self._version:
                return
            if snapshot.workers != len(self._slot.rings):
                self._slot.open_rings(snapshot)
            self._configure(snapshot)

    def _configure(self, snapshot: Snapshot) -> None:
        config = snapshot.config
        host = socket.gethostname()
        envelopes = Envelopes(
            gateway_node=config.gateway_node or host, broker_id=config.broker_id or host
        )
        self._encode = envelopes.encode
        self._make = EventMaker(
            native_envelope=config.native_envelope, include_payload=config.include_payload
        ).make
        self._endpoints = snapshot.endpoints() if config.enabled else {}
        self._match = Matcher(
            (id, endpoint.events, endpoint.topic_filters)
            for id, endpoint in self._endpoints.items()
        ).match
        self._homes = {id: snapshot.home(endpoint) for id, endpoint in self._endpoints.items()}
        self._routes: dict[tuple[int, ...], list[_Part]] = {}
        self._max_bytes = int(config.max_event_bytes)
        self._block_s = config.block_timeout.seconds if config.drop_policy == "block" else 0.0
        self._power = config.durability == "power"
        self._version = snapshot.version

    def _route(self, ids: tuple[int, ...]) -> list[_Part]:
        """How an event for these endpoints is written: in one record for each style and home, and
        one for each order key; a record has room for 32 targets."""
        groups: dict[tuple[EnvelopeStyle, int | None, str | None], list[int]] = {}
        for id in ids:
            endpoint = self._endpoints[id]
            key = (endpoint.envelope, self._homes[id], endpoint.order_key)
            groups.setdefault(key, []).append(id)
        parts = [
            _Part(*key, chunk := tuple(members[i : i + MAX_TARGETS]), _pack(chunk))
            for key, members in groups.items()
            for i in range(0, len(members), MAX_TARGETS)
        ]
        if len(self._routes) >= MAX_ROUTES:
            self._routes = {}
        self._routes[ids] = parts
        return parts


def _pack(endpoint_ids: tuple[int, ...]) -> bytes:
    """Ring targets: little-endian 32-bit endpoint ids."""
    return struct.pack(f"<{len(endpoint_ids)}I", *endpoint_ids)
