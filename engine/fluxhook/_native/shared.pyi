"""What processes share in memory-mapped files, beside rings: counters with one writer, words with many.

What stands in such a file survives its writer. `_native/counters.h` has the layout. After a writer of
counters died its successor calls, before anything else, `fluxhook._native.ring.recover` with the rings
that the counters belong to.

No object here may be used by two threads at once without the GIL, nor by the child of a fork.
Whatever is used after `close` raises ValueError.
"""

import os
from typing import Final, final

from typing_extensions import disjoint_base

#: what other compiled modules call
__pyx_capi__: Final[dict[str, object]]

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
        """Unmap the file; may be called twice."""

    def sync(self) -> None:
        """Write the file to the disk (fdatasync), with the GIL released. Raises OSError if the disk
        fails; the next call then writes the whole file again, since the kernel may have forgotten what
        it owes."""

    @property
    def in_place(self) -> bool:
        """True if the file still stands at its path: it was neither removed nor replaced."""

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

def matrix_bytes(rows: int, fields: int) -> int:
    """Return the size of a matrix's file."""

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
        """Return all fields of a row; each is right, of moments that may differ."""

    def observe(self, row: int, first_field: int, value_us: int) -> None:
        """Count a value in its bucket of a log-linear histogram at `first_field`.

        There are `HISTOGRAM_BUCKETS` of them, two to each doubling of microseconds; the last takes
        everything above 71 minutes. `bucket_limit_us` tells what a bucket holds.
        """

    @property
    def interrupted(self) -> bool:
        """True if the writer is in the middle of an operation, or was killed there."""

def bucket_limit_us(bucket: int) -> int:
    """Return the largest latency, in microseconds, that falls into a bucket of `Counters.observe`.

    The smallest is at least two thirds of it, but for 0 in the first. Raises IndexError for a bucket
    that is none.

    >>> from fluxhook._native.shared import bucket_limit_us
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
        """Compare and swap: return True if the word was `expected` and is `value` now."""

    def add(self, row: int, field: int, n: int) -> int:
        """Add n, which may be negative, modulo 2^64; return the new value."""

def sync_file(path: str, *, again: bool = False) -> None:
    """Return once a file of ours is on the disk, whichever process wrote into it. `again`: the last
    call failed; see `Mapping.sync`. Raises OSError and LayoutMismatch."""

def reset_words(path: str, rows: int, fields: int) -> None:
    """Make a file of words again in place: they are 0 for all that have it mapped."""

def create_file(path: str, length: int, header: bytes) -> None:
    """Make a zeroed file of `length` bytes that begins with `header`, and put it in place whole, on
    the disk when this returns.

    An existing file is replaced. Blocks are reserved, so a full disk is an OSError here and never a
    SIGBUS later.
    """
