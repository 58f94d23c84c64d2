"""Events over HTTP: read, checked as a whole, and put into the rings by a publisher of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

import msgspec
from litestar.datastructures import Headers

from fluxhook.admin.background import offer
from fluxhook.admin.idempotency import Idempotency, Record, derived_id
from fluxhook.admin.models import Accepted, EventIn
from fluxhook.admin.payload import malformed, struct_of
from fluxhook.admin.problem_details import FieldError, RequestError
from fluxhook.admin.service import Service
from fluxhook.errors import EventError, PayloadTooLarge, QueueFull
from fluxhook.events.nesting import bounded, decode_json
from fluxhook.events.trace_context import TraceContext, from_headers
from fluxhook.publisher.publisher import OwnPublisher, Prepared, Publisher

__all__ = ["MAX_EVENTS", "Ingest", "IngestRequest"]

#: events in one request; their ids are in its answer; arbitrary
MAX_EVENTS: Final = 100_000
#: faults in one answer; arbitrary
_MAX_FAULTS: Final = 100
#: so many bytes of the shortest events there are take 1.5 ms, those of one event 10 us
_QUICK_BYTES: Final = 4096

_split: Final = bounded(msgspec.json.Decoder(list[msgspec.Raw]).decode)


class Ingest:
    """Accepts events for one data directory. Safe to share among threads. To accept events may block,
    unless they are `quick`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
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
        """True if `prepare` has nothing to do."""
        return self._publisher is not None and self._publisher.is_current

    def prepare(self) -> None:
        """Follow the configuration. May block. Raises EngineError if no slot is free."""
        with self._lock:
            if self._publisher is None:
                self._publisher = OwnPublisher(self._service.datadir.path, drop_policy="newest")
            self._publisher.refresh()

    def request(
        self, key: str | None, client: str = "", trace: TraceContext | None = None
    ) -> IngestRequest:
        """Begin with the events of one request, after `prepare`; the key is that client's, and the
        trace that of events which have none of their own. Raises RequestError."""
        assert self._publisher is not None
        record = None if key is None else self._keys.take(key, client)
        return IngestRequest(self._publisher, record, self._keys, trace)

    def trace(self, headers: Headers) -> TraceContext | None:
        """Return the trace context that a request's headers name; what cannot be read is counted."""
        named = [headers.getall(name, []) for name in TraceContext._fields]
        trace, ignored = from_headers(*named)
        self._service.ignored_trace_headers += ignored
        return trace

    def quick(self, body: bytes) -> bool:
        """Return whether accepting all of it takes so little that a thread for it would cost more."""
        return len(body) <= _QUICK_BYTES and self._service.snapshot.config.durability != "power"


class IngestRequest:
    """One request's events, which are accepted in their order, and under `durability: power` synced
    together, before anybody is told; a context manager."""

    def __init__(
        self,
        publisher: Publisher,
        record: Record | None,
        keys: Idempotency,
        trace: TraceContext | None,
    ) -> None:
        self.accepted: list[Accepted] = []
        self._trace = trace
        self._publisher = publisher
        self._record = record
        self._keys = keys

    def __enter__(self) -> IngestRequest:
        return self

    def __exit__(self, *_: object) -> None:
        if self._record is not None:
            self._keys.give_back(self._record)

    def body(self, body: bytes) -> list[Accepted]:
        """Accept a JSON object, or an array of them, none of which is accepted if one is bad."""
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
        """Accept numbered lines of JSON, up to a bad one."""
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
        """Note that all events were read, and return what became of them."""
        if self._record is not None:
            self._record.finish(len(self.accepted))
        return self.accepted

    def _add(self, raws: list[tuple[bytes, str]]) -> None:
        made: list[tuple[bytes, Prepared | Accepted]] = []
        faults: list[FieldError] = []
        kind = ""
        for index, (raw, where) in enumerate(raws, len(self.accepted)):
            offer()
            try:
                made.append((raw, self._prepare(raw, where, index)))
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
            self.accepted.append(event if isinstance(event, Accepted) else self._put(raw, event))

    def _prepare(self, raw: bytes, where: str, index: int) -> Prepared | Accepted:
        """Return the event, or what became of it under the same key before."""
        record = self._record
        if record is not None and (known := record.known(index, raw)) is not None:
            return known
        try:
            value = decode_json(raw)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise malformed(raw, error, where) from None
        given = struct_of(EventIn, value, within=where, problem="invalid-event")
        try:
            event_id = given.id
            if event_id is None and record is not None:
                native = self._publisher.native(given.type)
                event_id = derived_id(record.key, index, native, record.client)
            context = given.traceparent, given.tracestate
            if context == (None, None) and self._trace is not None:
                context = self._trace
            return self._publisher.prepare(
                given.type,
                given.data,
                topic=given.topic,
                event_id=event_id,
                traceparent=context[0],
                tracestate=context[1],
            )
        except EventError as error:
            field = ".".join(filter(None, (where, error.field)))
            kind = "event-too-large" if isinstance(error, PayloadTooLarge) else "invalid-event"
            raise RequestError(kind, str(error), [FieldError(field, str(error))]) from None

    def _put(self, raw: bytes, prepared: Prepared) -> Accepted:
        event = prepared.event
        try:
            n = self._publisher.put(prepared, raise_on_full=True).endpoints
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
