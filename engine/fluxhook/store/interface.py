"""What the scheduler asks of a store. SQLite is one implementation (`DeliveryStore`); another has to
keep the same promises.

The order that makes a delivery neither lost nor counted twice:

1. Reports are taken from the outbox rings, and what follows from them is gathered in a `Transaction`,
   together with the position that each ring reaches by it.
2. `commit` makes all of that true at once, or none of it.
3. The published numbers of stored deliveries follow (`EngineWords.publish_stored`), so that a worker
   sees an order that is in the store before it can see that the report is gone.
4. Only then are the reports released in their rings.

A scheduler that is killed before 2 finds the reports again; one that is killed before 4 finds them
too, and skips them, since the position says that they are applied. What it had leased counts as not
leased, and is handed out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol, Self

from fluxhook.errors import EngineError
from fluxhook.policy import delivery as life
from fluxhook.store.rows import DeliveryRow, Due, EndpointRow
from fluxhook.transport.messages import Attempt, EventHead

__all__ = ["Store", "StoreError", "Transaction"]


class StoreError(EngineError):
    """The disk is full, read-only or failing: nothing of the transaction was kept. Try it again."""


class Transaction(Protocol):
    """Changes that become true together.

    Nothing is written before `commit`; a `with` block commits at its end, and forgets everything
    if it ends in an exception. Times are engine time, those called `wall_ns` wall time. The deliveries
    given to its methods are those that its own `add`, `find` and `copy` returned; each method raises
    `ValueError` for a move that policy/delivery.py does not have.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def commit(self) -> None:
        """Write all of it or, raising `StoreError`, nothing; then it may be called again.

        After a success it does nothing. What was changed is not leased any more, and
        `Store.pending` counts it.
        """

    def find(self, delivery_id: int) -> DeliveryRow | None:
        """Return a pending delivery as this transaction leaves it; None if it has ended or never was:
        then a report on it is stale."""

    def copy(self, delivery: DeliveryRow) -> DeliveryRow:
        """Return this transaction's own copy of a delivery just read from the store."""

    def add(
        self,
        delivery_id: int,
        endpoint: int,
        event: EventHead,
        body: bytes,
        *,
        accepted_ns: int,
        due_ns: int,
        ordered: bool = False,
        leased: bool = False,
        cause: str = "",
        error: str = "",
    ) -> DeliveryRow:
        """Add a delivery that is new to the store, pending, without looking for it first.

        An `ordered` one is blocked until those of its endpoint and order key with lower ids have
        ended; the commit moves those whose turn has come. A `leased` one is out with a worker
        already. If the id is taken, it gets another one. Raises `ValueError` for an endpoint that
        the store does not know.
        """

    def attempt(self, delivery: DeliveryRow, attempt: Attempt, offset_ns: int = 0) -> None:
        """Record an attempt and count it. What follows from it is another call.

        `offset_ns` is how far the wall clock, by which it is dated, was ahead of the engine's.
        """

    def reschedule(
        self, delivery: DeliveryRow, due_ns: int, cause: str = "", error: str = ""
    ) -> None:
        """Have a pending delivery wait until `due_ns`: it failed, was deferred, or came back."""

    def delivered(self, delivery: DeliveryRow, wall_ns: int) -> None:
        """End a delivery with success."""

    def drop(self, delivery: DeliveryRow, wall_ns: int, cause: str) -> None:
        """End a delivery by a policy, which `cause` names."""

    def dead_letter(
        self,
        delivery: DeliveryRow,
        wall_ns: int,
        cause: str,
        error: str = "",
        *,
        event: life.Event = "dead",
    ) -> None:
        """Make a dead letter of a pending delivery, and tell the store's `on_dead_letter`. `event` is
        that of the move in policy/delivery.py."""

    def replay(self, delivery: DeliveryRow, now_ns: int) -> None:
        """Make a dead letter wait again, due now and with all of its attempts before it.

        An ordered one takes its old place in the line, but does not call back what is waiting at
        its head.
        """

    def count(self, endpoint: int, name: str, n: int = 1) -> None:
        """Raise a counter of the endpoint's, which outlives every process."""

    def window(self, endpoint: int, closes_ns: int, state: bytes) -> None:
        """Open an endpoint's window of aggregation, or change what is in it."""

    def close_window(self, endpoint: int) -> None:
        """Forget the endpoint's window."""

    def position(self, ring_uid: bytes, seq: int) -> None:
        """Note up to where a ring has been applied, by this transaction and those before it."""


class Store(Protocol):
    """The deliveries that were not delivered at once, as the scheduler, their one writer, has them.

    Every method raises `StoreError` where the store cannot be reached or written, having changed
    nothing; try again later. Leases are the scheduler's own: no other process has to see them, and
    they end with it.
    """

    #: hears of each dead letter before it is committed, so perhaps more than once
    on_dead_letter: Callable[[DeliveryRow], None]
    #: hears of those of a transaction once it is committed, so never of one that a crash takes back; a
    #: crash right after it may leave them untold
    on_dead_letters: Callable[[list[DeliveryRow]], None]

    @property
    def path(self) -> object:
        """The name by which messages call this store."""

    @property
    def pending(self) -> Mapping[int, int]:
        """For each endpoint ever known, how many deliveries wait or are blocked, as of the last
        commit; leased ones included."""

    # ---- asking ----------------------------------------------------------------------------

    def positions(self) -> dict[bytes, int]:
        """Return up to where each ring has been applied."""

    def windows(self) -> list[tuple[int, int, bytes]]:
        """Return endpoint, closing time and state of each open window of aggregation."""

    def counters(self) -> dict[int, dict[str, int]]:
        """Return what `Transaction.count` has counted: endpoint, name, value."""

    def endpoints(self) -> list[EndpointRow]:
        """Return every endpoint that ever was, by id."""

    def oldest_ns(self, endpoint: int) -> int | None:
        """Return when the oldest pending delivery of an endpoint was accepted (wall time); None where
        none is."""

    def delivery(self, delivery_id: int) -> DeliveryRow | None:
        """Return one delivery in whatever state; None if there is none, or no longer."""

    def body(self, delivery_id: int) -> bytes | None:
        """Return what is sent of a delivery; None once it is erased."""

    def expired(self, ended_before_ns: int, limit: int) -> list[DeliveryRow]:
        """Return deliveries that ended before then (wall time), in no order: what `purge` may take."""

    def pending_since(self, added_before_ns: int, limit: int) -> list[DeliveryRow]:
        """Return pending deliveries that came to the store before then, the oldest first."""

    # ---- leases ----------------------------------------------------------------------------

    def fronts(self) -> list[tuple[int, int]]:
        """Return each endpoint with waiting deliveries that are not leased, and a time before which
        none of these is due."""

    def front_ns(self, endpoint: int) -> int | None:
        """Return that time for one endpoint; None where nothing waits that is not leased."""

    def lease(self, endpoint: int, now_ns: int, limit: int) -> list[Due]:
        """Hand out what is due, the longest due first, at most `limit`.

        Nothing is handed out again before a commit changed it or `release` gave it back. Of ordered
        deliveries with the same key only the first is handed out.
        """

    def release(self, delivery_ids: Iterable[int]) -> None:
        """Take back what nobody works on any more: it may be leased at once."""

    def leased(self, endpoint: int) -> int:
        """Return how many deliveries of an endpoint are leased."""

    def is_leased(self, delivery_id: int) -> bool: ...

    # ---- changing --------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """Begin a transaction. One at a time has changes that are not committed."""

    def dead_letter_all(
        self, endpoint: int, wall_ns: int, cause: str, error: str = "", *, limit: int
    ) -> int:
        """Make dead letters of an endpoint's pending deliveries, at most `limit` at a time.

        Return how many; call it until that is 0. What is leased is left to the report on it.
        """

    def purge(self, delivery_ids: Iterable[int]) -> int:
        """Erase the ended ones among these, bodies and attempts too; return how many.

        Dead letters are counted as `dropped.purged` from then on.
        """

    def disable_endpoint(self, endpoint: int, wall_ns: int, reason: str) -> None:
        """Note that an endpoint gets nothing more, and why."""
