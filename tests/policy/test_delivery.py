"""A delivery's life, from its first attempt to its settlement."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxhook.config.schema import Retry
from fluxhook.config.units import Duration
from fluxhook.policy.delivery import MOVES, DeliveryStatus, Event, State, step
from fluxhook.policy.table import IllegalMove

S = 1_000_000_000
NOW = 1_700_000_000 * S
RETRY = Retry(max_attempts=2)
FINAL = ("delivered", "dead", "dropped")


@pytest.mark.parametrize(
    ("before", "event", "attempted", "after"),
    [
        (DeliveryStatus(), "delivered", True, DeliveryStatus("delivered", 1)),
        (DeliveryStatus(), "retry", True, DeliveryStatus("waiting", 1, NOW + S)),
        (DeliveryStatus("sending", 1), "retry", True, DeliveryStatus("dead", 2)),
        (DeliveryStatus(), "dead", True, DeliveryStatus("dead", 1)),
        (
            DeliveryStatus(),
            "dead",
            False,
            DeliveryStatus("dead", 0),
        ),  # over max_payload: never sent
        (DeliveryStatus("sending", 1), "deferred", False, DeliveryStatus("waiting", 1, NOW + 9)),
        (DeliveryStatus("sending", 1), "taken_over", False, DeliveryStatus("sending", 1)),
        (DeliveryStatus(), "dropped", False, DeliveryStatus("dropped", 0)),
        (DeliveryStatus(), "aggregated", False, DeliveryStatus("aggregated", 0)),
        (DeliveryStatus("sending", 1), "lost", False, DeliveryStatus("waiting", 1, NOW)),
        (DeliveryStatus("waiting", 1, NOW + 9), "queued", False, DeliveryStatus("blocked", 1)),
        (DeliveryStatus("waiting", 1, NOW), "due", False, DeliveryStatus("sending", 1)),
        (DeliveryStatus("waiting", 1, NOW + 9), "hurry", False, DeliveryStatus("waiting", 1, NOW)),
        (DeliveryStatus("waiting", 1, NOW + 9), "overdue", False, DeliveryStatus("dead", 1)),
        (DeliveryStatus("waiting", 1, NOW + 9), "give_up", False, DeliveryStatus("dead", 1)),
        (DeliveryStatus("blocked", 1), "turn", False, DeliveryStatus("waiting", 1, NOW)),
        (DeliveryStatus("blocked", 1), "overdue", False, DeliveryStatus("dead", 1)),
        (DeliveryStatus("blocked", 1), "give_up", False, DeliveryStatus("dead", 1)),
        (DeliveryStatus("dead", 5), "replay", False, DeliveryStatus("waiting", 0, NOW)),
        (DeliveryStatus("dead", 5), "purge", False, DeliveryStatus("erased", 5)),
        (DeliveryStatus("delivered", 1), "purge", False, DeliveryStatus("erased", 1)),
        (DeliveryStatus("dropped", 1), "purge", False, DeliveryStatus("erased", 1)),
    ],
)
def test_each_move(
    before: DeliveryStatus, event: Event, attempted: bool, after: DeliveryStatus
) -> None:
    """The moves; what was deferred was not an attempt."""
    assert (
        step(before, event, NOW, retry=RETRY, attempted=attempted, not_before_ns=NOW + 9) == after
    )


def test_a_retry_of_an_endpoint_that_was_removed() -> None:
    """It is the last, whatever the policy would have said."""
    assert step(DeliveryStatus(), "retry", NOW, retry=None, attempted=True) == DeliveryStatus(
        "dead", 1
    )


@pytest.mark.parametrize(
    ("first_failed_ns", "due_s"),
    [
        (None, 10),  # this is the first failure
        (NOW - 4 * S, 6),
        (NOW, 10),
        (NOW - 60 * S, 0),
        (NOW + 9, 10),  # a report from a clock that is ahead moves nothing
    ],
)
def test_a_schedule_counts_from_the_first_failure(first_failed_ns: int | None, due_s: int) -> None:
    """However long the attempts since then took; never into the past."""
    retry = Retry(schedule=(Duration(10 * S), Duration(20 * S)))
    after = step(
        DeliveryStatus(), "retry", NOW, retry=retry, attempted=True, first_failed_ns=first_failed_ns
    )
    assert after == DeliveryStatus("waiting", 1, NOW + due_s * S)


def test_what_is_not_said() -> None:
    """Without a chance given there is no jitter, and what is deferred without a time is due at once."""
    retry = Retry(max_attempts=2, jitter=1.0)
    after = step(DeliveryStatus(), "retry", NOW, retry=retry, attempted=True)
    assert after == DeliveryStatus("waiting", 1, NOW + S)
    after = step(DeliveryStatus(), "deferred", NOW, retry=retry, attempted=False)
    assert after == DeliveryStatus("waiting", 0, 0)


@pytest.mark.parametrize("state", ["waiting", "blocked"])
@pytest.mark.parametrize("event", sorted(move.event for move in MOVES if move.state == "sending"))
def test_a_verdict_on_what_no_worker_has_is_a_defect(state: State, event: Event) -> None:
    """While it is in the store, it has to become due first."""
    with pytest.raises(IllegalMove):
        step(DeliveryStatus(state, 0), event, NOW, retry=RETRY, attempted=True)


def test_every_state_has_its_place() -> None:
    """A delivery comes to each of them, and leaves each but the last ones."""
    left, reached = {move.state for move in MOVES}, {move.to for move in MOVES}
    assert left | reached == reached == set(get_args(State))
    assert reached - left == {"aggregated", "erased"}
    assert {move.event for move in MOVES} == set(get_args(Event))


durations = st.integers(0, 10**12).map(Duration)
policies = st.builds(
    Retry,
    schedule=st.none() | st.lists(durations, min_size=1, max_size=5).map(sorted).map(tuple),
    max_attempts=st.none() | st.integers(1, 9),
    initial_interval=durations,
    max_interval=durations,
    multiplier=st.floats(1.0, 10.0),
    jitter=st.floats(0.0, 1.0),
    max_retry_after=durations,
)


class Life(RuleBasedStateMachine):
    """One delivery under any retry policy, against what a plain list of its attempts says."""

    @initialize(retry=policies)
    def start(self, retry: Retry) -> None:
        self.retry = retry
        self.now = NOW
        self.delivery = DeliveryStatus()
        self.deferred = False
        #: each delay, and the floor that Retry-After set
        self.delays: list[tuple[int, int]] = []
        self.first_failed: int | None = None
        self.attempts = 0
        if retry.max_attempts is not None:
            self.max_attempts = retry.max_attempts
        else:
            self.max_attempts = 3 if retry.schedule is None else len(retry.schedule) + 1

    def verdict(self, event: Event, attempted: bool, **known: Any) -> None:
        self.attempts += attempted
        self.delivery = step(
            self.delivery,
            event,
            self.now,
            retry=self.retry,
            attempted=attempted,
            **known,
        )

    @precondition(lambda self: self.delivery.state == "sending")
    @rule(u=st.floats(0, 1, exclude_max=True), asked=st.none() | st.integers(0, 10_000))
    def fails(self, u: float, asked: int | None) -> None:
        self.verdict("retry", True, u=u, retry_after_s=asked, first_failed_ns=self.first_failed)
        if self.first_failed is None:
            self.first_failed = self.now
        if self.delivery.state == "waiting":
            floor = 0 if asked is None else min(asked * S, self.retry.max_retry_after.ns)
            self.delays.append((self.delivery.due_ns - self.now, floor))

    @precondition(lambda self: self.delivery.state == "sending")
    @rule(until=st.integers(0, 10**12))
    def is_deferred(self, until: int) -> None:
        self.verdict("deferred", False, not_before_ns=self.now + until)
        assert self.delivery.state == "waiting"
        assert self.delivery.due_ns == self.now + until
        self.deferred = True

    @precondition(lambda self: self.delivery.state == "waiting")
    @rule()
    def is_due(self) -> None:
        self.now = max(self.now, self.delivery.due_ns)
        self.verdict("due", False)
        self.deferred = False

    @precondition(lambda self: self.delivery.state == "sending" and self.attempts > 1)
    @rule(event=st.sampled_from(["delivered", "dead"]))
    def ends(self, event: Event) -> None:
        self.verdict(event, True)

    @precondition(lambda self: self.delivery.state in FINAL)
    @rule(event=st.sampled_from(sorted(move.event for move in MOVES if move.state == "sending")))
    def is_settled_once(self, event: Event) -> None:
        with pytest.raises(IllegalMove):
            step(self.delivery, event, self.now, retry=self.retry, attempted=True)

    @invariant()
    def attempts_never_exceed_max_attempts(self) -> None:
        assert self.delivery.attempts == self.attempts <= self.max_attempts

    @invariant()
    def a_failing_delivery_dies_exactly_when_its_attempts_are_exhausted(self) -> None:
        if self.delivery.state in ("sending", "waiting"):
            assert self.attempts < self.max_attempts

    @invariant()
    def no_interval_passes_its_cap(self) -> None:
        if self.retry.schedule is None:
            cap = self.retry.max_interval.ns
            assert all(0 <= delay <= max(cap, floor) for delay, floor in self.delays)

    @invariant()
    def no_retry_of_a_schedule_is_later_than_it_says(self) -> None:
        schedule = self.retry.schedule
        if schedule and self.delivery.state == "waiting" and not self.deferred and self.delays:
            assert self.first_failed is not None
            n = len(self.delays) - 1
            latest = self.first_failed + schedule[n].ns if n < len(schedule) else None
            floored = self.delays[-1][0] == self.delays[-1][1]
            assert latest is None or floored or self.delivery.due_ns <= max(latest, self.now)

    @invariant()
    def no_retry_comes_before_retry_after(self) -> None:
        assert all(delay >= floor for delay, floor in self.delays)

    @invariant()
    def intervals_do_not_shrink_except_by_jitter(self) -> None:
        kept = 1 - self.retry.jitter
        for (earlier, floor), (later, _) in pairwise(self.delays):
            if self.retry.schedule is None:
                assert later + 1 >= earlier * kept or earlier == floor


TestLife = Life.TestCase
