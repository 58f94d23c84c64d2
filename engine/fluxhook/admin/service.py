"""What the API and the dashboard do: questions to the files of an engine, changes by its supervisor."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from typing import Any, Final, TypeVar

import msgspec

from fluxhook.admin.event_types import event_types
from fluxhook.admin.models import (
    MAX_PAGE,
    AttemptRecord,
    CreatedWebhook,
    DeadLetterFilter,
    Delivery,
    DeliveryDetail,
    EventType,
    Page,
    Progress,
    PurgeRequest,
    RetryRequest,
    RotatedSecret,
    RotateRequest,
    Status,
    TestRequest,
    TestSent,
    Webhook,
    WebhookStatus,
)
from fluxhook.admin.paging import (
    delivery_filter,
    invalid,
    parse_cursor,
    parse_delivery_id,
    write_cursor,
)
from fluxhook.admin.problem_details import RequestError
from fluxhook.admin.references import path_reference, reference
from fluxhook.admin.trails import EVERY_CHANGE, ChangeFilter, changes_page, erased_page
from fluxhook.admin.views import (
    attempt_record,
    attempt_view,
    delivery_view,
    sent_request,
    status_view,
    timestamp_or_none,
)
from fluxhook.config.check import known_types
from fluxhook.config.definition import default_endpoint
from fluxhook.config.findings import Findings
from fluxhook.config.schema import Endpoint
from fluxhook.config.shown import HIDDEN, endpoint_options, refuse_hidden
from fluxhook.config.subscription import check_subscription
from fluxhook.control import DAY, Control, Origin, Selection, Step
from fluxhook.control import TestSent as Sent
from fluxhook.endpoint_state import EndpointState, endpoint_state
from fluxhook.errors import Conflict, EngineError, EngineNotRunning, UnknownEndpoint
from fluxhook.policy.clock import Clock
from fluxhook.policy.table import IllegalMove
from fluxhook.stats import EndpointStats, Stats, is_running, read_stats, serving
from fluxhook.store import ReadStore, SubscriptionRow, queries
from fluxhook.store.audit import AuditEntry, ChangeEntry, timestamp
from fluxhook.store.delivery_id import shown_id
from fluxhook.store.queries import ALL, DeliveryFilter
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.snapshot import Snapshot

__all__ = ["Service"]

T = TypeVar("T", bound=msgspec.Struct)

#: how long one replay or purge goes on before it answers with a cursor
STEPS_S: Final = 2.0
#: dead letters of one step; the supervisor does nothing else meanwhile
STEP: Final = 500


class Service:
    """The administration of one data directory. Safe to share among threads; every call blocks.

    A webhook is named by its name or its id (admin/references.py). Raises UnknownEndpoint for another,
    Conflict and ConfigError for changes that cannot be, EngineNotRunning and EngineError where the
    supervisor does not answer, RequestError for values that cannot be read, StoreError where the disk
    fails.
    """

    def __init__(self, data_dir: str | PathLike[str]) -> None:
        """Raise EngineNotRunning where no engine was ever started."""
        self.datadir = d.DataDir(data_dir)
        self._words = EngineWords(self.datadir.open_words())
        #: of requests with events
        self.ignored_trace_headers = 0
        self._snapshot = Snapshot.load(self.datadir)
        self._origin: Callable[[], Origin] = Origin

    def close(self) -> None:
        self._words.close()

    def asked_by(self, origin: Callable[[], Origin]) -> Service:
        """Return this service for somebody: `origin` says who, once there is a change to record. It is
        closed with the first."""
        service = copy.copy(self)
        service._origin = origin
        return service

    @property
    def snapshot(self) -> Snapshot:
        """The configuration in force."""
        if self._words.version != self._snapshot.version:
            self._snapshot = Snapshot.load(self.datadir)
        return self._snapshot

    @property
    def running(self) -> bool:
        return is_running(self.datadir)

    def check_ready(self) -> None:
        """Raise EngineNotRunning unless an engine runs, EngineError unless a worker of it serves,
        StoreError unless its store can be read."""
        if not self.running:
            raise EngineNotRunning(f"no engine runs on {self.datadir.path}")
        if not serving(self.datadir, self.snapshot.workers):
            raise EngineError(
                f"no worker of the engine on {self.datadir.path} serves; its log says why"
            )
        with self._store() as store:
            store.endpoints()

    # ---- webhooks --------------------------------------------------------------------------

    def webhooks(self) -> list[Webhook]:
        """Return all that are configured, in the order of their ids."""
        snapshot, (rows, clock), figures = self.snapshot, self._subscriptions(), self._figures()
        endpoints = snapshot.config.endpoints
        found = [self._webhook(snapshot, endpoint, rows, clock, figures) for endpoint in endpoints]
        return sorted(found, key=lambda webhook: snapshot.ids[webhook.name])

    def webhook(self, ref: str) -> Webhook:
        snapshot = self.snapshot
        endpoint = _endpoint(snapshot, ref)
        return self._webhook(snapshot, endpoint, *self._subscriptions(), self._figures())

    def create(self, layer: dict[str, Any]) -> CreatedWebhook:
        """Create an endpoint of the options given, as in the YAML file, `secret` and
        `generate_secret` among them."""
        refuse_hidden(layer)
        made = self._control().create(layer)
        webhook = self._named(made.name)
        return _with(webhook, CreatedWebhook, secret=made.secret, notices=tuple(made.notices))

    def update(self, ref: str, patch: dict[str, Any]) -> CreatedWebhook:
        """Apply a JSON merge patch (RFC 7396): null goes back to the default."""
        refuse_hidden(patch)
        made = self._control().update(self._endpoint(ref).name, patch)
        webhook = self._named(made.name)
        return _with(webhook, CreatedWebhook, secret=made.secret, notices=tuple(made.notices))

    def delete(self, ref: str) -> None:
        """Delete an endpoint; what was pending for it become dead letters."""
        self._control().delete(self._endpoint(ref).name)

    def pause(self, ref: str) -> Webhook:
        name = self._endpoint(ref).name
        self._control().pause(name)
        return self._named(name)

    def resume(self, ref: str) -> Webhook:
        """End a pause; enable it again too, if it was disabled."""
        name = self._endpoint(ref).name
        self._control().resume(name)
        return self._named(name)

    def rotate_secret(self, ref: str, request: RotateRequest) -> RotatedSecret:
        """Replace the secret; the former one goes on signing, beside the new one, for the overlap."""
        if request.secret is not None and HIDDEN in request.secret:
            refuse_hidden({"secret": request.secret})
        overlap = DAY if request.overlap is None else request.overlap  # "0s" is false
        rotated = self._control().rotate_secret(self._endpoint(ref).name, request.secret, overlap)
        return RotatedSecret(
            secret=rotated.secret if rotated.generated else None,
            generated=rotated.generated,
            former_expires_at=timestamp(rotated.expires_ns),
        )

    def send_test(self, ref: str, request: TestRequest) -> TestSent:
        """Send one event to this endpoint alone; its delivery can be looked at from the start."""
        name = self._endpoint(ref).name
        return _sent(self._control().send_test(name, request.type, request.data))

    def close_breaker(self, ref: str) -> Webhook:
        """Close the breaker: requests go at once, what it held back included."""
        name = self._endpoint(ref).name
        self._control().close_breaker(name)
        held = Selection(endpoint=name, cause="breaker_open")
        with suppress(Conflict):  # failures have opened it again, or it was paused meanwhile
            self._go_on(self._control().retry, held, None, "retry")
        return self._named(name)

    def retry(self, ref: str, request: RetryRequest) -> Progress:
        """Attempt now what waits for its time, for up to STEPS_S; go on with the cursor."""
        key = parse_cursor(request.cursor, "retry", (int,))
        after = 0 if key is None else int(key[0])
        selection = Selection(endpoint=self._endpoint(ref).name, after=after)
        return self._go_on(self._control().retry, selection, request.limit, "retry")

    def defaults(self) -> Endpoint:
        """Return an endpoint with the defaults of this engine, those of its file included."""
        return default_endpoint(self.snapshot.config)

    # ---- status ----------------------------------------------------------------------------

    def stats(self) -> Stats:
        return read_stats(self.datadir.path)

    def status(self) -> Status:
        return status_view(self.stats(), time.time_ns())

    def webhook_status(self, ref: str) -> WebhookStatus:
        name = self._endpoint(ref).name
        for one in self.status().webhooks:
            if one.name == name:
                return one
        raise UnknownEndpoint(f"{name} was removed a moment ago")

    # ---- deliveries ------------------------------------------------------------------------

    def deliveries(
        self, which: DeliveryFilter = ALL, cursor: str | None = None, limit: int = 100
    ) -> Page[Delivery]:
        """Return what the store knows of deliveries, newest first: those that did not succeed at once,
        and those of endpoints with `record: all`. Times are when events were accepted."""
        key = parse_cursor(cursor, "deliveries", (int,))
        before = None if key is None else int(key[0])
        with self._store() as store:
            names, clock = _Names(store), store.clock()
            rows = queries.deliveries(
                store, names.resolved(which), before=before, limit=_limit(limit)
            )
        items = self.delivery_views([(row, names.name(row.endpoint)) for row in rows], clock)
        more = len(rows) == limit
        return Page(items, write_cursor("deliveries", rows[-1].id) if more else None)

    def delivery(self, id: str) -> DeliveryDetail:
        """Return one delivery with its attempts, and the request as it is sent."""
        number = parse_delivery_id(id)
        with self._store() as store:
            row = store.delivery(number)
            past, body = store.attempts(number), store.body(number)
            names, clock = _Names(store), store.clock()
        if row is None:
            raise _no_delivery(id)
        name = names.name(row.endpoint)
        endpoint = self.snapshot.endpoint(name)
        return _with(
            self.delivery_views([(row, name)], clock)[0],
            DeliveryDetail,
            history=[attempt_view(one, endpoint) for one in past],
            request=None if body is None else sent_request(row, past, body, endpoint),
        )

    def attempts(
        self, which: DeliveryFilter = ALL, cursor: str | None = None, limit: int = 100
    ) -> Page[AttemptRecord]:
        """Return attempts in the store, newest first. The filter's `cause` is `delivered` or a cause of
        failure. Times are when attempts began."""
        key = parse_cursor(cursor, "attempts", (int,))
        before = None if key is None else int(key[0])
        with self._store() as store:
            names = _Names(store)
            rows = queries.attempts(
                store, names.resolved(which), before=before, limit=_limit(limit)
            )
        endpoints = {endpoint.name: endpoint for endpoint in self.snapshot.config.endpoints}
        items = [
            attempt_record(row, name, endpoints.get(name))
            for row in rows
            for name in (names.name(row.endpoint),)
        ]
        more = len(rows) == limit
        return Page(items, write_cursor("attempts", rows[-1].past.id) if more else None)

    def count_waiting(self, ref: str, cause: str | None = None) -> int:
        """Return how many deliveries of a webhook wait for their time, those that wait for this reason
        if a `cause` is given."""
        id = self.snapshot.ids[self._endpoint(ref).name]
        with self._store() as store:
            now_ns = time.time_ns() - store.clock().offset_ns
            return queries.count_waiting(store, id, now_ns, cause)

    def retry_delivery(self, id: str) -> None:
        """Attempt a delivery now that waits for its time. Raise RequestError (404) for what is none,
        Conflict where it does not wait, or nothing can be sent."""
        if not self._control().retry_delivery(parse_delivery_id(id)):
            raise _no_delivery(id)

    def resend(self, id: str) -> TestSent:
        """Deliver the event of a delivery that succeeded once more. Raise RequestError (404) for what
        is none, or is not kept, Conflict where it did not succeed, or nothing can be sent."""
        sent = self._control().resend(parse_delivery_id(id))
        if sent is None:
            raise _no_delivery(id)
        return _sent(sent)

    # ---- dead letters ----------------------------------------------------------------------

    def dead_letters(
        self, which: DeliveryFilter = ALL, cursor: str | None = None, limit: int = 100
    ) -> Page[Delivery]:
        """Return dead letters, the latest to die first. Times are when they died."""
        key = parse_cursor(cursor, "dead-letters", (int, int))
        before = None if key is None else (int(key[0]), int(key[1]))
        with self._store() as store:
            names, clock = _Names(store), store.clock()
            rows = queries.dead_letters(
                store, names.resolved(which), before=before, limit=_limit(limit)
            )
        items = self.delivery_views([(row, names.name(row.endpoint)) for row in rows], clock)
        next_cursor = None
        if len(rows) == limit:
            next_cursor = write_cursor("dead-letters", rows[-1].ended_ns or 0, rows[-1].id)
        return Page(items, next_cursor)

    def count_dead_letters(self, which: DeliveryFilter = ALL) -> int:
        """Return how many dead letters match at this moment. Times are when they died."""
        with self._store() as store:
            return queries.count_dead_letters(store, _Names(store).resolved(which))

    def replay_one(self, id: str) -> None:
        """Deliver a dead letter again. Raise RequestError (404) for what is none."""
        if not self._control().replay(Selection(ids=[parse_delivery_id(id)])).done:
            raise _no_delivery(id, "dead letter")

    def replay(self, which: DeadLetterFilter) -> Progress:
        """Deliver dead letters again, for up to STEPS_S; go on with the cursor."""
        return self._walk(which, self._control().replay, "replay")

    def purge_one(self, id: str) -> None:
        """Erase a dead letter, after a line in the audit trail. Raise RequestError (404)."""
        if not self._control().purge(Selection(ids=[parse_delivery_id(id)])).done:
            raise _no_delivery(id, "dead letter")

    def purge(self, which: PurgeRequest) -> Progress:
        """Erase dead letters, for up to STEPS_S; go on with the cursor."""
        filters = (which.endpoint, which.type, which.cause, which.since, which.until)
        if not which.all and all(value is None for value in filters):
            raise invalid(
                "all",
                "without a filter every dead letter would be erased",
                "give endpoint, type, cause, since or until, or say all: true",
            )
        return self._walk(which, self._control().purge, "purge")

    def _walk(
        self, which: DeadLetterFilter, step: Callable[[Selection], Step], kind: str
    ) -> Progress:
        key = parse_cursor(which.cursor, kind, (int,))
        wanted = delivery_filter(
            endpoint=which.endpoint,
            type=which.type,
            cause=which.cause,
            since=which.since,
            until=which.until,
        )
        with self._store() as store:
            wanted = _Names(store).resolved(wanted)
        selection = Selection(
            endpoint=wanted.endpoint,
            type=wanted.type,
            cause=wanted.cause,
            since_ns=wanted.since_ns,
            until_ns=wanted.until_ns,
            after=0 if key is None else int(key[0]),
        )
        return self._go_on(step, selection, which.limit, kind)

    def _go_on(
        self,
        step: Callable[[Selection], Step],
        selection: Selection,
        limit: int | None,
        kind: str,
    ) -> Progress:
        """Take steps for up to STEPS_S, or to the limit. `kind` is that of the cursor."""
        if limit is not None and limit < 1:
            raise invalid("limit", f"{limit} is below 1", "write a number from 1 on")
        done, give_up_at = 0, time.monotonic() + STEPS_S
        while True:
            left = STEP if limit is None else min(STEP, limit - done)
            made = step(msgspec.structs.replace(selection, limit=left))
            done += made.done
            if made.after is None:
                return Progress(done=done)
            selection = msgspec.structs.replace(selection, after=made.after)
            if time.monotonic() >= give_up_at or done == limit:
                return Progress(done=done, next_cursor=write_cursor(kind, made.after))

    # ---- records ---------------------------------------------------------------------------

    def audit(
        self,
        which: DeliveryFilter = ALL,
        action: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[AuditEntry]:
        """Return the audit trail, newest first. The filter's `endpoint` may be a former one, and times
        are those of the entries."""
        endpoint = None if which.endpoint is None else self._audited(which.endpoint)
        which = msgspec.structs.replace(which, endpoint=endpoint)
        return erased_page(self.datadir.audit, which, action, cursor, _limit(limit))

    def changes(
        self, which: ChangeFilter = EVERY_CHANGE, cursor: str | None = None, limit: int = 100
    ) -> Page[ChangeEntry]:
        """Return who changed what, newest first. The filter's `endpoint` may be a former one."""
        endpoint = None if which.endpoint is None else self._audited(which.endpoint)
        which = which._replace(endpoint=endpoint)
        return changes_page(self.datadir.audit, which, cursor, _limit(limit))

    def _audited(self, ref: str) -> str:
        """Return the name by which the trail knows an endpoint; one may be in it and nowhere else."""
        meant = reference(ref)
        if meant.name is not None:
            return meant.name
        with self._store() as store:
            names = _Names(store)
            return names.name(names.id(ref) or 0)

    def event_types(self) -> list[EventType]:
        """Return both catalogs with the JSON schemas of their data, and the host's own types."""
        return event_types(self.snapshot.config.event_types)

    # ---- within ----------------------------------------------------------------------------

    def _control(self) -> Control:
        return Control(self.datadir.path, origin=self._origin())

    @contextmanager
    def _store(self) -> Iterator[ReadStore]:
        with ReadStore.open(self.datadir.store) as store:
            yield store

    def _subscriptions(self) -> tuple[dict[str, SubscriptionRow], Clock]:
        with self._store() as store:
            return {row.name: row for row in store.subscriptions()}, store.clock()

    def _endpoint(self, ref: str) -> Endpoint:
        return _endpoint(self.snapshot, ref)

    def _named(self, name: str) -> Webhook:
        """Return the webhook of a name, which need not be a reference to it (`id:wh_7`)."""
        snapshot = self.snapshot
        endpoint = snapshot.endpoint(name)
        if endpoint is None:
            raise _no_webhook(name)
        return self._webhook(snapshot, endpoint, *self._subscriptions(), self._figures())

    def _figures(self) -> dict[int, EndpointStats]:
        return {one.id: one for one in self.stats().endpoints}

    def delivery_views(
        self, rows: Sequence[tuple[DeliveryRow, str]], clock: Clock
    ) -> list[Delivery]:
        """Return deliveries, each with the name of its endpoint, as they are shown."""
        snapshot, now_ns = self.snapshot, time.time_ns() - clock.offset_ns
        ahead = {
            name: self.endpoint_state(snapshot, name, now_ns) for name in {name for _, name in rows}
        }
        return [delivery_view(row, name, clock, ahead[name], now_ns) for row, name in rows]

    def endpoint_state(self, snapshot: Snapshot, name: str, now_ns: int) -> EndpointState:
        """Return when what waits for an endpoint can be attempted; `now_ns` is engine time."""
        try:
            return endpoint_state(snapshot, snapshot.endpoint(name), self._words, now_ns)
        except IllegalMove:  # of a damaged word, which the status names
            return EndpointState("unknown")

    def _webhook(
        self,
        snapshot: Snapshot,
        endpoint: Endpoint,
        rows: dict[str, SubscriptionRow],
        clock: Clock,
        figures: dict[int, EndpointStats],
    ) -> Webhook:
        number = snapshot.ids[endpoint.name]
        # A row may be hidden by the file's endpoint of the same name.
        row = rows.get(endpoint.name) if endpoint.name in snapshot.created else None
        expiring = {} if row is None else row.expiring
        one = figures.get(number) or _nothing_known(number, endpoint)
        return Webhook(
            **endpoint_options(endpoint),
            id=f"wh_{number}",
            source="api" if endpoint.name in snapshot.created else "file",
            state=one.state,
            disabled_reason=one.disabled_reason,
            dead=one.dead,
            dead_by_cause=one.dead_by_cause,
            dead_cause=one.dead_cause,
            event_success_rate=one.event_success_rate,
            misconfigured_reason=snapshot.held.get(endpoint.name, ""),
            created_at=timestamp_or_none(row and row.created_ns),
            updated_at=timestamp_or_none(row and row.updated_ns),
            expiring_secrets=len(expiring),
            secrets_expire_at=timestamp(clock.wall_ns(max(expiring.values())))
            if expiring
            else None,
            notices=_notices(snapshot, endpoint),
        )


def _nothing_known(number: int, endpoint: Endpoint) -> EndpointStats:
    return EndpointStats(id=number, name=endpoint.name, url=endpoint.url, state="unknown")


def _sent(sent: Sent) -> TestSent:
    held_ns = sent.held_until_ns
    return TestSent(
        event_id=sent.event_id,
        delivery_id=shown_id(sent.delivery_id),
        held_by=None if held_ns is None else "breaker_open",
        held_until=timestamp_or_none(held_ns),
    )


def _notices(snapshot: Snapshot, endpoint: Endpoint) -> tuple[str, ...]:
    """Return what there is to remark about its subscription."""
    findings = Findings()
    check_subscription(endpoint, "", known_types(snapshot.config), findings)
    return tuple(map(str, findings.notices))


class _Names:
    """The names of all endpoints that ever were."""

    def __init__(self, store: ReadStore) -> None:
        self._names = {row.id: row.name for row in store.endpoints()}

    def name(self, id: int) -> str:
        return self._names.get(id, f"wh_{id}")

    def id(self, ref: str | None) -> int | None:
        """Return the id. Raise UnknownEndpoint."""
        if ref is None:
            return None
        meant = reference(ref)
        for id, name in self._names.items():
            if name == meant.name:
                return id
        if meant.id in self._names:
            return meant.id
        raise _no_webhook(meant.name or ref)

    def resolved(self, which: DeliveryFilter) -> DeliveryFilter:
        """Return a filter with the name of its endpoint in place of what the caller wrote.

        Raises UnknownEndpoint.
        """
        id = self.id(which.endpoint)
        return which if id is None else msgspec.structs.replace(which, endpoint=self.name(id))


def _with(base: msgspec.Struct, kind: type[T], **more: Any) -> T:
    """Return the fields of a struct and some more, as a struct of a subclass."""
    return kind(**{**msgspec.structs.asdict(base), **more})


def _limit(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise invalid("limit", f"{limit} is out of range", f"write a number from 1 to {MAX_PAGE}")
    return limit


def _endpoint(snapshot: Snapshot, ref: str) -> Endpoint:
    meant = path_reference(ref)
    found = None if meant.name is None else snapshot.endpoint(meant.name)
    found = found or _with_id(snapshot, meant.id)
    if found is None:
        raise _no_webhook(meant.name or ref)
    return found


def _with_id(snapshot: Snapshot, id: int | None) -> Endpoint | None:
    found = (e for e in snapshot.config.endpoints if snapshot.ids[e.name] == id)
    return next(found, None)


def _no_webhook(ref: str) -> UnknownEndpoint:
    return UnknownEndpoint(f"there is no webhook {ref!r:.80}; GET /v1/webhooks lists all")


def _no_delivery(id: str, noun: str = "delivery") -> RequestError:
    return RequestError("unknown-delivery", f"There is no {noun} {id!r:.80}, or no longer.")
