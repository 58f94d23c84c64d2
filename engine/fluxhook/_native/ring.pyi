"""The shared memory: rings that carry records, counters with one writer, words with many.

Everything is a memory-mapped file, so what stands in it survives its writer. `_native/ring.h` has
the layout, the invariants and what a process that dies at each step leaves behind.

A ring has one producer process and one consumer process at a time; who may be which is settled by
file locks outside of this module. After a process died its successor calls, before anything else,
`Counters.recover` with the rings that the counters belong to, and a consumer then
`Consumer.rewind`.

No object here may be used by two threads at once without the GIL, nor by the child of a fork,
except for what `FORKED` says. Whatever is used after `close` raises ValueError.
"""

import os
from collections.abc import Iterable
from typing import Any, Final, TypeGuard, final

from typing_extensions import disjoint_base

#: results of `Producer.put`, `Template.put` and `Delivery.hand_over`
ACCEPTED: Final[int]
#: the ring has no room now; nothing was written
FULL: Final[int]
#: this process is a child of the one that opened the producer; nothing was written
FORKED: Final[int]
#: the record takes over half of the ring's capacity and will never fit; nothing was written
TOO_LARGE: Final[int]
#: of `Delivery.hand_over`: the record is put, but the disk failed; call it again until it succeeds
UNSYNCED: Final[int]
#: of `Template.put`: the configuration is another one, or something was closed; nothing was written
STALE: Final[int]
#: of `Template.put`: a second has begun that the template is not dated with; nothing was written
EXPIRED: Final[int]

#: the most targets that a record can have
MAX_TARGETS: Final[int]
#: levels of objects and lists that an event's data may have
MAX_DEPTH: Final[int]
#: fields that a histogram of `Counters.observe` takes
HISTOGRAM_BUCKETS: Final[int]

class LayoutMismatch(Exception):
    """The file is not one of ours, is truncated or damaged, or has another layout version."""

class OtherVersion(LayoutMismatch):
    """The file is whole, as far as can be seen, and of another layout version."""

def is_own(found: os.stat_result, folder: str | os.PathLike[str]) -> bool:
    """Return whether a file is this user's or, where root looks at it, its folder's owner's."""

def open_own(path: str | os.PathLike[str], flags: int, *, kind: int = ...) -> int:
    """Open a file of this user's (`is_own`) without following a link and without waiting; return its
    descriptor. One that is created is its owner's alone under any umask.

    `kind` is S_IFREG or S_IFIFO. Raises OSError for a file of another kind or owner; with O_EXCL also
    for one that is there, and a link is one.
    """

@disjoint_base
class Mapping:
    """A file mapped whole, shared between processes."""

    @property
    def path(self) -> str: ...
    def close(self) -> None:
        """Unmaps the file; may be called twice."""

    def sync(self) -> None:
        """fdatasync of the file, with the GIL released. Raises OSError if the disk fails; the next call
        then writes the whole file again, since the kernel may have forgotten what it owes."""

    @property
    def in_place(self) -> bool:
        """Whether the file still stands at its path: it was neither removed nor replaced."""

@disjoint_base
class Matrix(Mapping):
    """A mapped matrix of `rows` x `fields` unsigned 64-bit words.

    Opening creates the file, zeroed, if it is missing, `writable`, and both dimensions are given.
    Of a file that exists only `fields` is compared, 0 meaning any; `rows` becomes what the file
    has. Raises LayoutMismatch, FileNotFoundError, and OSError where the disk has no room for the
    whole file.
    """

    @property
    def rows(self) -> int: ...
    @property
    def fields(self) -> int: ...

@final
class Counters(Matrix):
    """Counters that one process writes and any may read: 44 bits each, wrapping around.

    A counter goes on after its writer's death: the successor takes over the values that stand
    there, and settles with `recover` what the killed one was in the middle of. Raises IndexError
    for a word outside of the matrix, ValueError for a change to what was opened for reading.
    """

    def __init__(self, path: str, rows: int = 0, fields: int = 0, *, writable: bool) -> None: ...
    def add(self, row: int, field: int, n: int = 1) -> None: ...
    def set(self, row: int, field: int, value: int) -> None: ...
    def get(self, row: int, field: int) -> int: ...
    def row(self, row: int) -> list[int]:
        """All fields of a row; each is right, their moments may differ while the writer counts."""

    def observe(self, row: int, first_field: int, value_us: int) -> None:
        """Counts a value in its bucket of a log-linear histogram at `first_field`.

        There are `HISTOGRAM_BUCKETS` of them, two to each doubling of microseconds; the last takes
        everything above 71 minutes. `bucket_limit_us` tells what a bucket holds.
        """

    @property
    def interrupted(self) -> bool:
        """Whether the writer is in the middle of an operation, or was killed there."""

    def recover(
        self, rings: list[Producer] | list[Consumer], outbox: Producer | None = None
    ) -> bool:
        """Finishes what a killed writer had begun; True if that was on one of `rings`.

        For the writer's successor alone, before it or anyone else uses the rings in its place.
        What had been committed (see ring.h) is completed, what had not did not happen. An operation
        on a ring that is not among `rings` is forgotten: that ring is gone. `outbox` is where the
        killed writer handed deliveries over to; its producer is the successor's as well.
        """

def bucket_limit_us(bucket: int) -> int:
    """The largest latency, in microseconds, that falls into a bucket of `Counters.observe`.

    The smallest is at least two thirds of it, but for 0 in the first. Raises IndexError for a bucket
    that is none.

    >>> from fluxhook._native.ring import bucket_limit_us
    >>> [bucket_limit_us(b) for b in range(8)]
    [1, 2, 3, 5, 7, 11, 15, 23]

    """

@final
class Words(Matrix):
    """Words that any process may write; each operation is atomic and sequentially consistent.

    Raises IndexError for a word outside of the matrix, ValueError for a change to what was opened
    for reading.
    """

    def __init__(
        self, path: str, rows: int = 0, fields: int = 0, *, writable: bool = True
    ) -> None: ...
    def load(self, row: int, field: int) -> int: ...
    def store(self, row: int, field: int, value: int) -> None: ...
    def swap(self, row: int, field: int, expected: int, value: int) -> bool:
        """Compare-and-swap: True if the word was `expected` and is `value` now."""

    def add(self, row: int, field: int, n: int) -> int:
        """Adds n, which may be negative, modulo 2^64; returns the new value."""

def sync_file(path: str, *, again: bool = False) -> None:
    """Returns once a file of ours is on the disk, whoever wrote into it. `again`: the last call failed;
    see `Mapping.sync`. Raises OSError and LayoutMismatch."""

def reset_words(path: str, rows: int, fields: int) -> None:
    """Makes a file of words anew in place, whatever it holds: they are 0 for whoever has it mapped."""

def create_file(path: str, length: int, header: bytes) -> None:
    """Makes a zeroed file of `length` bytes that begins with `header`, and puts it in place whole, on
    the disk when this returns.

    An existing file is replaced. Blocks are reserved, so a full disk is an OSError here and never a
    SIGBUS later.
    """

def create_ring(path: str, queue_size: int, capacity: int, boot_id: bytes) -> None:
    """Makes an empty ring file for up to `queue_size` waiting records in `capacity` bytes.

    A record takes 32 bytes, 4 for each target, its head and its body, rounded up to 8; as many
    records as wait may be in the consumer's hands besides, bytes permitting. `capacity` is rounded
    up to 8. Replaces an existing file. Raises ValueError for a capacity under 4096 and a queue_size
    outside of 1 to 2^28, OSError as `create_file`.
    """

def repair_ring(path: str, boot_id: bytes) -> int | None:
    """Puts a ring right that was in use when the machine went down.

    Returns the number of records saved, or None if the ring is of this boot and needs no repair.
    Saved is each record that is unsettled as far as the disk knows and whose checksum holds, so a
    settled one may come again. The ring gets a new `uid`: its sequence numbers may repeat older
    ones. Nobody else may have the ring open. Raises LayoutMismatch for what is no ring at all.
    """

def check_ring(
    path: str, boot_id: bytes, *, alone: bool, weed: bool = True
) -> tuple[int | None, int]:
    """Looks through a ring that no consumer has open, and puts right what is wrong.

    Returns the number of records saved, or None if its positions were right, and the number of those
    that were damaged and are settled unseen. `alone`: no producer has it open either, so that
    positions that cannot be may be made anew, as in `repair_ring`. Without `weed` nothing is settled.
    Raises LayoutMismatch.
    """

def rebuild_ring(path: str, queue_size: int, capacity: int, boot_id: bytes) -> int:
    """Gives a ring whose header or size is damaged another one, and saves what is whole in it.

    Its geometry may be what is left of its header, the given one, or any that its size allows; taken is
    that with which most records are whole. Returns the number of records saved. Nobody else may have
    the ring open. Raises LayoutMismatch where nothing is whole.
    """

def geometry(path: str) -> tuple[int, int]:
    """(queue_size, capacity in bytes) of a ring file."""

def unsettled(path: str, applied: dict[bytes, int] | None = None) -> dict[int, int]:
    """The number of unsettled deliveries per target in a ring; exact while it is at rest.

    `applied`: by the rings' uids, as 8 bytes little-endian, the sequence number up to which their
    records count no more. Any process may ask at any time.
    """

@final
class Producer(Mapping):
    """The writing end of a ring.

    `drop_oldest`: rather than refuse a record, `put` drops the oldest ones that nobody took yet.
    `bell`: a file descriptor that gets one byte when something is put while the consumer sleeps; it
    should be non-blocking, since a bell that takes no more bytes rings already. It stays the
    caller's.
    `sync`: what `Delivery.hand_over` puts here is on the disk before the delivery leaves its ring.

    A child of fork() that inherits the object gets FORKED from `put`. Within one process several
    may be open on one ring and used in turn. Raises LayoutMismatch and OSError.
    """

    def __init__(
        self, path: str, *, drop_oldest: bool = False, bell: int = -1, sync: bool = False
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
        """What the consumer has yet to do: records that wait, and targets of those in its hands."""

    @property
    def empty(self) -> bool:
        """Whether every record is settled or dropped."""

    def put(
        self, targets: bytes, head: bytes, body: bytes, counters: Counters | None = None
    ) -> int:
        """Publishes one record: ACCEPTED, FULL, FORKED or TOO_LARGE. Never waits.

        `targets` are 1 to 32 unsigned 32-bit numbers, little-endian, else ValueError; that they
        differ is the caller's word. With `counters` field 0 of each target's row counts what was
        accepted and field 1 what was dropped; targets beyond its rows are not counted.

        FULL: `queue_size` records wait, or their bytes and those in the consumer's hands leave no
        room. With `drop_oldest` only because a record in the consumer's hands is in the way of more
        bytes; then nothing is dropped either.
        """

def least_backlog(producers: list[Producer]) -> int:
    """The index of the ring with the shortest backlog; of none 0.

    It is 0 while that has fewer than 4; ties are broken at random. Where that ring is full it is one
    that is not, or the one whose oldest waiting record is the oldest of all.
    """

@final
class Ids:
    """Makes event ids from a generator of its own, seeded by the system, and anew after a fork.

    Ids are unique, not secret: who has seen many of them can tell the next. Safe to share among
    threads.
    """

    def gateway(self) -> str:
        """`evt_` and 20 hexadecimal digits: 80 random bits."""

    def broker(self) -> str:
        """A UUID of version 4 (RFC 9562 section 5.4)."""

def is_plain(data: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is a dict that JSON carries as it is: with text keys, of texts, numbers but NaN and
    infinities, bools, None, and dicts, lists and tuples of these, nested at most MAX_DEPTH levels; no
    subclass of any."""

def are_scalars(values: tuple[Any, ...]) -> bool:
    """Whether all are texts, ints, bools, bytes or msgspec's UNSET; no subclass of any."""

def nests_over(text: bytes, levels: int) -> int:
    """Return where in a JSON text the first object or list begins that is over `levels` deep, or -1.

    What follows a fault in the JSON may be miscounted: whoever decodes the text finds the fault
    first. Releases the GIL."""

@final
class Template:
    """The record of an event, known but for the event's id, its topic, its data and the time.

    The head is what `fluxhook.transport.messages.EventHead` encodes, without an order key; the body
    `opening`, id, `middle`, timestamp, `ending`, data and a brace. Without an `opening` the body does
    not have the id. What goes into a hole is written as it is.

    The record goes into that of `producers` with the shortest backlog. It belongs to the
    configuration whose `version` stands in the word (`row`, `field`).
    """

    def __init__(
        self,
        producers: list[Producer],
        counters: Counters,
        targets: bytes,
        event_type: str,
        opening: bytes | None,
        middle: bytes,
        ending: bytes,
        *,
        max_body_bytes: int,
        words: Words,
        row: int,
        field: int,
        version: int,
    ) -> None: ...
    def date(self, second: int, timestamp: str) -> None:
        """`put` writes this timestamp as long as the second since the epoch lasts; none at first."""

    def put(self, id: str, data: bytes, topic: str | None = None) -> int:
        """What `Producer.put` returns for such a record, or STALE, or EXPIRED.

        TOO_LARGE also if the body is longer than `max_body_bytes`.
        """

@final
class Delivery:
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
        """Whether its ring still keeps it; false once it was settled or handed over."""

    def settle(self, counters: Counters | None = None, field: int = 0) -> bool:
        """Ends it: its ring will not give it again. False if a predecessor had done so.

        With `counters` adds one to `field` in the row of its endpoint, exactly once whoever dies.
        Raises ValueError if it is not `in_ring`.
        """

    def hand_over(
        self, outbox: Producer, target: int, head: bytes, body: bytes, counters: Counters
    ) -> int:
        """Puts a record for `target` into `outbox` and settles the delivery: both or neither.

        Returns what `put` would; unless ACCEPTED nothing has changed. UNSYNCED: the outbox is to be
        synced and the disk failed; the record is there and the delivery still in its ring. Call it
        again, with the same arguments, until it is ACCEPTED. A delivery that is not
        `in_ring` is put just the same. `counters` keeps the note of what is under way and counts
        nothing.
        """

def settle_fresh(deliveries: Iterable[Delivery], counters: Counters, field: int) -> list[Delivery]:
    """Settles those without an `id`, as `Delivery.settle` does, and returns the others."""

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
        """Whether every record is settled or dropped."""

    @property
    def load(self) -> float:
        """The share of the ring in use, 0 to 1: the larger of its slots' and its bytes'."""

    def rewind(self) -> None:
        """Starts over: every record that is not settled waits again.

        For a consumer whose predecessor is dead, after `Counters.recover`. Deliveries taken before
        are void.
        """

    def take(self, limit: int) -> list[Delivery]:
        """Takes up to `limit` waiting records, oldest first, and makes a delivery of each unsettled
        target. A record in hand keeps its place in the ring until all its targets are settled.

        Never waits, and takes back what `arm` announced. Damaged records count towards `limit`.
        """

    def arm(self) -> bool:
        """Announces that the consumer sleeps, so that the next `put` rings the bell.

        False if something came before that: then it must not sleep, but take.
        """

    def go_on_at(self, seq: int) -> None:
        """Forgets all that is in the ring; the next record will have this number. Nobody else may have
        the ring open."""
