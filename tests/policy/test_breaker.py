"""The circuit breaker, move by move. Workers race for its word in tests/worker/test_admission.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxhook.config.schema import Breaker
from fluxhook.config.units import Duration
from fluxhook.policy import breaker
from fluxhook.policy.breaker import CLOSED, Action, Event, Hold, Probe, Send, State
from fluxhook.policy.table import IllegalMove

MS = 1_000_000
T0 = 1_700_000_000_000
RESET_MS = 1_000
PROBE_MS = 300
CONFIG = Breaker(failure_threshold=3, reset_timeout=Duration.parse("1s"))


def step(
    state: State, event: Event, at_ms: int, probe: int = 0, config: Breaker = CONFIG
) -> tuple[State, Action | None]:
    return breaker.step(
        state, event, at_ms * MS, breaker=config, probe_timeout_ns=PROBE_MS * MS, probe=probe
    )


OPEN = State("open", T0)
HALF_OPEN = State("half_open", T0)


EXAMPLES: list[tuple[State, Event, int, int, State, Action | None]] = [
    (CLOSED, "permit", T0, 0, CLOSED, Send()),
    (State("closed", 2), "permit", T0, 0, State("closed", 2), Send()),
    (State("closed", 2), "success", T0, 0, CLOSED, None),
    (State("closed", 1), "failure", T0, 0, State("closed", 2), None),
    (State("closed", 2), "failure", T0, 0, OPEN, None),
    (State("closed", 2), "release", T0, 0, State("closed", 2), None),
    (OPEN, "permit", T0, 0, OPEN, Hold((T0 + RESET_MS) * MS)),
    (OPEN, "permit", T0 + RESET_MS - 1, 0, OPEN, Hold((T0 + RESET_MS) * MS)),
    (
        OPEN,
        "permit",
        T0 + RESET_MS,
        0,
        State("half_open", T0 + RESET_MS),
        Probe(T0 + RESET_MS),
    ),
    # late results of requests that were sent before it opened
    (OPEN, "success", T0, 0, OPEN, None),
    (OPEN, "failure", T0, 0, OPEN, None),
    (OPEN, "release", T0, 0, OPEN, None),
    (HALF_OPEN, "success", T0 + 1, 0, HALF_OPEN, None),
    (HALF_OPEN, "failure", T0 + 1, 0, HALF_OPEN, None),
    # of a probe that was given up as lost, after the next one was sent
    (HALF_OPEN, "success", T0 + 1, T0 - PROBE_MS, HALF_OPEN, None),
    (HALF_OPEN, "failure", T0 + 1, T0 - PROBE_MS, HALF_OPEN, None),
    (HALF_OPEN, "release", T0 + 1, T0 - PROBE_MS, HALF_OPEN, None),
    (HALF_OPEN, "success", T0 + 1, T0, CLOSED, None),
    (HALF_OPEN, "failure", T0 + 1, T0, State("open", T0 + 1), None),
    (HALF_OPEN, "release", T0 + 1, T0, State("half_open", 0), None),
    (HALF_OPEN, "permit", T0 + PROBE_MS - 1, 0, HALF_OPEN, Hold((T0 + PROBE_MS) * MS)),
    # the probe's worker died
    (
        HALF_OPEN,
        "permit",
        T0 + PROBE_MS,
        0,
        State("half_open", T0 + PROBE_MS),
        Probe(T0 + PROBE_MS),
    ),
    # the probe was given back
    (State("half_open", 0), "permit", T0, 0, HALF_OPEN, Probe(T0)),
    (State("half_open", 0), "success", T0, 0, State("half_open", 0), None),
    # the clock stepped back by a day
    (State("open", T0 + 86_400_000), "permit", T0, 0, OPEN, Hold((T0 + RESET_MS) * MS)),
    (State("half_open", T0 + 86_400_000), "permit", T0, 0, HALF_OPEN, Probe(T0)),
    # and just by as much as a wait is long
    (
        State("open", T0 + RESET_MS),
        "permit",
        T0,
        0,
        State("open", T0 + RESET_MS),
        Hold((T0 + 2 * RESET_MS) * MS),
    ),
    (State("open", T0 + RESET_MS + 1), "permit", T0, 0, OPEN, Hold((T0 + RESET_MS) * MS)),
    (
        State("half_open", T0 + PROBE_MS),
        "permit",
        T0,
        0,
        State("half_open", T0 + PROBE_MS),
        Hold((T0 + 2 * PROBE_MS) * MS),
    ),
    (State("half_open", T0 + PROBE_MS + 1), "permit", T0, 0, HALF_OPEN, Probe(T0)),
]


@pytest.mark.parametrize(("state", "event", "at_ms", "probe", "after", "action"), EXAMPLES)
def test_each_move(
    state: State, event: Event, at_ms: int, probe: int, after: State, action: Action | None
) -> None:
    """The moves, with a threshold of 3, a reset after 1 s and a probe lost after 300 ms."""
    assert step(state, event, at_ms, probe) == (after, action)


def test_the_examples_take_every_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row of the table is without an example, and so none is out of reach."""
    taken = []
    look_up = breaker.MOVES.move

    def note(*key: Any) -> Any:
        taken.append(look_up(*key))
        return taken[-1]

    monkeypatch.setattr(breaker.MOVES, "move", note)
    for state, event, at_ms, probe, _, _ in EXAMPLES:
        step(state, event, at_ms, probe)
    assert set(taken) == set(breaker.MOVES)


@pytest.mark.parametrize("state", [State("closed", n) for n in range(4)] + [OPEN, HALF_OPEN])
@pytest.mark.parametrize("event", ["success", "failure"])
def test_a_word_without_a_step(state: State, event: Event) -> None:
    """A word alone gives what the whole step makes of it; anything else is left to that step."""
    short = breaker.after_success if event == "success" else breaker.after_failure
    found = short(breaker.pack(state), CONFIG.failure_threshold)
    after, _ = step(state, event, T0 + 1)
    counts = state.name == "closed" and state.value < (3 if event == "success" else 2)
    assert found == (breaker.pack(after) if counts else None)


@pytest.mark.parametrize(
    ("state", "at_ns", "until_ns"),
    [
        (CLOSED, T0 * MS, None),
        (HALF_OPEN, T0 * MS, None),
        (OPEN, T0 * MS, (T0 + RESET_MS) * MS),
        (OPEN, (T0 + RESET_MS) * MS - 1, (T0 + RESET_MS) * MS),
        (OPEN, (T0 + RESET_MS) * MS, None),
        (OPEN, T0 * MS - MS, (T0 + RESET_MS) * MS),
        (OPEN, T0 * MS - MS - 1, None),  # opened in the future: a damaged word
    ],
)
def test_until_when_it_holds(state: State, at_ns: int, until_ns: int | None) -> None:
    """An open one, until its reset is over. Rounding puts its stamp up to a millisecond ahead."""
    assert breaker.held_until_ns(state, CONFIG, at_ns) == until_ns


def test_who_hands_back_no_token_was_no_probe() -> None:
    """Whatever the token of the probe that is out."""
    state = State("half_open", 1)
    for event in ("success", "failure", "release"):
        after = breaker.step(state, event, T0 * MS, breaker=CONFIG, probe_timeout_ns=PROBE_MS * MS)
        assert after == (state, None)


def test_times_round_so_that_no_wait_is_cut_short() -> None:
    """A breaker that opens within a millisecond lets nothing through before reset_timeout."""
    opened_ns = T0 * MS + 1
    limits: dict[str, Any] = {"breaker": CONFIG, "probe_timeout_ns": PROBE_MS * MS}
    state, _ = breaker.step(State("closed", 2), "failure", opened_ns, **limits)
    _, action = breaker.step(state, "permit", opened_ns + RESET_MS * MS, **limits)
    assert isinstance(action, Hold)
    assert action.until_ns >= opened_ns + RESET_MS * MS


@pytest.mark.parametrize("name", ["open", "half_open"])
@pytest.mark.parametrize("early_ns", [1, MS, MS + 1])
def test_a_wait_shorter_than_the_unit_of_the_word(name: Any, early_ns: int) -> None:
    """Rounding puts a word up to a millisecond ahead; more is damage, however short the waits are."""
    state = State(name, T0)
    config = Breaker(reset_timeout=Duration(0))
    after, action = breaker.step(
        state, "permit", T0 * MS - early_ns, breaker=config, probe_timeout_ns=0
    )
    if early_ns <= MS:
        assert (after, action) == (state, Hold(T0 * MS))
    else:
        assert after.value < T0


def test_an_unknown_state_or_event_raises() -> None:
    """A miss in the table raises; nothing is guessed."""
    with pytest.raises(IllegalMove):
        step(CLOSED, "explode", T0)  # type: ignore[arg-type]
    with pytest.raises(IllegalMove):
        step(State("ajar", 0), "permit", T0)  # type: ignore[arg-type]


values = st.integers(0, 2**48 - 1) | st.integers(T0 - 2 * RESET_MS, T0 + 2 * RESET_MS)
states = st.builds(State, st.sampled_from(["closed", "open", "half_open"]), values)


@given(states)
@example(State("half_open", 2**48 - 1))
def test_a_state_is_one_word(state: State) -> None:
    """Every state fits a 64-bit word, positive as a signed one too, and comes back from it."""
    word = breaker.pack(state)
    assert 0 <= word < 2**63
    assert breaker.unpack(word) == state


def test_zero_is_closed_without_failures() -> None:
    """Fresh shared memory is a closed breaker, on which a success changes nothing."""
    assert breaker.unpack(0) == CLOSED
    assert breaker.pack(step(CLOSED, "success", T0)[0]) == 0


@pytest.mark.parametrize("word", [-1, 3 << 48, 2**63, 2**64 - 1])
def test_words_that_no_breaker_wrote_are_refused(word: int) -> None:
    """Damaged memory is an error, not a state."""
    with pytest.raises(IllegalMove):
        breaker.unpack(word)


@pytest.mark.parametrize("value", [-1, 2**48])
def test_values_that_do_not_fit_are_refused(value: int) -> None:
    """A value never spills into the state's name."""
    with pytest.raises(ValueError, match="48 bits"):
        breaker.pack(State("open", value))


@given(states)
@settings(max_examples=500)
def test_no_clock_can_wedge_it(state: State) -> None:
    """From any word, at any time, who asks again as told is let through, within two time-outs."""
    after, action = step(state, "permit", T0)
    if isinstance(action, Hold):
        assert 0 < action.until_ns - T0 * MS <= 2 * RESET_MS * MS
        _, action = step(after, "permit", action.until_ns // MS)
    assert isinstance(action, Send | Probe)


def test_when_the_next_probe_may_go() -> None:
    """Of an open breaker: reset_timeout after it opened; no other has such a time."""
    assert breaker.probe_ns(OPEN, CONFIG) == (T0 + RESET_MS) * MS
    assert breaker.probe_ns(CLOSED, CONFIG) is None
    assert breaker.probe_ns(HALF_OPEN, CONFIG) is None
