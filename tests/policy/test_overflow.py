"""What a full queue does, under each drop policy."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxhook.policy.overflow import Policy, Queue, offer, settle, take
from fluxhook.policy.table import IllegalMove


def full(taken: int = 0) -> Queue:
    """Records 1, 2, 3 in a queue for three; the first `taken` of them taken."""
    queue = Queue(3)
    for record in (1, 2, 3):
        queue, _ = offer(queue, "newest", record)
    for _ in range(taken):
        queue, _ = take(queue)
    return queue


def test_newest_refuses_the_new_record() -> None:
    """drop_policy newest: what waits stays, the refusal is counted."""
    queue, became = offer(full(), "newest", 4)
    assert became == "refused"
    assert (queue.refused, queue.dropped, take(queue)[1]) == (1, 0, 1)


def test_oldest_drops_the_oldest_that_waits() -> None:
    """drop_policy oldest: it makes room, counted as dropped."""
    queue, became = offer(full(), "oldest", 4)
    assert became == "waiting"
    assert (queue.dropped, queue.waiting) == (1, (2, 3, 4))


def test_a_taken_record_is_never_dropped() -> None:
    """It is not in the queue any more, so there is room for another."""
    queue, became = offer(full(taken=1), "oldest", 4)
    assert became == "waiting"
    assert (queue.dropped, queue.waiting, queue.taken) == (0, (2, 3, 4), frozenset({1}))
    queue, _ = offer(queue, "oldest", 5)
    assert (queue.dropped, queue.taken) == (1, frozenset({1}))
    assert settle(queue, 1).settled == 1


def test_block_waits_and_then_refuses() -> None:
    """drop_policy block: the record stays with its publisher until there is room or time is up."""
    assert offer(full(), "block", 4) == (full(), "offered")
    assert offer(full(), "block", 4, timed_out=True)[1] == "refused"
    roomy = settle(full(taken=1), 1)
    assert offer(roomy, "block", 4, timed_out=True)[1] == "waiting"


@pytest.mark.parametrize("record", [1, 2, 9])
def test_only_a_taken_record_can_be_settled_and_only_once(record: int) -> None:
    """Settled twice, still waiting, or never offered: a defect."""
    with pytest.raises(IllegalMove):
        settle(settle(full(taken=1), 1) if record == 1 else full(), record)


class Accounts(RuleBasedStateMachine):
    """Any mix of offers, takes and settlements, against plain sets of record numbers."""

    @initialize(capacity=st.integers(1, 4))
    def start(self, capacity: int) -> None:
        self.queue = Queue(capacity)
        self.offered = 0
        self.held: list[int] = []

    @rule(policy=st.sampled_from(get_args(Policy)), timed_out=st.booleans())
    def offers(self, policy: Policy, timed_out: bool) -> None:
        before = self.queue
        self.queue, became = offer(before, policy, self.offered, timed_out=timed_out)
        if became == "offered":
            assert self.queue == before
        else:
            self.offered += 1
        if len(before.waiting) < before.capacity or policy == "oldest":
            assert became == "waiting"

    @rule()
    def takes(self) -> None:
        self.queue, record = take(self.queue)
        if record is not None:
            assert not self.held or record > max(self.held)
            self.held.append(record)

    @precondition(lambda self: self.held)
    @rule(pick=st.integers(0, 9))
    def settles(self, pick: int) -> None:
        self.queue = settle(self.queue, self.held.pop(pick % len(self.held)))

    @invariant()
    def the_queue_never_holds_more_than_its_capacity(self) -> None:
        assert len(self.queue.waiting) <= self.queue.capacity

    @invariant()
    def every_record_is_in_exactly_one_place(self) -> None:
        queue = self.queue
        assert sorted(queue.taken) == sorted(self.held)
        accepted = self.offered - queue.refused
        assert accepted == queue.settled + queue.dropped + len(queue.waiting) + len(self.held)


TestAccounts = Accounts.TestCase
