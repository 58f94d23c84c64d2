"""The engine's clock, which nobody sets, and what it has to do with the clock on the wall.

Waits need a clock that goes on evenly: an operator, NTP or a virtual machine's host may set the wall
clock by an hour at any moment. The engine's clock counts CLOCK_BOOTTIME from a point that was the
wall clock's time when the data directory was new, and never steps:

    engine time = origin + CLOCK_BOOTTIME        until the machine boots again
    wall time   = engine time + offset           until the wall clock is set

The origin belongs to one boot and is only valid with its id. A new boot takes the engine time from
the wall clock and the last offset, but never an earlier one than was seen before. The offset gets an
entry each time the wall clock was set, so that times of both kinds can be compared: what happened is
written down in wall time, what is waited for in engine time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import msgspec

__all__ = ["STEP_NS", "Clock", "begin", "look"]

#: A smaller difference is no step. Arbitrary: far above what two readings of clocks differ by.
STEP_NS: Final = 100_000_000
#: offsets that are remembered; arbitrary, more steps than a machine in order makes within a retention
_OFFSETS: Final = 64
#: how far ahead of the present an event may be dated that was accepted just now: `now_ns` was read
#: before the event was taken, and its clock may be up to STEP_NS off
_AHEAD_NS: Final = 2_000_000_000
_NEVER_NS: Final = 2**63 - 1
#: A time up to the year 2116, or a difference of two: their sums fit in 64 bits. No other is read.
_Time = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


class Offset(NamedTuple):
    """Wall time minus engine time, since the clock was set: after one look and before the next."""

    after_ns: _Time
    noticed_ns: _Time
    offset_ns: _Time


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """What one data directory knows of its time. `origin_ns` is the engine time at which the boot with
    `boot_id` began, `seen_ns` the engine time of the last look; `offsets` ascend."""

    boot_id: str = ""
    origin_ns: _Time = 0
    seen_ns: _Time = 0
    offsets: Annotated[tuple[Offset, ...], msgspec.Meta(min_length=1)] = (Offset(0, 0, 0),)

    @property
    def offset_ns(self) -> int:
        """Wall time minus engine time, at the last look."""
        return self.offsets[-1].offset_ns

    def is_set(self, now_ns: int, wall_ns: int) -> bool:
        """Return whether the wall clock was set since the last look."""
        return abs(wall_ns - now_ns - self.offset_ns) > STEP_NS

    def wall_ns(self, at_ns: int) -> int:
        """Return what the wall clock showed, or by what is known now will show, at an engine time."""
        for after_ns, _, offset_ns in reversed(self.offsets):
            if at_ns > after_ns:
                return at_ns + offset_ns
        return at_ns + self.offsets[0].offset_ns

    def age_ns(self, wall_ns: int, now_ns: int) -> int:
        """Return the time that has passed since something was dated `wall_ns`; `now_ns` is engine
        time.

        A time that the wall clock showed twice, because it was set back in between, is the latter of
        the two.
        """
        nearest_ns, age_ns = _NEVER_NS, 0
        ahead_ns = _AHEAD_NS
        for after_ns, until_ns, offset_ns in self.spans(now_ns):
            at_ns = wall_ns - offset_ns
            possible_ns = min(max(at_ns, after_ns), until_ns + ahead_ns)
            if abs(at_ns - possible_ns) < nearest_ns:
                nearest_ns, age_ns = abs(at_ns - possible_ns), max(0, now_ns - possible_ns)
            ahead_ns = 0
        return age_ns

    def earliest_wall_ns(self, at_ns: int) -> int:
        """Return the earliest wall time that anything since an engine time can be dated."""
        return min(
            max(at_ns, after_ns) + offset_ns
            for after_ns, until_ns, offset_ns in self.spans(_NEVER_NS)
            if until_ns >= at_ns
        )

    def earliest_ns(self, wall_ns: int) -> int:
        """Return the earliest engine time at which anything can have been dated `wall_ns` or later."""
        return min(
            max(after_ns, wall_ns - offset_ns)
            for after_ns, until_ns, offset_ns in self.spans(_NEVER_NS)
            if wall_ns - offset_ns <= until_ns
        )

    def spans(self, now_ns: int) -> Iterator[tuple[int, int, int]]:
        """Yield from when until when each offset may have held, the latest first."""
        until_ns = now_ns
        for after_ns, noticed_ns, offset_ns in reversed(self.offsets):
            yield after_ns, until_ns, offset_ns
            until_ns = noticed_ns


def begin(known: Clock, boot_id: str, boot_ns: int, wall_ns: int, newest_ns: int) -> Clock:
    """Return the clock of an engine that starts: to be looked at next. `known` is what the one
    before it left, `boot_ns` reads CLOCK_BOOTTIME; no time up to `known.seen_ns` or `newest_ns`
    comes again."""
    seen_ns = max(newest_ns, known.seen_ns)
    now_ns = known.origin_ns + boot_ns if known.boot_id == boot_id else wall_ns - known.offset_ns
    now_ns = max(now_ns, seen_ns)
    return msgspec.structs.replace(
        known, boot_id=boot_id, origin_ns=now_ns - boot_ns, seen_ns=seen_ns or now_ns
    )


def look(clock: Clock, now_ns: int, wall_ns: int) -> Clock:
    """Return the clock after both were read. It has another offset if the wall clock was set since
    the last look."""
    offsets = clock.offsets
    if clock.is_set(now_ns, wall_ns):
        kept = (*offsets, Offset(clock.seen_ns, now_ns, wall_ns - now_ns))[-_OFFSETS:]
        offsets = (kept[0]._replace(after_ns=0), *kept[1:])
    return msgspec.structs.replace(clock, seen_ns=now_ns, offsets=offsets)
