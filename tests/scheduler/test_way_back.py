"""Worker, rings, scheduler and store together, with events in any order; the network is played."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxhook import Duration, Retry
from fluxhook.stats import read_stats
from fluxhook.store import State
from fluxhook.transport.transfer import Transfer
from support.scheduler_harness import S
from support.stored import SCHEDULE, endpoint, rows
from support.worker_harness import WorkerHarness

CHOICES = [
    Retry(schedule=SCHEDULE, max_retry_after=Duration(50 * S)),
    Retry(schedule=SCHEDULE[:2], max_attempts=4),
    Retry(max_attempts=3, initial_interval=Duration(S), multiplier=3.0),
    Retry(schedule=()),
    Retry(schedule=SCHEDULE[:1], retry_on=("5xx", "transport")),
]
#: when each attempt after the first is due: seconds after the first failure, or after the latest
EXPECTED: list[tuple[str, list[int]]] = [
    ("first", [15, 120, 600, 3600]),
    ("first", [15, 120, 225]),
    ("latest", [1, 3]),
    ("first", []),
    ("first", [15]),
]


class Deliveries(RuleBasedStateMachine):
    """Events through worker, rings, scheduler and store, against a dict of what must be known."""

    @initialize(choice=st.integers(0, len(CHOICES) - 1))
    def start(self, choice: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.works = WorkerHarness(Path(self.folder.name), endpoint(retry=CHOICES[choice]))
        self.choice = choice
        self.model: dict[str, dict[str, Any]] = {}

    def teardown(self) -> None:
        self.works.harness.close()
        self.folder.cleanup()

    def sent(self) -> dict[str, Transfer]:
        """Return what is under way, by event."""
        return {
            slot.tag[1].event.split(b"\0")[0].decode(): slot for slot in self.works.wire.under_way
        }

    @rule()
    def emit(self) -> None:
        id = f"evt_{len(self.model)}"
        assert len(self.works.emit(id)) == 1
        self.model[id] = {"state": "sending", "attempts": 0, "first": None, "due": 0}

    @precondition(lambda self: self.works.wire.under_way)
    @rule(pick=st.integers(0, 9), status=st.sampled_from([0, 204, 404, 413, 500, 500]))
    def answer(self, pick: int, status: int) -> None:
        found = sorted(self.sent().items())
        id, slot = found[pick % len(found)]
        now_ns, known = self.works.harness.now_ns, self.model[id]
        known["attempts"] += 1
        if known["first"] is None:
            known["first"] = now_ns
        since, delays = EXPECTED[self.choice]
        if status == 204:
            known["state"] = "delivered"
        elif known["attempts"] > len(delays) or (self.choice == 4 and 400 <= status < 500):
            known["state"] = "dead"
        else:
            delay_ns = delays[known["attempts"] - 1] * S
            known["state"] = "waiting"
            known["due"] = max(now_ns, (known["first"] if since == "first" else now_ns) + delay_ns)
        slot.started_ns = now_ns - 1000 * 1000
        self.works.answer(slot, status, code=0 if status else 7)
        self.works.harness.step()

    @rule(seconds=st.sampled_from([0, 1, 3, 14, 15, 106, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.works.harness.now_ns += seconds * S
        self.works.when(lambda: not self.works.step())
        for known in self.model.values():
            if known["state"] == "waiting" and known["due"] <= self.works.harness.now_ns:
                known["state"] = "sending"

    @invariant()
    def each_event_is_in_one_place(self) -> None:
        """Under way, waiting until it is due, or ended; attempted as often as it was sent."""
        stored = rows(self.works.harness)
        sending = self.sent()
        for id, known in self.model.items():
            assert (id in sending) == (known["state"] == "sending"), id
            row = stored.get(id)
            if row is None:  # it never left its ring
                assert known["attempts"] == (known["state"] == "delivered")
                continue
            assert row.attempts == known["attempts"]
            if known["state"] == "waiting":
                assert (State(row.state), row.due_ns) == (State.WAITING, known["due"])
            elif known["state"] != "sending":
                assert State(row.state).name.lower() == known["state"]

    @invariant()
    def the_books_balance(self) -> None:
        """accepted = delivered + dead + dropped + pending, and nothing was dropped."""
        harness = self.works.harness
        stats = read_stats(harness.path).endpoint("a")
        found = [known["state"] for known in self.model.values()]
        assert (stats.delivered, stats.dead) == (found.count("delivered"), found.count("dead"))
        assert stats.dropped == {}
        waits = sum(row.state == State.WAITING for row in rows(harness).values())
        assert stats.stored == waits


TestDeliveries = Deliveries.TestCase
# An example makes a data directory: it is not made a hundred times to find a shorter one.
TestDeliveries.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
