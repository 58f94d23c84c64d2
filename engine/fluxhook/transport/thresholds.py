"""The table of thresholds: a shared word for each endpoint and event type that is being counted.

A row is claimed by the first event of its key and keeps it until the engine is started again, which
makes the table anew. Rows are found by open addressing: a 128-bit hash of the key says where to look
first and how far to step, and stands in the row, so that two keys never share a counter.

    | key, high half | key, low half | counter (policy/threshold.py) |

Who claims a row puts the high half there and then the low half, both by compare-and-swap from 0. A
process killed between the two leaves a row without a low half, which the next one with that high half
completes. Killed anywhere else it leaves nothing half done.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fluxhook._native.shared import Words, reset_words
from fluxhook.config.units import Threshold
from fluxhook.policy import threshold
from fluxhook.transport.datadir import boot_id
from fluxhook.transport.files import FULL, sync_folder

__all__ = ["FIELDS", "ROWS", "Thresholds"]

#: a power of two, so that every odd step visits all rows; arbitrary, 384 KiB
ROWS: Final = 16_384
FIELDS: Final = 3
_HIGH, _LOW, _COUNTER = range(FIELDS)
#: Rows looked at before the table counts as full: with three quarters of it in use, that happens to
#: one key in 100 million.
PROBES: Final = 64


class Thresholds:
    """The table of a data directory, as one process uses it. `now_ns` is CLOCK_MONOTONIC, which all
    processes of a machine share and nobody sets, and which begins anew with each boot: a row is only
    found in the boot that made it."""

    def __init__(self, path: Path, *, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._words = Words(str(path), 0, FIELDS)
        self._now_ns = now_ns
        self._boot_id = boot_id().hex()

    @staticmethod
    def make(path: Path) -> None:
        """Put an empty table in place. Who has the old one open goes on in that. On a full disk the
        old one is emptied, and who has it open may count in another key's row, until he loads the
        configuration that every start publishes."""
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        try:
            Words(str(fresh), ROWS, FIELDS).close()
        except OSError as e:
            if e.errno not in FULL or not path.exists():
                raise
            reset_words(str(path), ROWS, FIELDS)
            return
        fresh.rename(path)
        sync_folder(path.parent)

    def row(self, endpoint_id: int, event_type: str, window_ns: int) -> int | None:
        """Return the row of a key, claimed if nobody has; None: the table is full.

        The window belongs to the key: after a change of it counting begins anew.
        """
        key = f"{self._boot_id} {endpoint_id} {window_ns} {event_type}".encode()
        digest = hashlib.blake2b(key, digest_size=16).digest()
        high = int.from_bytes(digest[:8], "big") | 1  # not 0, which is a free row
        low = int.from_bytes(digest[8:], "big") | 1
        for probe in range(PROBES):
            row = (high // 2 + probe * low) % self._words.rows
            if self._claim(row, _HIGH, high) and self._claim(row, _LOW, low):
                return row
        return None

    def _claim(self, row: int, field: int, half: int) -> bool:
        found = self._words.load(row, field)
        if not found:
            if self._words.swap(row, field, 0, half):
                return True
            found = self._words.load(row, field)
        return found == half

    def exceeded(self, row: int, limit: Threshold) -> bool:
        """Count an event, and tell whether it exceeds the threshold."""
        words, most, window_ns = self._words, limit.limit, limit.window_ns
        while True:
            word = words.load(row, _COUNTER)
            new, exceeds = threshold.count(word, self._now_ns(), most, window_ns)
            if words.swap(row, _COUNTER, word, new):
                return exceeds

    def close(self) -> None:
        self._words.close()
