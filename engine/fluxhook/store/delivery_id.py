"""Ids of deliveries: the microsecond of engine time in which one was made, then who made it.

So they ascend over restarts, whatever the machine's clock is set to, and are distinct among up to 64
makers without any of them asking another.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PER_US", "SCHEDULER", "DeliveryIds", "first_at", "made_ns", "shown_id"]

_MAKER_BITS: Final = 6
#: ids that there can be of one microsecond
PER_US: Final = 1 << _MAKER_BITS
#: makes those of what comes from no worker; workers have 0 to 62 (config/workers.py)
SCHEDULER: Final = PER_US - 1


class DeliveryIds:
    """Makes the ids of one maker: a worker's index, or SCHEDULER."""

    def __init__(self, maker: int) -> None:
        self._maker = maker
        self._last_us = 0

    def next(self, now_ns: int) -> int:
        """Return an id that is higher than those before it, and not below the engine time."""
        self._last_us = max(self._last_us + 1, now_ns // 1000)
        return self._last_us << _MAKER_BITS | self._maker


def first_at(made_ns: int) -> int:
    """Return the lowest id that can be made in that microsecond of engine time."""
    return made_ns // 1000 << _MAKER_BITS


def made_ns(id: int) -> int:
    """Return the engine time at which an id was made, to the microsecond."""
    return (id >> _MAKER_BITS) * 1000


def shown_id(id: int) -> str:
    """Return an id as people and programs see it.

    >>> shown_id(0x0644f1b1ac5d0041)
    'dlv_0644f1b1ac5d0041'
    """
    return f"dlv_{id:016x}"
