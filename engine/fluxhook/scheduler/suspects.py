"""Deliveries at one of which a worker may have ended by a fault of its own.

They are tried one at a time, so that a second end tells at which. What is not tried within SUSPECT_NS
is due like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from fluxhook.policy import delivery as life
from fluxhook.store import Store
from fluxhook.transport.messages import SUSPECT_NS

__all__ = ["Suspects"]


class Suspects:
    """They wait in the store with the cause `suspect`; here is their order."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[int] = deque()
        #: the one that is tried now
        self._trial = 0

    def add(self, delivery_id: int) -> None:
        """Try a delivery that waits as a suspect already, once its turn has come."""
        self._waiting.append(delivery_id)

    def suspect(self, delivery_ids: Iterable[int], now_ns: int) -> None:
        """Have deliveries wait as suspects whose worker has ended."""
        ids = list(delivery_ids)
        with self._store.transaction() as transaction:
            for id in ids:
                if row := transaction.find(id):
                    after = life.step(
                        life.DeliveryStatus("sending", row.attempts),
                        "deferred",
                        now_ns,
                        retry=None,
                        attempted=False,
                        not_before_ns=now_ns + SUSPECT_NS,
                    )
                    transaction.reschedule(row, after.due_ns, "suspect")
        self._waiting += ids

    def try_next(self, now_ns: int) -> None:
        """Make the next suspect due, once the one before has come back."""
        while self._waiting and not self._store.is_leased(self._trial):
            self._trial = self._waiting.popleft()
            if self._store.is_leased(self._trial):
                return
            with self._store.transaction() as transaction:
                row = transaction.find(self._trial)
                if row is not None and row.cause == "suspect":
                    before = life.DeliveryStatus("waiting", row.attempts, row.due_ns)
                    after = life.step(before, "hurry", now_ns, retry=None, attempted=False)
                    transaction.reschedule(row, after.due_ns, "suspect")
                    return
