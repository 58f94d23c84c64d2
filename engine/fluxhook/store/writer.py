"""What the store's one writer keeps in memory beside the file."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

from fluxhook.store.leases import Leases
from fluxhook.store.reader import FRONTS, ReadStore
from fluxhook.store.rows import DeliveryRow

__all__ = ["Writer"]


class Writer(ReadStore):
    """What `DeliveryStore` and its batches share: leases, and numbers that go with the rows."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        super().__init__(path, db)
        self.leases = Leases({id: (due_ns, 0) for id, due_ns in self._all(FRONTS)})
        #: for each endpoint, how many deliveries wait or are blocked, leased ones included
        self.pending = {row.id: row.pending for row in self.endpoints()}
        ((last,),) = self._all("SELECT coalesce(max(id), 0) FROM attempts")
        self.attempt_ids = itertools.count(last + 1)
        #: hears of each dead letter before it is committed, so perhaps more than once
        self.on_dead_letter: Callable[[DeliveryRow], None] = lambda delivery: None
        #: hears of those of a transaction once it is committed
        self.on_dead_letters: Callable[[list[DeliveryRow]], None] = lambda deliveries: None
