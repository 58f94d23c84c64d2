"""One endpoint as a log tells of it: each change once, and what goes on now and then.

    state, events = look(state, seen, now_ns, breaker=...)

An endpoint *fails* from its first failed attempt until it has recovered: its breaker is closed, an
attempt succeeded, and for a while none failed. That while is short at first; one that fails again soon
has to be well for longer each time, so that a receiver which answers seven of ten requests is one that
fails, and not one that fails and recovers with every third request.

What goes on is told after one minute, two, four, and so on. Times are engine time (policy/clock.py), in
nanoseconds.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from fluxhook.config.schema import Breaker
from fluxhook.policy import breaker as breakers

__all__ = ["WELL", "Event", "Failures", "Kind", "Known", "Seen", "begin", "look"]

_S: Final = 1_000_000_000
_MS: Final = 1_000_000
#: how long an endpoint has to be well to have recovered: at first, at most, and by what that grows with
#: each relapse. Arbitrary.
STEADY_NS, MOST_STEADY_NS, GROWTH = 1 * _S, 120 * _S, 4
#: one that was well for as long begins anew; arbitrary
FORGET_NS: Final = 600 * _S
#: between the first two lines about what goes on, and at most
REMIND_NS, MOST_REMIND_NS = 60 * _S, 3600 * _S

#: first_failure: the first after a success. still: it goes on. The others are said of the breaker.
Kind = Literal["first_failure", "recovered", "breaker_opened", "breaker_closed", "still_failing"]


class Failures(NamedTuple):
    """Attempts that failed since the last look; cause and error are those of the last one."""

    attempts: int
    cause: str
    error: str


class Seen(NamedTuple):
    """What one look finds."""

    breaker: breakers.State
    #: since when every attempt has failed, as far as the breaker counts them; 0: the last one has not
    failing_ns: int
    #: events that were delivered, of all time
    delivered: int
    failures: Failures | None = None


class Event(NamedTuple):
    """What is to be told. `for_ns` is how long it lasted, `failed` how many attempts failed, `probes`
    how many of an open breaker's, and `next_ns` when the next one goes; None where none is open."""

    kind: Kind
    cause: str
    error: str
    for_ns: int
    failed: int
    probes: int
    next_ns: int | None


class Known(msgspec.Struct, frozen=True):
    """What is remembered of one endpoint. The first four are 0 while that is not so."""

    #: since when it fails
    failing_ns: int = 0
    #: since when its breaker is not closed
    opened_ns: int = 0
    #: the breaker's stamp (milliseconds) when it last opened, or opened again
    tripped_ms: int = 0
    #: when an attempt failed last, or the breaker closed
    ill_ns: int = 0
    #: attempts since it fails, those since the last line, and probes since the breaker opened
    failed: int = 0
    unsaid: int = 0
    probes: int = 0
    cause: str = ""
    error: str = ""
    #: events that were delivered when an attempt failed last
    delivered: int = 0
    #: when it is told again that it goes on, and how long after that once more
    remind_ns: int = 0
    pause_ns: int = REMIND_NS
    #: how long it has to be well, and when it last was
    steady_ns: int = STEADY_NS
    recovered_ns: int = 0

    def is_forgotten(self, now_ns: int) -> bool:
        """Return whether nothing is left to remember."""
        return not (self.failing_ns or self.opened_ns) and now_ns - self.recovered_ns >= FORGET_NS


WELL: Final = Known()


def begin(seen: Seen, now_ns: int) -> Known:
    """Return the state of an endpoint that somebody else watched before: what is so already is not
    told again."""
    opened_ns = 0
    if seen.breaker.name != "closed":
        opened_ns = _stamp_ns(seen.breaker, now_ns)
    failing_ns = min(seen.failing_ns, now_ns) or opened_ns
    return Known(
        failing_ns=failing_ns,
        opened_ns=opened_ns,
        tripped_ms=seen.breaker.value if seen.breaker.name == "open" else 0,
        ill_ns=now_ns if failing_ns else 0,
        delivered=seen.delivered,
        remind_ns=now_ns + REMIND_NS,
    )


def look(known: Known, seen: Seen, now_ns: int, *, breaker: Breaker) -> tuple[Known, list[Event]]:
    """Return what is known after a look, and what is to be told."""
    next_ns = breakers.probe_ns(seen.breaker, breaker)
    events: list[Event] = []

    def tell(kind: Kind, of: Known, since_ns: int) -> None:
        for_ns = max(0, now_ns - since_ns)
        events.append(Event(kind, of.cause, of.error, for_ns, of.failed, of.probes, next_ns))

    if seen.failures is not None:
        known = _failed(known, seen, seen.failures, now_ns)
        if not known.failing_ns:
            known = _begins_to_fail(known, seen, now_ns)
            tell("first_failure", known, known.failing_ns)
    was_open, before = known.opened_ns, known
    known = _breaker_moved(known, seen, now_ns)
    if known.opened_ns and not was_open:
        tell("breaker_opened", known, known.failing_ns)
    elif was_open and not known.opened_ns:
        tell("breaker_closed", before, was_open)
    if known.failing_ns and _is_well(known, seen, now_ns):
        tell("recovered", known, known.failing_ns)
        known = Known(steady_ns=known.steady_ns, recovered_ns=now_ns)
    elif known.failing_ns and now_ns >= known.remind_ns and (known.unsaid or known.opened_ns):
        tell("still_failing", known, known.failing_ns)
        pause_ns = min(2 * known.pause_ns, MOST_REMIND_NS)
        known = replace(known, unsaid=0, remind_ns=now_ns + pause_ns, pause_ns=pause_ns)
    return known, events


def _breaker_moved(known: Known, seen: Seen, now_ns: int) -> Known:
    """Return what is known once the breaker's word was looked at."""
    name, stamp_ms = seen.breaker.name, seen.breaker.value
    if name == "open" and not known.opened_ns:
        if not known.failing_ns:
            known = _begins_to_fail(known, seen, now_ns)
        return replace(
            known,
            opened_ns=_stamp_ns(seen.breaker, now_ns),
            tripped_ms=stamp_ms,
            probes=0,
            ill_ns=now_ns,
        )
    if name == "open" and stamp_ms != known.tripped_ms:
        return replace(known, tripped_ms=stamp_ms, probes=known.probes + 1)
    if name == "closed" and known.opened_ns:
        return replace(
            known,
            opened_ns=0,
            tripped_ms=0,
            probes=0,
            ill_ns=now_ns,
            remind_ns=now_ns + REMIND_NS,
            pause_ns=REMIND_NS,
        )
    return known


def _failed(known: Known, seen: Seen, failures: Failures, now_ns: int) -> Known:
    return replace(
        known,
        failed=known.failed + failures.attempts,
        unsaid=known.unsaid + failures.attempts,
        cause=failures.cause,
        error=failures.error,
        ill_ns=now_ns,
        delivered=seen.delivered,
    )


def _begins_to_fail(known: Known, seen: Seen, now_ns: int) -> Known:
    steady_ns = STEADY_NS
    if known.recovered_ns and now_ns - known.recovered_ns < FORGET_NS:
        steady_ns = min(GROWTH * known.steady_ns, MOST_STEADY_NS)
    return replace(
        known,
        failing_ns=min(seen.failing_ns, now_ns) or now_ns,
        unsaid=0,
        remind_ns=now_ns + REMIND_NS,
        pause_ns=REMIND_NS,
        steady_ns=steady_ns,
    )


def _is_well(known: Known, seen: Seen, now_ns: int) -> bool:
    """Return whether nothing has failed for long enough, and something succeeded since."""
    if known.opened_ns or now_ns - known.ill_ns < known.steady_ns:
        return False
    return seen.delivered != known.delivered


def _stamp_ns(state: breakers.State, now_ns: int) -> int:
    """Return when a breaker opened, as far as its word can be believed."""
    return min(state.value * _MS, now_ns) or now_ns
