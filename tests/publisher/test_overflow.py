"""What a full queue does, under each drop policy: a publisher and its ring, driven by the table."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_args

import pytest

from fluxhook._native import ring
from fluxhook.config.schema import DropPolicy, Endpoint
from fluxhook.config.units import Duration
from fluxhook.policy.table import Move
from fluxhook.publisher import publisher as publishers
from fluxhook.publisher.publisher import Publisher
from fluxhook.stats import read_stats
from fluxhook.transport import datadir as d
from oracles import overflow
from oracles.overflow import State
from support.scheduler_harness import S, SchedulerHarness

CAPACITY = 3
TIMEOUT_S = 20 * publishers.BLOCK_POLL_S


class Records:
    """Each record's state, as the table has it; what is seen of publisher and ring must agree."""

    def __init__(self, path: Path, policy: DropPolicy) -> None:
        self.policy = policy
        self.harness = SchedulerHarness(
            path,
            Endpoint(name="a", url="https://a.example/", signature="none"),
            drop_policy=policy,
            queue_size=CAPACITY,
            block_timeout=Duration(int(TIMEOUT_S * S)),
        )
        self.publisher = Publisher(self.harness.path)
        self.consumer = ring.Consumer(str(path / "rings" / "0" / "0.ring"))
        self.now_s = 1000.0
        self.states: dict[str, State] = {}
        self.held: dict[str, ring.RingDelivery] = {}
        self.seen: set[Move[State, overflow.Event, Literal[""]]] = set()
        self.makes_room = False

    def close(self) -> None:
        self.publisher.close()
        self.harness.close()

    def move(self, record: str, event: overflow.Event, condition: str = "") -> State:
        """Return what the table makes of a record; raise IllegalMove for what it does not have."""
        found = overflow.MOVES.move(self.states[record], event, condition)
        self.seen.add(found)
        self.states[record] = found.to
        return found.to

    def waiting(self) -> list[str]:
        return [record for record, state in self.states.items() if state == "waiting"]

    def sleep(self, seconds: float) -> None:
        """The publisher's: meanwhile a consumer may make room."""
        self.now_s += seconds
        assert self.move(list(self.states)[-1], "offer", "full, block") == "offered"
        if self.makes_room:
            self.take()

    def offer(self) -> None:
        accepted = [state for state in self.states.values() if state != "refused"]
        kept = [i for i, state in enumerate(accepted) if state in ("waiting", "taken")]
        if kept and len(accepted) - kept[0] >= 2 * CAPACITY:
            return  # the ring is full of taken records, and refuses under any policy
        record, waiting = f"r{len(self.states)}", self.waiting()
        self.states[record] = "offered"
        began_s = self.now_s
        accepts = self.publisher.emit("order.paid", {}, event_id=record)
        full = len(self.waiting()) >= CAPACITY
        if not full:
            condition = "there is room"
        elif self.policy != "block":
            condition = f"full, {self.policy}"
        else:
            condition = "full, block, block_timeout is over"
            assert TIMEOUT_S <= self.now_s - began_s < TIMEOUT_S + 2 * publishers.BLOCK_POLL_S
        assert self.move(record, "offer", condition) == ("waiting" if accepts else "refused")
        if full and accepts:
            assert self.move(waiting[0], "drop") == "dropped"

    def take(self) -> None:
        """The oldest that waits, if any does."""
        taken = self.consumer.take(1)
        assert [t.event.split(b"\0")[0].decode() for t in taken] == self.waiting()[:1]
        for delivery, record in zip(taken, self.waiting()[:1], strict=True):
            self.held[record] = delivery
            assert self.move(record, "take") == "taken"

    def settle(self, record: str) -> None:
        assert self.held.pop(record).settle(self.harness.reporter.counters, d.DELIVERED)
        assert self.move(record, "settle") == "settled"

    def compare(self) -> None:
        """Every record is counted where it is."""
        stats = read_stats(self.harness.path).endpoint("a")
        found = Counter(self.states.values())
        assert stats.accepted == sum(found.values()) - found["refused"]
        assert (stats.refused, stats.delivered) == (found["refused"], found["settled"])
        assert sum(stats.dropped.values()) == found["dropped"]
        assert stats.queued == found["waiting"] + found["taken"]


@pytest.mark.parametrize("policy", get_args(DropPolicy))
def test_a_queue_moves_as_the_table_says(
    policy: DropPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many offers, takes and settlements in any order; every move of the policy is seen."""
    records = Records(tmp_path / "data", policy)
    fake = SimpleNamespace(monotonic=lambda: records.now_s, sleep=records.sleep)
    monkeypatch.setattr(publishers, "time", fake)
    choice = random.Random(1)
    try:
        for n in range(300):
            records.makes_room = choice.random() < 0.5
            step = choice.choice([records.offer, records.offer, records.take, None])
            if step is not None:
                step()
            elif records.held:
                records.settle(choice.choice(sorted(records.held)))
            assert len(records.waiting()) <= CAPACITY
            if n % 20 == 0:
                records.compare()
        records.compare()
    finally:
        records.close()
    other = [word for word in get_args(DropPolicy) if word != policy]
    expected = {
        move for move in overflow.MOVES if not any(word in move.condition for word in other)
    }
    if policy != "oldest":
        expected = {move for move in expected if move.event != "drop"}
    assert records.seen == expected
