"""The threshold of one endpoint for one event type: a sliding window of events in one 64-bit word.

An event exceeds the threshold if the window that ends with it holds more than `limit` events, itself
included. Two fixed windows stand in for the sliding one (Cloudflare, "How we built rate limiting
capable of scaling to millions of domains", 2017): the current one is counted exactly, and the one
before it as if its events had come evenly. With a share f of the current window gone and n events in
the one before it,

    estimate = max(0, ceil(n * (1 - f)) - 1) + count
    -(f * n + 1) <= estimate - exact <= (1 - f) * n

So it is never off by more than the events of one window, it is exact after a window without events,
and for a flow that was even over both windows it is off by one event at most. (The 1 that is taken off
is the event that an even flow has just seen leave the sliding window; without it a flow right at the
limit would exceed it.)

The word is tag (20 bits), events in the window before (22), in this one (22), and begins as 0. A count
stops at 4,194,303, above four times the largest limit. The tag is the window's number modulo 2^20: a
word that nobody touched for exactly that many windows (12 days, if a window is a second) is taken for
recent, and one window too many is forwarded.
"""

from __future__ import annotations

from typing import Final

__all__ = ["count"]

_TAG_BITS: Final = 20
_COUNT_BITS: Final = 22
_TAG_MASK: Final = (1 << _TAG_BITS) - 1
_MAX: Final = (1 << _COUNT_BITS) - 1


def count(word: int, now_ns: int, limit: int, window_ns: int) -> tuple[int, bool]:
    """Return the new word, and whether the event that it counts now exceeds the threshold.

    Write the word with compare-and-swap. `now_ns` is of a clock that all processes share and that
    never steps back; look at it after the word was loaded, so that it is no earlier than that of
    whichever process wrote it.
    """
    number, elapsed_ns = divmod(now_ns, window_ns)
    tag = number & _TAG_MASK
    age = (tag - (word >> 2 * _COUNT_BITS)) & _TAG_MASK
    before, events = word >> _COUNT_BITS & _MAX, word & _MAX
    if age:
        before, events = (events if age == 1 else 0), 0
    events = min(events + 1, _MAX)
    room = limit - events
    exceeds = room < 0 or before * (window_ns - elapsed_ns) > (room + 1) * window_ns
    return (tag << _COUNT_BITS | before) << _COUNT_BITS | events, exceeds
