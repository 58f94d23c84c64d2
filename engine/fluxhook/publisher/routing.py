"""The routing table: one version of the configuration as a publisher uses it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from fluxhook._native.event import Template
from fluxhook._native.ring import MAX_TARGETS, Producer
from fluxhook._native.shared import Words
from fluxhook._native.topics import Matcher
from fluxhook.config.schema import Endpoint
from fluxhook.events.envelope import EnvelopeStyle
from fluxhook.events.event import Event
from fluxhook.events.factory import Kind
from fluxhook.events.trace_context import TraceContext, opentelemetry_context
from fluxhook.logs.log import Log, described
from fluxhook.publisher.event_filter import EventFilter, has_filters
from fluxhook.publisher.slot import Slot
from fluxhook.transport.datadir import FILTERED, TRACED, UNTRACED, VERSION, DataDir
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.snapshot import Snapshot
from fluxhook.transport.thresholds import Thresholds

__all__ = ["Part", "Routing", "Shortcut"]

log = Log("publisher")

#: routes remembered; arbitrary, far above the sets of endpoints that real events match
MAX_ROUTES = 4096


class Part(NamedTuple):
    """The endpoints of a route that share one record: same bytes, same choice of worker."""

    style: EnvelopeStyle
    #: its index, None: the one with the shortest backlog
    ring: int | None
    order_key: str | None
    endpoints: tuple[int, ...]
    targets: bytes


#: How events of one type are written that go into one record: by a template, with the number of its
#: endpoints, for each set of endpoints that a topic leads to; that of events without a topic is under
#: None. A plain tuple, which is taken apart in a third of the instructions.
Shortcut = tuple[Kind, dict[tuple[int, ...] | None, tuple[Template, int]]]


class Routing:
    """What `emit` needs, all of one version: never changed, only replaced, since other threads may
    be in the middle of an emit."""

    def __init__(
        self, snapshot: Snapshot, slot: Slot, datadir: DataDir, words: Words, *, in_host: bool
    ) -> None:
        config = snapshot.config
        self.version = snapshot.version
        self.slot = slot
        self.rings: list[Producer] = slot.rings
        self.factory = snapshot.event_factory()
        self.now = self.factory.timestamps.now
        self._words = words
        self._endpoints = snapshot.endpoints() if config.enabled else {}
        matcher = _matcher(self._endpoints)
        self.match, self._match_filter = matcher.match, matcher.match_filter
        self._assigned = {
            id: snapshot.assigned_ring(endpoint) for id, endpoint in self._endpoints.items()
        }
        self._filters = _event_filters(self._endpoints, datadir, words)
        #: of all endpoints that match, none of which has an event filter
        self._routes: dict[tuple[int, ...], list[Part]] = {}
        #: of all endpoints that an event goes to
        self._parts: dict[tuple[int, ...], list[Part]] = {}
        #: of the event types that were seen of late
        self.shortcuts: dict[str, Shortcut] = {}
        #: what the trace context of an event is by default; None: it has none
        self.current_trace = _current_trace() if config.opentelemetry and in_host else None
        self.block_s = config.block_timeout.seconds if config.drop_policy == "block" else 0.0
        self.power = config.durability == "power"

    def endpoints_for(self, event: Event) -> tuple[int, ...]:
        """Return the endpoints that an event matches. Raises ValueError for a bad topic name."""
        if event.topic_filter is not None:
            return self._match_filter(event.type, event.topic_filter)
        return self.match(event.type, event.topic)

    def styles(self, ids: tuple[int, ...]) -> set[EnvelopeStyle]:
        """Return the envelopes that these endpoints ask for; of nobody the event's own."""
        return {self._endpoints[id].envelope for id in ids} or {"native"}

    def route(self, ids: tuple[int, ...]) -> list[Part] | None:
        """Return how an event that matches these endpoints is written; None: ask `filtered`."""
        known = self._routes.get(ids)
        if known is None and self._filters.keys().isdisjoint(ids):
            if len(self._routes) >= MAX_ROUTES:
                self._routes = {}
            known = self._routes[ids] = self.parts(ids)
        return known

    def shorten(self, event: Event, ids: tuple[int, ...], parts: list[Part]) -> None:
        """Remember how such an event is written, if it can be told from its type and topic."""
        if len(parts) != 1 or self.power or self.current_trace is not None:
            return
        if self.factory.kind(event.type).topic_filter is not None:
            return
        style, ring, order_key, endpoints, targets = parts[0]
        # The subject of a CloudEvent is its topic.
        if order_key is not None or (style == "cloudevents" and event.topic is not None):
            return
        shortcut = self.shortcuts.get(event.type)
        if shortcut is None:
            if len(self.shortcuts) >= MAX_ROUTES:
                self.shortcuts.clear()
            shortcut = self.shortcuts[event.type] = self.factory.kind(event.type), {}
        _, templates = shortcut
        key = None if event.topic is None else ids
        if key in templates:
            return
        if len(templates) >= MAX_ROUTES:
            templates.clear()
        template = Template(
            self.rings if ring is None else [self.rings[ring]],
            self.slot.counters,
            targets,
            event.type,
            *self.factory.frame(style, event.type, event.native),
            max_body_bytes=self.factory.max_bytes,
            words=self._words,
            row=EngineWords(self._words).engine_row,
            field=VERSION,
            version=self.version,
        )
        templates[key] = template, len(endpoints)

    def carries_traces(self) -> bool:
        """Have the workers look for trace contexts, before one is put; False if the engine is of a
        version that knows of none."""
        words = EngineWords(self._words)
        if words.traces == UNTRACED:
            words.announce_traces()
        return words.traces == TRACED

    def filtered(self, ids: tuple[int, ...], event: Event) -> list[Part]:
        """Return the same for those whose filters forward the event; count it for the others."""
        passed = []
        for id in ids:
            event_filter = self._filters.get(id)
            if event_filter is None or self._passes(id, event_filter, event):
                passed.append(id)
            else:
                self.slot.counters.add(id, FILTERED)
        return self.parts(tuple(passed))

    def _passes(self, id: int, event_filter: EventFilter, event: Event) -> bool:
        """Return whether a filter forwards the event. One that fails does: an event too many does less
        harm than one too few."""
        try:
            return event_filter(event)
        except Exception as e:
            name = self._endpoints[id].name
            log.error(
                "a filter of endpoint %s failed: %s", name, described(e),
                event="filter_failed", endpoint=name,
            )  # fmt: skip
            return True

    def parts(self, ids: tuple[int, ...]) -> list[Part]:
        """Return how an event for these endpoints is written: in one record for each style and ring,
        and one for each order key; a record has room for 32 targets."""
        known = self._parts.get(ids)
        if known is not None:
            return known
        groups: dict[tuple[EnvelopeStyle, int | None, str | None], list[int]] = {}
        for id in ids:
            endpoint = self._endpoints[id]
            key = (endpoint.envelope, self._assigned[id], endpoint.order_key)
            groups.setdefault(key, []).append(id)
        parts = [
            Part(*key, chunk := tuple(members[i : i + MAX_TARGETS]), _pack(chunk))
            for key, members in groups.items()
            for i in range(0, len(members), MAX_TARGETS)
        ]
        if len(self._parts) >= MAX_ROUTES:
            self._parts = {}
        self._parts[ids] = parts
        return parts


def _current_trace() -> Callable[[], TraceContext | None] | None:
    try:
        return opentelemetry_context()
    except ImportError as e:
        log.warning(
            "events have no trace context: `opentelemetry` is true, and the package opentelemetry-api "
            "cannot be imported here: %s", described(e),
        )  # fmt: skip
        return None


def _event_filters(
    endpoints: dict[int, Endpoint], datadir: DataDir, words: Words
) -> dict[int, EventFilter]:
    filtered = {id: endpoint for id, endpoint in endpoints.items() if has_filters(endpoint)}
    if not filtered:
        return {}
    with datadir.translated():
        thresholds = Thresholds(datadir.thresholds)
    event_filters = {}
    for id, endpoint in filtered.items():
        try:
            event_filters[id] = EventFilter(id, endpoint, words, thresholds)
        except Exception as e:  # it is held; what it does not filter waits with the rest
            log.error(
                "the filters of endpoint %s cannot be used: %s", endpoint.name, described(e),
                event="filter_failed", endpoint=endpoint.name,
            )  # fmt: skip
    return event_filters


def _matcher(endpoints: dict[int, Endpoint]) -> Matcher:
    """Find who gets an event. An endpoint whose patterns cannot be read gets none."""
    rows = [(id, e.events, e.topic_filters) for id, e in endpoints.items()]
    try:
        return Matcher(rows)
    except Exception:
        return Matcher([row for row in rows if _matches(row, endpoints)])


def _matches(
    row: tuple[int, tuple[str, ...], tuple[str, ...]], endpoints: dict[int, Endpoint]
) -> bool:
    try:
        Matcher([row])
    except Exception as e:
        name = endpoints[row[0]].name
        log.error(
            "endpoint %s gets no events: %s", name, described(e),
            event="filter_failed", endpoint=name,
        )  # fmt: skip
        return False
    return True


def _pack(endpoint_ids: tuple[int, ...]) -> bytes:
    """Return ring targets: little-endian 32-bit endpoint ids."""
    return struct.pack(f"<{len(endpoint_ids)}I", *endpoint_ids)
