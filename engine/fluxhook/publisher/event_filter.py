"""The event filter of one endpoint in one publisher: what of the events that match it is forwarded."""

from __future__ import annotations

from fluxhook._native.shared import Words
from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Threshold
from fluxhook.events.event import Event
from fluxhook.events.where import compile_where
from fluxhook.policy.sample import in_sample
from fluxhook.transport.datadir import UNMETERED
from fluxhook.transport.thresholds import Thresholds

__all__ = ["EventFilter", "has_filters"]


def has_filters(endpoint: Endpoint) -> bool:
    """Return whether an endpoint has any filter beyond its subscription."""
    return bool(endpoint.where) or endpoint.sample < 1 or endpoint.threshold is not None


class EventFilter:
    """Asks where, sample and threshold, in this order: what one holds back the next never sees, so
    that a threshold counts what is left. `words` are the shared ones of the endpoints."""

    def __init__(
        self, endpoint_id: int, endpoint: Endpoint, words: Words, thresholds: Thresholds
    ) -> None:
        self._id = endpoint_id
        self._where = compile_where(endpoint.where) if endpoint.where else None
        self._sample = endpoint.sample
        self._threshold = endpoint.threshold
        self._words = words
        self._thresholds = thresholds
        self._rows: dict[str, int] = {}

    def __call__(self, event: Event) -> bool:
        """Return whether the event goes on to the endpoint."""
        if self._where is not None and not self._where(event.fields):
            return False
        if self._sample < 1 and not in_sample(event.id, self._sample):
            return False
        return self._threshold is None or self._exceeds(event.type, self._threshold)

    def _exceeds(self, event_type: str, threshold: Threshold) -> bool:
        """Return whether the event is over the threshold.

        An event that the full table cannot count is forwarded, and counted as unmetered: a filter
        against noise must not silence a type of which it knows nothing.
        """
        row = self._rows.get(event_type)
        if row is None:
            row = self._thresholds.row(self._id, event_type, threshold.window_ns)
            if row is None:
                self._words.add(self._id, UNMETERED, 1)
                return True
            self._rows[event_type] = row
        return self._thresholds.exceeded(row, threshold)
