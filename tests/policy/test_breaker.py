"""The circuit breaker: its moves one by one, and several workers that race for its word."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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


def test_times_round_so_that_no_wait_is_cut_short() -> None:
    """A breaker that opens within a millisecond lets nothing through before reset_timeout."""
    opened_ns = T0 * MS + 1
    limits: dict[str, Any] = {"breaker": CONFIG, "probe_timeout_ns": PROBE_MS * MS}
    state, _ = breaker.step(State("closed", 2), "failure", opened_ns, **limits)
    _, action = breaker.step(state, "permit", opened_ns + RESET_MS * MS, **limits)
    assert isinstance(action, Hold)
    assert action.until_ns >= opened_ns + RESET_MS * MS


def test_an_unknown_state_or_event_raises() -> None:
    """A miss in the table raises; nothing is guessed."""
    with pytest.raises(IllegalMove):
        step(CLOSED, "explode", T0)  # type: ignore[arg-type]
    with pytest.raises(IllegalMove):
        step(State("ajar", 0), "permit", T0)  # type: ignore[arg-type]


values = st.integers(0, 2**48 - 1) | st.integers(T0 - 2 * RESET_MS, T0 + 2 * RESET_MS)
states = st.builds(State, st.sampled_from(["closed", "open", "half_open"]), values)


@given(states)
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


class Race(RuleBasedStateMachine):
    """Three workers on one word. Each loads it, works out the next word, and swaps it in if nobody
    was faster; anything may happen in between, its own death included.

    The model is a dict that sees each event once, at the moment at which it takes effect.
    """

    @initialize(threshold=st.integers(1, 3), is_open=st.booleans())
    def start(self, threshold: int, is_open: bool) -> None:
        self.config = Breaker(failure_threshold=threshold, reset_timeout=CONFIG.reset_timeout)
        self.word = breaker.pack(OPEN) if is_open else 0
        self.now = T0
        self.model: dict[str, Any] = {
            "name": "open" if is_open else "closed",
            "row": 0,
            "opened": T0,
            "probe": None,
        }
        #: per worker: the tokens of its requests in flight, and the swap that it is about to try
        self.in_flight: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.swaps: dict[int, tuple[int, int, Event, int, int, Action | None] | None]
        self.swaps = dict.fromkeys(self.in_flight)

    def load(self, worker: int, event: Event, token: int) -> None:
        state, action = step(breaker.unpack(self.word), event, self.now, token, self.config)
        new = breaker.pack(state)
        if new == self.word:
            self.take_effect(worker, event, token, self.now, action)
        else:
            self.swaps[worker] = (self.word, new, event, token, self.now, action)

    def take_effect(
        self, worker: int, event: Event, token: int, at: int, action: Action | None
    ) -> None:
        model = self.model
        if event == "permit":
            if model["name"] == "closed":
                expected: str = "send"
            elif model["name"] == "open":
                expected = "probe" if at - model["opened"] >= RESET_MS else "hold"
            else:
                lost = model["probe"] is None or at - model["probe"] >= PROBE_MS
                expected = "probe" if lost else "hold"
            if expected == "probe":
                model.update(name="half_open", probe=at)
            assert type(action).__name__.lower() == expected
            if isinstance(action, Send):
                self.in_flight[worker].append(0)
            elif isinstance(action, Probe):
                assert at - model["opened"] >= RESET_MS, "too early for an open breaker"
                self.in_flight[worker].append(action.token)
        elif model["name"] == "closed":
            if event == "success":
                model["row"] = 0
            elif event == "failure":
                model["row"] += 1
                if model["row"] == self.config.failure_threshold:
                    model.update(name="open", opened=at)
        elif model["name"] == "half_open" and token and token == model["probe"]:
            if event == "success":
                model.update(name="closed", row=0, probe=None)
            elif event == "failure":
                model.update(name="open", opened=at, probe=None)
            else:
                model.update(probe=None)

    def finish(self, worker: int) -> None:
        """The worker goes on until its swap succeeded; then it can do something else."""
        while pending := self.swaps[worker]:
            self.swaps[worker] = None
            expected, new, event, token, at, action = pending
            if self.word == expected:
                self.word = new
                self.take_effect(worker, event, token, at, action)
            else:
                self.load(worker, event, token)

    @rule(worker=st.integers(0, 2), at_once=st.booleans())
    def ask(self, worker: int, at_once: bool) -> None:
        self.finish(worker)
        self.load(worker, "permit", 0)
        if at_once:
            self.finish(worker)

    @precondition(lambda self: any(self.in_flight.values()))
    @rule(
        pick=st.integers(0, 99),
        at_once=st.booleans(),
        event=st.sampled_from(["success", "failure", "failure", "failure", "release"]),
    )
    def report(self, pick: int, at_once: bool, event: Event) -> None:
        # probes first, as there are few of them: old, lost ones too
        busy = sorted((-token, w) for w, tokens in self.in_flight.items() for token in tokens)
        token, worker = busy[pick % len(busy)]
        self.finish(worker)
        self.in_flight[worker].remove(-token)
        self.load(worker, event, -token)
        if at_once:
            self.finish(worker)

    @rule(worker=st.integers(0, 2))
    def swap(self, worker: int) -> None:
        self.finish(worker)

    @rule(ms=st.sampled_from([1, PROBE_MS - 1, PROBE_MS, RESET_MS - 1, RESET_MS]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(worker=st.integers(0, 2))
    @precondition(lambda self: any(self.in_flight.values()))
    def die(self, worker: int) -> None:
        self.in_flight[worker] = []
        self.swaps[worker] = None

    @invariant()
    def at_most_one_probe_is_out_at_a_time(self) -> None:
        tokens = [token for tokens in self.in_flight.values() for token in tokens if token]
        assert sum(self.now - token < PROBE_MS for token in tokens) <= 1

    @invariant()
    def failure_threshold_consecutive_failures_open_it_and_one_fewer_does_not(self) -> None:
        state = breaker.unpack(self.word)
        assert state.name == self.model["name"]
        if state.name == "closed":
            assert state.value == self.model["row"] < self.config.failure_threshold

    @invariant()
    def an_open_breaker_lets_nothing_through_before_reset_timeout(self) -> None:
        state = breaker.unpack(self.word)
        if state.name == "open":
            due = self.model["opened"] + RESET_MS
            _, action = step(state, "permit", due - 1, config=self.config)
            assert action == Hold(due * MS)

    @invariant()
    def it_can_always_recover(self) -> None:
        """Whatever happened: wait, ask, succeed, and it is closed."""
        later = self.now + RESET_MS + PROBE_MS
        state, action = step(breaker.unpack(self.word), "permit", later, config=self.config)
        assert isinstance(action, Send | Probe)
        token = action.token if isinstance(action, Probe) else 0
        assert step(state, "success", later + 1, token, self.config) == (CLOSED, None)


TestRace = Race.TestCase
TestRace.settings = settings(max_examples=300, deadline=None)
