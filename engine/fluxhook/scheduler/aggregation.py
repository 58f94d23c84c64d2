"""Aggregation: events of some types are counted in their endpoint's window, which becomes one
notification."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Duration
from fluxhook.errors import PayloadTooLarge
from fluxhook.events.gateway import FailuresAggregated
from fluxhook.logs.log import Log, described
from fluxhook.policy import aggregate
from fluxhook.scheduler import damaged, step_limits
from fluxhook.scheduler.endpoints import Endpoints
from fluxhook.scheduler.own_deliveries import OwnDeliveries
from fluxhook.store import Store, StoreError, Transaction
from fluxhook.store.audit import timestamp
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import EventHead, Report

__all__ = ["Windows"]

log = Log("delivery")

#: a notification leaves this much of max_event_bytes to what is not its originals
NOTIFICATION_BYTES: Final = 2048
#: stands in for an endpoint that is no more; what is made for it becomes a dead letter
_NOBODY: Final = Endpoint(name="", url="")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(aggregate.Window).decode


class Windows:
    """The open windows. What is gathered is committed with the position of the reports: `begin`,
    any number of `gather`, then `write`, or `take_back` where the reports are applied anew."""

    def __init__(
        self,
        store: Store,
        clock: EngineClock,
        endpoints: Endpoints,
        own: OwnDeliveries,
        damaged_folder: Path,
    ) -> None:
        self._store = store
        self._clock = clock
        self._endpoints = endpoints
        self._own = own
        self._damaged = damaged_folder
        #: by endpoint
        self.open = {id: self._read(id, state) for id, _, state in store.windows()}
        self._before = self.open.copy()

    # ---- gathering -------------------------------------------------------------------------

    def begin(self) -> None:
        self._before = self.open.copy()

    def take_back(self) -> None:
        self.open = self._before

    def gather(self, transaction: Transaction, report: Report, body: bytes, now_ns: int) -> None:
        """Count an event in its endpoint's window."""
        endpoint = self._endpoints.get(report.endpoint) or _NOBODY
        options = endpoint.aggregate
        if not options.window:  # since it was changed: what is open closes, nothing else opens
            options = msgspec.structs.replace(options, window=Duration(0))
        window = self.open.get(report.endpoint)
        if window is None:  # its notification is as good as accepted, and pending from here on
            transaction.count(report.endpoint, "accepted")
        self.open[report.endpoint] = aggregate.add(
            window,
            EventHead.decode(report.event).type,
            body,
            report.accepted_ns,
            now_ns,
            aggregate=options,
            room_bytes=self._max_bytes(endpoint) - NOTIFICATION_BYTES,
        )
        transaction.count(report.endpoint, "aggregated")

    def write(self, transaction: Transaction) -> None:
        """Write the windows that have changed since `begin`."""
        for endpoint_id, window in self.open.items():
            if window is not self._before.get(endpoint_id):
                transaction.window(endpoint_id, window.closes_ns, _encode(window))

    def _max_bytes(self, endpoint: Endpoint) -> int:
        """Return the size of the largest body that the endpoint takes."""
        limit = int(self._endpoints.snapshot.config.max_event_bytes)
        return min(limit, int(endpoint.max_payload)) if endpoint.max_payload else limit

    # ---- closing ---------------------------------------------------------------------------

    def close(self, now_ns: int) -> tuple[int, bool]:
        """Turn windows whose time is over into deliveries, a transaction for each; return when the next
        one's is, and whether there are more."""
        wake_ns, left = step_limits.NEVER_NS, step_limits.TRANSACTIONS
        for endpoint_id, window in list(self.open.items()):
            if not aggregate.closes(window, now_ns) and self._endpoints.get(endpoint_id):
                wake_ns = min(wake_ns, window.closes_ns)
                continue
            until_ns = self._endpoints.left_alone_until_ns(endpoint_id)
            if now_ns < until_ns:
                wake_ns = min(wake_ns, until_ns)
                continue
            if not left:
                return wake_ns, True
            left -= 1
            try:
                with self._store.transaction() as transaction:
                    transaction.close_window(endpoint_id)
                    self.notify(transaction, endpoint_id, window, now_ns)
            except StoreError:
                raise
            except Exception as e:
                self._endpoints.fault(endpoint_id, e, now_ns)
                continue
            del self.open[endpoint_id]
            self._endpoints.publish_stored([endpoint_id])
            wake_ns = now_ns
        return wake_ns, False

    def notify(
        self, transaction: Transaction, endpoint_id: int, window: aggregate.Window, now_ns: int
    ) -> None:
        """Add the notification of a window: without the originals, and without the numbers by type,
        where there is no room for them."""
        endpoint = self._endpoints.get(endpoint_id) or _NOBODY
        data = FailuresAggregated(
            endpoint=self._endpoints.name(endpoint_id),
            count=window.count,
            counts=window.counts,
            first_at=timestamp(window.first_ns),
            last_at=timestamp(window.last_ns),
            originals=tuple(map(msgspec.Raw, window.originals)),
        )
        brief = msgspec.structs.replace(data, originals=())
        for choice in (data, brief, msgspec.structs.replace(brief, counts={})):
            with contextlib.suppress(PayloadTooLarge):
                self._own.create(
                    transaction,
                    endpoint_id,
                    endpoint,
                    "webhook.failures.aggregated",
                    choice,
                    now_ns,
                )
                return
        transaction.count(endpoint_id, "dropped.payload_too_large")

    def _read(self, endpoint_id: int, state: bytes) -> aggregate.Window:
        """Return an endpoint's window as the store has it; of one that cannot be read only that it is
        open. It closes in its length at the latest, by whatever clock it was opened."""
        now_ns = self._clock.now_ns()
        try:
            window = _decode(state)
        except msgspec.MsgspecError as e:
            with contextlib.suppress(OSError):
                damaged.keep(self._damaged, f"{endpoint_id}.window", state)
            log.error(
                "the open window of endpoint %d cannot be read (%s), and is closed; it is kept in %s",
                endpoint_id, described(e), self._damaged,
                endpoint=self._endpoints.name(endpoint_id),
            )  # fmt: skip
            wall_ns = self._clock.wall_ns(now_ns)
            return aggregate.Window(0, {}, wall_ns, wall_ns)
        endpoint = self._endpoints.get(endpoint_id) or _NOBODY
        length = endpoint.aggregate.window or Duration(0)
        closes_ns = min(window.closes_ns, now_ns + length.ns)
        return msgspec.structs.replace(window, closes_ns=closes_ns)
