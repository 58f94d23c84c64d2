"""How many processes `workers` asks for."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["DEFAULT_WORKERS", "IN_FLIGHT", "processes"]

#: The most that `workers: None` becomes.
DEFAULT_WORKERS: Final = 4
#: Requests of one worker at a time, over all endpoints.
IN_FLIGHT: Final = 1024
#: A worker fills a core. Arbitrary, for machines with fewer: so many share the default `ring_bytes`.
_ENOUGH: Final = 16
#: The id of a delivery has six bits for its worker, and the scheduler has the last of their numbers.
_MOST: Final = 63


def processes(workers: int) -> int:
    """Return how many worker processes there are for a number of workers.

    FluxMQ's are goroutines with one request at a time; of these each has up to IN_FLIGHT.
    """
    return min(workers, max(_ENOUGH, os.cpu_count() or 1), _MOST)
