"""Which waiting deliveries are out with a worker, and from where to look for more."""

from __future__ import annotations

from collections import defaultdict

from fluxhook.store.rows import DeliveryRow

__all__ = ["Leases", "Place"]

#: where a waiting delivery stands among those of its endpoint: (due_ns, id)
Place = tuple[int, int]


class Leases:
    """Kept in memory only: a lease must not outlive the scheduler that gave it.

    `fronts` has, for each endpoint with waiting deliveries that are not leased, a place before
    which there are none of them. So a search passes by what is out, however much that is.
    """

    def __init__(self, fronts: dict[int, Place]) -> None:
        self.fronts = fronts
        self.out: dict[int, DeliveryRow] = {}
        #: how many are out, by endpoint
        self.counts: defaultdict[int, int] = defaultdict(int)

    def take(self, delivery: DeliveryRow) -> None:
        self.out[delivery.id] = delivery
        self.counts[delivery.endpoint] += 1

    def end(self, delivery_id: int) -> DeliveryRow | None:
        """Return what was leased under this id, if anything."""
        delivery = self.out.pop(delivery_id, None)
        if delivery is not None:
            self.counts[delivery.endpoint] -= 1
        return delivery

    def waits(self, endpoint: int, place: Place) -> None:
        """Note that a delivery may now be found at this place."""
        front = self.fronts.get(endpoint)
        if front is None or place < front:
            self.fronts[endpoint] = place
