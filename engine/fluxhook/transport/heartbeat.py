"""Whether a child goes on: a number in memory that it shares with its parent, and raises in each turn
of its loop.

No clock is compared and no file is left: the parent looks once a second or less often, and counts the
looks between which the number stood still. A parent that stood still itself, as all do on a machine
that sleeps or is frozen, has not looked meanwhile.
"""

from __future__ import annotations

import mmap
import os

__all__ = ["LOOK_S", "STUCK_LOOKS", "Heartbeat", "Watch"]

#: between two looks
LOOK_S = 1.0
#: Looks without a beat after which a child is stuck: a worker beats four times a second, and on a
#: machine with ten times its load it misses two or three.
STUCK_LOOKS = 30
#: The same before the first beat: the interpreter starts, and a lock may have to be waited for.
START_LOOKS = 120


class Heartbeat:
    """The number. `fd` is what a parent passed; without it a new one is made, to be passed."""

    def __init__(self, fd: int = -1) -> None:
        if fd < 0:
            fd = os.memfd_create("fluxhook-heartbeat")
            os.ftruncate(fd, 8)
        self.fd = fd
        self._map = mmap.mmap(fd, 8)
        self._word = memoryview(self._map).cast("Q")

    def beat(self) -> None:
        self._word[0] += 1

    @property
    def count(self) -> int:
        return self._word[0]

    def close(self) -> None:
        self._word.release()
        self._map.close()
        os.close(self.fd)


class Watch:
    """Judges a child by looks at its count."""

    def __init__(self) -> None:
        self._count = 0
        #: looks since it went on, and those of them at which it waited for the machine
        self.silent = self._waited = 0

    def stuck(self, count: int, *, waits: bool = False) -> bool:
        """Return whether this look finds the child stuck.

        One that waits for the machine gets four times as long: most likely it goes on by itself, and
        its successor would have to wait as well.
        """
        if count != self._count:
            self._count, self.silent, self._waited = count, 0, 0
            return False
        self.silent += 1
        self._waited += waits
        patience = STUCK_LOOKS if count else max(STUCK_LOOKS, START_LOOKS)
        return self.silent - 0.75 * self._waited >= patience
