"""Where the time of a request goes: histograms for each endpoint, of a sample (datadir.SAMPLED_ONE_IN).

The dispatcher chooses the samples as it sends, and the tag of the request says so to who settles it.
"""

from __future__ import annotations

from time import perf_counter_ns

from fluxhook._native.ring import RingDelivery
from fluxhook._native.shared import Counters
from fluxhook.transport import datadir as field
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.transfer import Transfer
from fluxhook.worker.endpoint_queue import EndpointQueue

__all__ = ["StageTimings"]

#: of `TransferStages`
_FIELDS = (field.STAGE_DNS, field.STAGE_CONNECT, field.STAGE_TLS, field.STAGE_FIRST_BYTE)


class StageTimings:
    """Observes requests. `counters` are the worker's own, `histograms` its file `stages`."""

    def __init__(self, counters: Counters, histograms: Counters, clock: EngineClock) -> None:
        self._counters = counters
        self._histograms = histograms
        self._clock = clock

    def make(
        self, queue: EndpointQueue, deliveries: list[RingDelivery], now_ns: int, now_s: int
    ) -> tuple[list[bytes], bytes]:
        """Make the request, and observe how long that takes and how long its first event waited."""
        observe, delivery = self._histograms.observe, deliveries[0]
        if delivery.attempts == 0 and delivery.id == 0:
            waited_us = self._clock.age_ns(delivery.accepted_ns, now_ns) // 1000
            observe(queue.id, field.STAGE_QUEUE, waited_us)
        begun_ns = perf_counter_ns()
        request = queue.request_for(deliveries, now_s)
        observe(queue.id, field.STAGE_SIGN, (perf_counter_ns() - begun_ns) // 1000)
        return request

    def finished(self, queue: EndpointQueue, transfer: Transfer) -> None:
        """Observe a sample, or a request that opened a connection."""
        if transfer.opened:
            self._counters.add(queue.id, field.CONNECTED)
        for us, first_field in zip(transfer.stages(), _FIELDS, strict=True):
            if us:
                self._histograms.observe(queue.id, first_field, us)
