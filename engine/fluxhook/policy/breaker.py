"""The circuit breaker of one endpoint: closed, open, half-open with one probe.

The whole state packs into one 64-bit word, because it lives in shared memory and all workers change
it with compare-and-swap:

    while True:
        word = words.load(row, field)
        state, action = breaker.step(breaker.unpack(word), event, now_ns, ...)
        if (new := breaker.pack(state)) == word or words.swap(row, field, word, new):
            break

Two things may be known of a word without unpacking it, so that the hot path only compares: 0 is a
closed breaker without a failure, where a success changes nothing; below `failure_threshold` it is a
closed one, where a permit is always `Send`. `after_success` and `after_failure` rest on the same.

Results that arrive late: what counts is the state in which a result arrives, not the one in which
its request was sent.

- Open: neither a success nor a failure changes anything.
- Half-open: only the current probe decides. A probe carries a token (`Probe.token`) that its result
  hands back; the result of any other request, and of a probe that was given up as lost, is ignored.
- Closed: every failure counts, every success ends the row of failures.

A half-open breaker is never stuck: a probe that has no result after `probe_timeout_ns` (its worker
died) is lost, and the next permit is a probe. The times are engine time (policy/clock.py); one in the
future, which only a damaged word can have, costs at most one `reset_timeout` more.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from fluxhook.config.schema import Breaker
from fluxhook.policy.table import IllegalMove, Move, Table

__all__ = [
    "CLOSED",
    "MOVES",
    "Action",
    "Hold",
    "Probe",
    "Send",
    "State",
    "after_failure",
    "after_success",
    "held_until_ns",
    "pack",
    "probe_ns",
    "step",
    "unpack",
]

Name = Literal["closed", "open", "half_open"]

#: permit: may a request be sent? success, failure: a request's result. release: a request that got
#: its permit tells nothing of the endpoint (it was not sent, or the fault was not the endpoint's)
Event = Literal["permit", "success", "failure", "release"]

#: What a move does. send, hold, ignore: the value stays. count: one failure more. reset: the value
#: becomes 0. probe, trip, hold_anew: the value becomes the time.
Act = Literal["send", "hold", "ignore", "count", "reset", "probe", "trip", "hold_anew"]


class State(msgspec.Struct, frozen=True):
    """A breaker's state; `value` has one meaning for each name.

    closed: failures in a row. open: when it opened. half_open: when its probe was sent, 0 if none
    is out (1970 is long lost). Times are milliseconds since the epoch, rounded up.
    """

    name: Name
    value: int


CLOSED: Final = State("closed", 0)


class Send(msgspec.Struct, frozen=True):
    """Send the request."""


class Probe(msgspec.Struct, frozen=True):
    """Send the request as the one probe; hand `token` (never 0) back with its result."""

    token: int


class Hold(msgspec.Struct, frozen=True):
    """Send nothing; ask again at `until_ns`."""

    until_ns: int


Action = Send | Probe | Hold
_SEND: Final = Send()

MOVES: Final[Table[Name, Event, Act]] = Table(
    Move("closed", "permit", "", "closed", "send"),
    Move("closed", "success", "", "closed", "reset"),
    Move("closed", "failure", "fewer than failure_threshold in a row", "closed", "count"),
    Move("closed", "failure", "failure_threshold in a row", "open", "trip"),
    Move("closed", "release", "", "closed", "ignore"),
    Move("open", "permit", "before reset_timeout", "open", "hold"),
    Move("open", "permit", "after reset_timeout", "half_open", "probe"),
    Move("open", "permit", "opened in the future", "open", "hold_anew"),
    Move("open", "success", "", "open", "ignore"),
    Move("open", "failure", "", "open", "ignore"),
    Move("open", "release", "", "open", "ignore"),
    Move("half_open", "permit", "a probe is out", "half_open", "hold"),
    Move("half_open", "permit", "no probe is out", "half_open", "probe"),
    Move("half_open", "success", "of the probe", "closed", "reset"),
    Move("half_open", "success", "of another request", "half_open", "ignore"),
    Move("half_open", "failure", "of the probe", "open", "trip"),
    Move("half_open", "failure", "of another request", "half_open", "ignore"),
    Move("half_open", "release", "of the probe", "half_open", "reset"),
    Move("half_open", "release", "of another request", "half_open", "ignore"),
)

_MS: Final = 1_000_000


def step(
    state: State,
    event: Event,
    now_ns: int,
    *,
    breaker: Breaker,
    probe_timeout_ns: int,
    probe: int = 0,
) -> tuple[State, Action | None]:
    """Return the next state, and for a permit what may be done.

    `now_ns` is engine time, `probe` the token of the probe whose result this is
    (0: an ordinary request). `probe_timeout_ns` should pass the endpoint's own timeout, so that a
    probe is not taken for lost while it may still succeed.
    """
    move = MOVES.move(
        state.name, event, _condition(state, event, now_ns, breaker, probe_timeout_ns, probe)
    )
    match move.action:
        case "send":
            return state, _SEND
        case "hold" | "hold_anew":
            if move.action == "hold_anew":
                state = State(move.to, _stamp(now_ns))
            wait_ns = breaker.reset_timeout.ns if move.to == "open" else probe_timeout_ns
            return state, Hold(state.value * _MS + wait_ns)
        case "probe":
            return (probing := State(move.to, _stamp(now_ns))), Probe(probing.value)
        case "trip":
            return State(move.to, _stamp(now_ns)), None
        case "count":
            return State(move.to, state.value + 1), None
        case "reset":
            return State(move.to, 0), None
        case "ignore":
            return state, None


def probe_ns(state: State, breaker: Breaker) -> int | None:
    """Return when an open breaker lets its next request go; None of one that is not open."""
    return state.value * _MS + breaker.reset_timeout.ns if state.name == "open" else None


def held_until_ns(state: State, breaker: Breaker, now_ns: int) -> int | None:
    """Return until when an open breaker lets nothing go; None where a request may go now.

    One may where the breaker opened in the future too, which only a damaged word says: the permit of
    that request puts it right.
    """
    until_ns = probe_ns(state, breaker)
    if until_ns is None or not state.value * _MS - _MS <= now_ns < until_ns:
        return None
    return until_ns


def after_success(word: int, failure_threshold: int) -> int | None:
    """Return the word after a success; None where that takes a `step`."""
    return 0 if word < failure_threshold else None


def after_failure(word: int, failure_threshold: int) -> int | None:
    """Return the word after a failure; None where that takes a `step`."""
    return word + 1 if word + 1 < failure_threshold else None


def _stamp(now_ns: int) -> int:
    """Return milliseconds, rounded up, so that no wait that begins here is cut short."""
    return -(-now_ns // _MS)


def _condition(
    state: State, event: Event, now_ns: int, breaker: Breaker, probe_timeout_ns: int, probe: int
) -> str:
    """Return which of the table's conditions holds."""
    match state.name, event:
        case "closed", "failure":
            if state.value + 1 < breaker.failure_threshold:
                return "fewer than failure_threshold in a row"
            return "failure_threshold in a row"
        case "open", "permit":
            elapsed_ns = now_ns - state.value * _MS
            if elapsed_ns >= breaker.reset_timeout.ns:
                return "after reset_timeout"
            # Rounding up puts a stamp at most 1 ms ahead; a damaged word, any distance.
            if elapsed_ns < -max(breaker.reset_timeout.ns, _MS):
                return "opened in the future"
            return "before reset_timeout"
        case "half_open", "permit":
            elapsed_ns = now_ns - state.value * _MS
            if -max(probe_timeout_ns, _MS) <= elapsed_ns < probe_timeout_ns:
                return "a probe is out"
            return "no probe is out"
        case "half_open", _:
            if probe and probe == state.value:
                return "of the probe"
            return "of another request"
    return ""


_NAMES: Final[tuple[Name, ...]] = ("closed", "open", "half_open")
_VALUE_BITS: Final = 48  # milliseconds since the epoch fit until the year 10889
_VALUE_MASK: Final = (1 << _VALUE_BITS) - 1


def pack(state: State) -> int:
    """Return the state as a word: the name's index above 48 bits of value."""
    if not 0 <= state.value <= _VALUE_MASK:
        raise ValueError(f"a breaker's value must fit 48 bits, got {state.value}")
    return _NAMES.index(state.name) << _VALUE_BITS | state.value


def unpack(word: int) -> State:
    """Return the state in a word. `IllegalMove` if no breaker can have written it."""
    if not 0 <= word >> _VALUE_BITS < len(_NAMES):
        raise IllegalMove(f"not a breaker's word: {word:#x}")
    return State(_NAMES[word >> _VALUE_BITS], word & _VALUE_MASK)
