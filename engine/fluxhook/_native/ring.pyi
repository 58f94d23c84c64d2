"""Rings that carry records between two processes.

A ring is a memory-mapped file, so what stands in it survives its writer. `_native/ring.h` has the
layout, the invariants and what a process that dies at each step leaves behind.

A ring has one producer process and one consumer process at a time; who may be which is settled by
file locks outside of this module. After a process died its successor calls, before anything else,
`recover` with the dead one's counters and rings, and a consumer then `Consumer.rewind`.

No object here may be used by two threads at once without the GIL, nor by the child of a fork,
except for what `FORKED` says. Whatever is used after `close` raises ValueError.
"""

from collections.abc import Iterable
from typing import Final, final

from fluxhook._native.shared import Counters, Mapping

#: what other compiled modules call
__pyx_capi__: Final[dict[str, object]]

#: results of `Producer.put`, `Template.put` and `RingDelivery.hand_over`
ACCEPTED: Final[int]
#: the ring has no room now; nothing was written
FULL: Final[int]
#: this process is a child of the one that opened the producer; nothing was written
FORKED: Final[int]
#: the record takes over half of the ring's capacity and will never fit; nothing was written
TOO_LARGE: Final[int]
#: of `RingDelivery.hand_over`: the record is put, but the disk failed; call it until it succeeds
UNSYNCED: Final[int]

#: the most targets that a record can have
MAX_TARGETS: Final[int]

def create_ring(path: str, queue_size: int, capacity: int, boot_id: bytes) -> None:
    """Make an empty ring file for up to `queue_size` waiting records in `capacity` bytes.

    A record takes 32 bytes, 4 for each target, its head and its body, rounded up to 8; as many
    records as wait may be in the consumer's hands besides, bytes permitting. `capacity` is rounded
    up to 8. Replaces an existing file. Raises ValueError for a capacity under 4096 and a queue_size
    outside of 1 to 2^28, OSError as `create_file`.
    """

def ring_bytes(queue_size: int, capacity: int) -> int:
    """Return the size of such a ring's file."""

def repair_ring(path: str, boot_id: bytes) -> int | None:
    """Put a ring right that was in use when the machine went down.

    Return the number of records saved, or None if the ring is of this boot and needs no repair.
    Saved is each record that is unsettled as far as the disk knows and whose checksum holds, so a
    settled one may come again. The ring gets a new `uid`: its sequence numbers may repeat older
    ones. Nobody else may have the ring open. Raises LayoutMismatch for what is no ring at all.
    """

def check_ring(
    path: str, boot_id: bytes, *, alone: bool, weed: bool = True
) -> tuple[int | None, int]:
    """Look through a ring that no consumer has open, and puts right what is wrong.

    Return the number of records saved, or None if its positions were right, and the number of those
    that were damaged and are settled unseen. `alone`: no producer has it open either, so that
    positions that cannot be may be made anew, as in `repair_ring`. Without `weed` nothing is settled.
    Raises LayoutMismatch.
    """

def rebuild_ring(path: str, queue_size: int, capacity: int, boot_id: bytes) -> int:
    """Give a ring whose header or size is damaged another one, and saves what is whole in it.

    Its geometry may be what is left of its header, the given one, or any that its size allows; taken is
    that with which most records are whole. Returns the number of records saved. Nobody else may have
    the ring open. Raises LayoutMismatch where nothing is whole.
    """

def geometry(path: str) -> tuple[int, int]:
    """Return (queue_size, capacity in bytes) of a ring file."""

def unsettled(path: str, applied: dict[bytes, int] | None = None) -> dict[int, int]:
    """Return the number of unsettled deliveries per target in a ring; exact while it is at rest.

    `applied`: by the rings' uids, as 8 bytes little-endian, the sequence number up to which their
    records count no more. Any process may ask at any time.
    """

@final
class Producer(Mapping):
    """The writing end of a ring.

    `drop_oldest`: rather than refuse a record, `put` drops the oldest ones that nobody took yet.
    `doorbell`: a file descriptor that gets one byte when something is put while the consumer sleeps; it
    should be non-blocking, since a doorbell that takes no more bytes rings already. It stays the
    caller's.
    `sync`: what `RingDelivery.hand_over` puts here is on the disk before the delivery leaves its ring.

    A child of fork() that inherits the object gets FORKED from `put`. Within one process several
    may be open on one ring and used in turn. Raises LayoutMismatch and OSError.
    """

    def __init__(
        self, path: str, *, drop_oldest: bool = False, doorbell: int = -1, sync: bool = False
    ) -> None: ...
    @property
    def uid(self) -> int:
        """64 random bits, drawn when the file was made or repaired."""

    @property
    def capacity_bytes(self) -> int: ...
    @property
    def queue_size(self) -> int: ...
    @property
    def head(self) -> int:
        """All records before this sequence number are settled or dropped."""

    @property
    def tail(self) -> int:
        """The sequence number of the record that is put next; the first ever is 0."""

    @property
    def waiting(self) -> int:
        """Records that the consumer has not looked at and `put` has not dropped.

        What was settled out of order counts again after a rewind, until the consumer comes past it.
        """

    @property
    def backlog(self) -> int:
        """The work of the consumer: records that wait, and targets of those in its hands."""

    @property
    def empty(self) -> bool:
        """True if every record is settled or dropped."""

    def put(
        self, targets: bytes, head: bytes, body: bytes, counters: Counters | None = None
    ) -> int:
        """Publish one record: ACCEPTED, FULL, FORKED or TOO_LARGE. Never waits.

        `targets` are 1 to 32 unsigned 32-bit numbers, little-endian, else ValueError; that they
        differ is the caller's word. With `counters` field 0 of each target's row counts what was
        accepted and field 1 what was dropped; targets beyond its rows are not counted.

        FULL: `queue_size` records wait, or their bytes and those in the consumer's hands leave no
        room. With `drop_oldest` only because a record in the consumer's hands is in the way of more
        bytes; then nothing is dropped either.
        """

def least_backlog(producers: list[Producer]) -> int:
    """Return the index of the ring with the shortest backlog; 0 of no ring.

    It is 0 while that has fewer than 4; ties are broken at random. Where that ring is full it is one
    that is not, or the one whose oldest waiting record is the oldest of all.
    """

def recover(
    counters: Counters, rings: list[Producer] | list[Consumer], outbox: Producer | None = None
) -> bool:
    """Finish what a killed writer had begun; return whether that was on one of `rings`.

    For the writer's successor alone, before it or anyone else uses the rings in its place.
    What had been committed (see ring.h) is completed, what had not did not happen. An operation
    on a ring that is not among `rings` is forgotten: that ring is gone. `outbox` is where the
    killed writer handed deliveries over to; its producer is the successor's as well.
    """

@final
class RingDelivery:
    """One event for one endpoint, on its way through a worker. `Consumer.take` makes them.

    The bytes are copies. `id`, `attempts` and `taken_ns` are 0 at first and the caller's to use.
    """

    #: the target that it is for
    endpoint: int
    #: CLOCK_REALTIME when the record was put
    accepted_ns: int
    #: the record's head
    event: bytes
    body: bytes
    id: int
    attempts: int
    taken_ns: int
    @property
    def seq(self) -> int:
        """The sequence number of its record."""

    @property
    def in_ring(self) -> bool:
        """True while its ring still keeps it, until it is settled or handed over."""

    def settle(self, counters: Counters | None = None, field: int = 0) -> bool:
        """End it: its ring will not give it again. Return False if a predecessor had done so.

        With `counters` adds one to `field` in the row of its endpoint, exactly once, whichever process
        dies. Raises ValueError if it is not `in_ring`.
        """

    def hand_over(
        self, outbox: Producer, target: int, head: bytes, body: bytes, counters: Counters
    ) -> int:
        """Put a record for `target` into `outbox` and settle the delivery: both or neither.

        Return what `put` would; unless ACCEPTED nothing has changed. UNSYNCED: the outbox is to be
        synced and the disk failed; the record is there and the delivery still in its ring. Call it
        again, with the same arguments, until it is ACCEPTED. A delivery that is not
        `in_ring` is put just the same. `counters` keeps the note of what is under way and counts
        nothing.
        """

def settle_fresh(
    deliveries: Iterable[RingDelivery], counters: Counters, field: int
) -> list[RingDelivery]:
    """Settle those without an `id`, as `RingDelivery.settle` does, and return the others."""

@final
class Consumer(Mapping):
    """The reading end of a ring. Raises LayoutMismatch and OSError.

    A new one goes on where the last one was; what that one had taken and not settled is taken again
    after `rewind`.
    """

    def __init__(self, path: str) -> None: ...
    @property
    def uid(self) -> int:
        """64 random bits, drawn when the file was made or repaired."""

    @property
    def corrupt(self) -> int:
        """Damaged records that this object came across; each was settled, uncounted and unseen."""

    @property
    def head(self) -> int:
        """All records before this sequence number are settled or dropped."""

    @property
    def tail(self) -> int:
        """The sequence number of the record that is put next; the first ever is 0."""

    @property
    def next(self) -> int:
        """The sequence number of the record that `take` looks at next."""

    @property
    def empty(self) -> bool:
        """True if every record is settled or dropped."""

    @property
    def load(self) -> float:
        """The share of the ring in use, 0 to 1: the larger of its slots' and its bytes'."""

    def rewind(self) -> None:
        """Start over: every record that is not settled waits again.

        For a consumer whose predecessor is dead, after `recover`. Deliveries taken before
        are void.
        """

    def take(self, limit: int) -> list[RingDelivery]:
        """Take up to `limit` waiting records, oldest first, and make a delivery of each unsettled
        target. A record in hand keeps its place in the ring until all its targets are settled.

        Never waits, and takes back what `arm` announced. Damaged records count towards `limit`.
        """

    def arm(self) -> bool:
        """Announce that the consumer sleeps, so that the next `put` rings the doorbell.

        Return False if something came before that: then it must not sleep, but take.
        """

    def go_on_at(self, seq: int) -> None:
        """Forget all that is in the ring; the next record will have this number. Nobody else may have
        the ring open."""
