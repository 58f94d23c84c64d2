"""Events over HTTP: read, checked as a whole, and put into the rings by a publisher of our own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable
from typing import Final

import msgspec

from fluxhook._native.topics import Matcher
from fluxhook.admin.background import offer
from fluxhook.admin.idempotency import Idempotency, Record, derived_id
from fluxhook.admin.models import Accepted, EventIn
from fluxhook.admin.payload import malformed, struct_of
from fluxhook.admin.problems import Fault, RequestError
from fluxhook.admin.service import Service
from fluxhook.errors import EventError, PayloadTooLarge, QueueFull
from fluxhook.events.catalog import BROKER, GATEWAY
from fluxhook.events.envelope import Envelopes
from fluxhook.events.event import EventMaker, Native
from fluxhook.events.nesting import bounded, decode_json
from fluxhook.publisher.publisher import Publisher
from fluxhook.transport.snapshot import Snapshot

__all__ = ["MAX_EVENTS", "Batch", "Ingest"]

#: events in one request; their ids are in its answer; arbitrary
MAX_EVENTS: Final = 100_000
#: faults in one answer; arbitrary
_MAX_FAULTS: Final = 100
#: so many bytes of the shortest events there are take 1.5 ms, those of one event 10 us
_QUICK_BYTES: Final = 4096

_split: Final = bounded(msgspec.json.Decoder(list[msgspec.Raw]).decode)


class Ingest:
    """Accepts events for one data directory. Safe to share among threads; what a Batch is given may
    block, unless it is `quick`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._checks: _Checks | None = None
        self._keys = Idempotency()

    def close(self) -> None:
        with self._lock:
            if self._publisher is not None:
                self._publisher.close()
                self._publisher = None

    @property
    def max_body(self) -> int:
        return int(self._service.snapshot.config.admin.max_body)

    @property
    def ready(self) -> bool:
        """Whether `prepare` has nothing to do."""
        checks = self._checks
        return checks is not None and checks.version == self._service.snapshot.version

    def prepare(self) -> None:
        """Follows the configuration. May block. Raises EngineError if no slot is free."""
        with self._lock:
            if self._publisher is None:
                self._publisher = Publisher(self._service.datadir.path, drop_policy="newest")
            if not self.ready:
                self._checks = _Checks(self._service.snapshot)

    def batch(self, key: str | None, client: str = "") -> Batch:
        """The events of one request, after `prepare`; the key is that client's. Raises RequestError."""
        assert self._publisher is not None
        assert self._checks is not None
        record = None if key is None else self._keys.take(key, client)
        return Batch(self._publisher, self._checks, record, self._keys)

    def quick(self, body: bytes) -> bool:
        """Whether accepting all of it takes so little that a thread for it would cost more."""
        return len(body) <= _QUICK_BYTES and self._service.snapshot.config.durability != "power"


class Batch:
    """One request's events, which are accepted in their order, and under `durability: power` synced
    together, before anybody is told; a context manager."""

    def __init__(
        self, publisher: Publisher, checks: _Checks, record: Record | None, keys: Idempotency
    ) -> None:
        self.accepted: list[Accepted] = []
        self._publisher = publisher
        self._checks = checks
        self._record = record
        self._keys = keys

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._record is not None:
            self._keys.give_back(self._record)

    def body(self, body: bytes) -> list[Accepted]:
        """A JSON object, or an array of them, none of which is accepted if one is bad."""
        many = body.lstrip()[:1] == b"["
        try:
            raws = list(map(bytes, _split(body))) if many else [body]
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise malformed(body, error) from None
        if len(raws) > MAX_EVENTS:
            raise self._too_many()
        try:
            self._add([(raw, f"[{i}]" if many else "") for i, raw in enumerate(raws)])
        finally:
            self._publisher.sync()
        return self.finish()

    def lines(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Numbered lines of JSON. The ones before a bad one are accepted."""
        try:
            for number, line in lines:
                if len(self.accepted) >= MAX_EVENTS:
                    raise self._too_many()
                self._add([(line, f"line {number}")])
        except RequestError as error:
            error.events = list(self.accepted)
            raise
        finally:
            self._publisher.sync()

    def finish(self) -> list[Accepted]:
        """All events were read."""
        if self._record is not None:
            self._record.finish(len(self.accepted))
        return self.accepted

    def _add(self, raws: list[tuple[bytes, str]]) -> None:
        made: list[tuple[bytes, EventIn | Accepted]] = []
        faults: list[Fault] = []
        kind = ""
        for index, (raw, where) in enumerate(raws, len(self.accepted)):
            offer()
            try:
                made.append((raw, self._make(raw, where, index)))
            except RequestError as error:
                if error.kind == "idempotency-key-reused" or len(raws) == 1:
                    raise
                kind = kind or error.kind
                faults += error.faults
                if len(faults) >= _MAX_FAULTS:
                    break
        if faults:
            shown = faults[0]
            more = f", and {len(faults) - 1} more" if faults[1:] else ""
            raise RequestError(kind, f"{shown.field}: {shown.message}{more}", faults)
        for raw, event in made:
            offer()
            self.accepted.append(event if isinstance(event, Accepted) else self._emit(raw, event))

    def _make(self, raw: bytes, where: str, index: int) -> EventIn | Accepted:
        """The event with its id, or what became of it under the same key before."""
        if self._record is not None and (known := self._record.known(index, raw)) is not None:
            return known
        try:
            value = decode_json(raw)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise malformed(raw, error, where) from None
        given = struct_of(EventIn, value, within=where, problem="invalid-event")
        try:
            return self._checks.event(given, self._record, index)
        except EventError as error:
            field = ".".join(filter(None, (where, error.field)))
            kind = "event-too-large" if isinstance(error, PayloadTooLarge) else "invalid-event"
            raise RequestError(kind, str(error), [Fault(field, str(error))]) from None

    def _emit(self, raw: bytes, event: EventIn) -> Accepted:
        assert event.id is not None
        try:
            n = self._publisher.emit(
                event.type,
                event.data,
                topic=event.topic,
                event_id=event.id,
                raise_on_full=True,
                sync=False,
            )
        except QueueFull as full:
            part = (
                f"; it was accepted for {full.accepted} of its endpoints" if full.accepted else ""
            )
            raise RequestError(
                "queue-full",
                f"The queue is full: {event.type} {event.id} was refused for {full.refused} "
                f"endpoints{part}. Repeat what `events` does not list; with an Idempotency-Key, "
                "repeat the whole request.",
                events=self.accepted,
            ) from None
        accepted = Accepted(event.id, n)
        if self._record is not None:
            self._record.add(raw, accepted)
        return accepted

    def _too_many(self) -> RequestError:
        return RequestError(
            "content-too-large",
            f"A request has at most {MAX_EVENTS} events; send the rest in another.",
            events=self.accepted,
        )


class _Checks:
    """What `emit` would refuse, found before the first event of a request is emitted."""

    def __init__(self, snapshot: Snapshot) -> None:
        config = snapshot.config
        host = socket.gethostname()
        self.version = snapshot.version
        self._native: Native = config.native_envelope
        self._make = EventMaker(
            native_envelope=config.native_envelope,
            include_payload=config.include_payload,
            event_types=config.event_types,
        ).make
        self._encode = Envelopes(
            gateway_node=config.gateway_node or host, broker_id=config.broker_id or host
        ).encode
        self._styles = {"native", *(endpoint.envelope for endpoint in config.endpoints)}
        self._match = Matcher(()).match
        self._max_bytes = int(config.max_event_bytes)

    def event(self, given: EventIn, record: Record | None, index: int) -> EventIn:
        """The event with its id. Raises EventError, PayloadTooLarge."""
        event_id = given.id
        if event_id is None and record is not None:
            native = self._native_of(given.type)
            event_id = derived_id(record.key, index, native, record.client)
        event = self._make(given.type, given.data, topic=given.topic, event_id=event_id)
        try:
            self._match(event.type, event.topic)
        except ValueError as error:
            raise EventError(f"{event.type}: {error}", field="topic") from None
        size = max(len(self._encode(style, event)) for style in self._styles)
        if size > self._max_bytes:
            raise PayloadTooLarge(
                f"{event.type}: {size} bytes are over max_event_bytes ({self._max_bytes})",
                field="data",
            )
        return msgspec.structs.replace(given, id=event.id)

    def _native_of(self, event_type: str) -> Native:
        if event_type in BROKER:
            return "broker"
        return "gateway" if event_type in GATEWAY else self._native
