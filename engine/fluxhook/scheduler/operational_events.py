"""The engine's own events: of each event that was given up, and of each endpoint that was disabled."""

from __future__ import annotations

import msgspec

from fluxhook.config.schema import Config
from fluxhook.config.units import Size
from fluxhook.events.gateway import DeliveryFailed, EndpointDisabled
from fluxhook.events.trace_context import TraceContext
from fluxhook.logs.log import Log, described
from fluxhook.publisher.publisher import OwnPublisher
from fluxhook.store.audit import timestamp
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = ["OperationalEvents", "own_config"]

log = Log("delivery")

FAILED = "webhook.delivery.failed"
DISABLED = "webhook.endpoint.disabled"
#: their own failure is not reported
SILENT = frozenset((FAILED, DISABLED, "webhook.test"))

#: room for some ten thousand of them
RING_BYTES = 8 << 20


def own_config(config: Config) -> Config:
    """Return what the engine's publisher makes of the configuration.

    Its events go to the endpoints that name them (`webhook.*`, or `*`): one without `events` gets all
    of the host's, and a host that knows none of ours does not hear of them.
    """
    return msgspec.structs.replace(
        config,
        # Never `block`: the scheduler, which emits here, is what makes room.
        drop_policy="newest",
        ring_bytes=Size(min(config.ring_bytes, RING_BYTES)),
        endpoints=tuple(endpoint for endpoint in config.endpoints if endpoint.events),
    )


class _OwnEvents(OwnPublisher):
    slot_name = "engine"

    def _load(self) -> Snapshot:
        snapshot = super()._load()
        return msgspec.structs.replace(snapshot, config=own_config(snapshot.config))


class OperationalEvents:
    """Emits like any publisher, into the rings, to those that subscribed.

    It is told before the dead letter is committed, so that a crash in between loses none; the
    event's id is made of the delivery's, so that one told twice can be known again. The failure of
    such an event makes no other one.
    """

    def __init__(self, datadir: DataDir) -> None:
        self._publisher = _OwnEvents(datadir.path)
        self._names: dict[int, str] = {}

    def configure(self, snapshot: Snapshot) -> None:
        self._names.update({id: name for name, id in snapshot.ids.items()})

    def delivery_failed(self, delivery: DeliveryRow) -> None:
        if delivery.type in SILENT:
            return
        data = DeliveryFailed(
            endpoint=self._names.get(delivery.endpoint, str(delivery.endpoint)),
            event_id=delivery.event_id,
            event_type=delivery.type,
            attempts=delivery.attempts,
            cause=delivery.cause,
            error=delivery.error,
        )
        self._emit(FAILED, data, f"evt_{delivery.id:020x}", delivery.event.trace)

    def endpoint_disabled(self, endpoint: str, reason: str, failing_ns: int) -> None:
        data = EndpointDisabled(
            endpoint=endpoint, reason=reason, failing_since=timestamp(failing_ns)
        )
        self._emit(DISABLED, data)

    def _emit(
        self,
        type: str,
        data: msgspec.Struct,
        event_id: str | None = None,
        trace: TraceContext | None = None,
    ) -> None:
        context = {} if trace is None else trace._asdict()
        try:
            self._publisher.emit(type, data, event_id=event_id, **context)
        except Exception as e:  # it only tells of something: that must go on
            log.error("%s could not be emitted: %s", type, described(e))

    def close(self) -> None:
        self._publisher.close()
