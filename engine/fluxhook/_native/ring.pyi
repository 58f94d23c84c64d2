"""The shared memory: rings that carry records, counters with one writer, words with many.

See `_native/ring.h` for the layout, the invariants and what a crash at each step leaves behind.
"""

ACCEPTED: int
FULL: int
FORKED: int
TOO_LARGE: int

class Counters:
    """A mapped matrix of 64-bit counters, `rows` x `fields`, that one process writes.

    A counter survives its writer: a new writer goes on from the value that stands there. The writer
    settles the last operation of a killed predecessor with `recover`.
    """

    rows: int
    fields: int
    def __init__(self, path: str, rows: int, fields: int, *, writable: bool) -> None: ...
    def add(self, row: int, field: int, n: int = 1) -> None: ...
    def set(self, row: int, field: int, value: int) -> None: ...
    def get(self, row: int, field: int) -> int: ...
    def row(self, row: int) -> list[int]: ...
    def observe(self, row: int, first_field: int, value_us: int) -> None:
        """Adds one to the bucket of a log-linear histogram that starts at `first_field`."""

    def recover(self, sources: list[Consumer], outbox: Producer | None) -> bool:
        """Finishes what a killed writer had begun; True if there was something to finish."""

    def close(self) -> None: ...

class Words:
    """A mapped matrix of 64-bit words, `rows` x `fields`, that any process may write atomically."""

    rows: int
    fields: int
    def __init__(self, path: str, rows: int, fields: int, *, writable: bool = True) -> None: ...
    def load(self, row: int, field: int) -> int: ...
    def store(self, row: int, field: int, value: int) -> None: ...
    def swap(self, row: int, field: int, expected: int, value: int) -> bool:
        """Compare-and-swap: True if the word was `expected` and is `value` now."""

    def add(self, row: int, field: int, n: int) -> int:
        """Adds and returns the new value."""

    def close(self) -> None: ...

class Producer:
    """The writing end of a ring: one per ring, held by one process.

    `queue_size` bounds the records that wait, `capacity_bytes` their bytes. `drop_oldest` reclaims
    the oldest waiting record instead of refusing the new one. `bell` is a file descriptor that gets
    one byte when the consumer sleeps (-1: none).
    """

    def __init__(
        self,
        path: str,
        *,
        queue_size: int,
        capacity_bytes: int,
        boot_id: bytes,
        drop_oldest: bool = False,
        bell: int = -1,
    ) -> None: ...
    def put(self, targets: bytes, head: bytes, body: bytes, counters: Counters | None = None) -> int:
        """Publishes one record: ACCEPTED, FULL, FORKED or TOO_LARGE."""

    def sync(self) -> None:
        """fdatasync of the ring's file; releases the GIL."""
    def close(self) -> None: ...

class Consumer:
    """The reading end of a ring: one per ring, held by one process."""
