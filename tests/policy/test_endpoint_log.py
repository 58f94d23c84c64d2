"""What the log tells of an endpoint's health: each change once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from fluxhook import Breaker, Duration
from fluxhook.policy import breaker, endpoint_log
from fluxhook.policy.breaker import CLOSED, State
from fluxhook.policy.endpoint_log import Event, Failures, Known, Seen

S = 1_000_000_000
BREAKER = Breaker(failure_threshold=5, reset_timeout=Duration.parse("30s"))
START_NS = 1_800_000_000 * S


@dataclass
class World:
    """An endpoint, its words, and the watch of it."""

    now_ns: int = START_NS
    state: State = CLOSED
    failing_ns: int = 0
    delivered: int = 0
    known: Known = endpoint_log.WELL
    events: list[Event] = field(default_factory=list)

    def look(
        self, *, failed: int = 0, cause: str = "server_error", error: str = "500"
    ) -> list[str]:
        """Look now; return the kinds of what is told."""
        if failed and cause == "server_error":
            self.failing_ns = self.failing_ns or self.now_ns
        failures = Failures(failed, cause, error) if failed else None
        seen = Seen(self.state, self.failing_ns, self.delivered, failures)
        self.known, events = endpoint_log.look(self.known, seen, self.now_ns, breaker=BREAKER)
        self.events += events
        return [event.kind for event in events]

    def succeed(self) -> None:
        self.delivered += 1
        self.failing_ns = 0
        self.state = CLOSED

    def trip(self) -> None:
        self.state = State("open", self.now_ns // 1_000_000)

    def wait(self, seconds: float) -> None:
        self.now_ns += int(seconds * S)


def test_an_outage_is_told_from_its_first_failure_to_its_recovery() -> None:
    """failing, breaker_opened, breaker_closed and recovered, each once, with how long and how many."""
    world = World()
    assert world.look(failed=1) == ["first_failure"]
    for _ in range(3):
        world.wait(0.1)
        assert world.look(failed=1) == []
    world.trip()
    assert world.look(failed=1) == ["breaker_opened"]
    opened = world.events[-1]
    assert (opened.failed, opened.cause, opened.error) == (5, "server_error", "500")
    assert opened.next_ns == world.state.value * 1_000_000 + 30 * S
    world.wait(30)
    world.state = State("half_open", world.now_ns // 1_000_000)
    assert world.look() == []
    world.trip()
    assert world.look(failed=1) == []  # the probe failed: it is summed up
    world.wait(30)
    world.succeed()
    assert world.look() == ["breaker_closed"]
    assert world.events[-1].for_ns == 60 * S
    assert world.events[-1].probes == 1
    world.wait(1)
    assert world.look() == ["recovered"]
    assert world.events[-1].failed == 6
    assert 61 * S <= world.events[-1].for_ns < 62 * S
    assert not world.known.failing_ns


def test_a_first_failure_that_opens_the_breaker_tells_both() -> None:
    """With a threshold of one, or when the reports come late, nothing is skipped."""
    world = World()
    world.trip()
    assert world.look(failed=1) == ["first_failure", "breaker_opened"]


def test_a_breaker_that_is_seen_before_its_reports_is_told() -> None:
    """While the disk fails no report comes; the words say it."""
    world = World()
    world.failing_ns = world.now_ns
    world.trip()
    assert world.look() == ["breaker_opened"]
    assert world.look(failed=5) == []


def test_what_goes_on_is_told_after_one_minute_then_two_then_four() -> None:
    """A dead endpoint costs some lines, and not one each minute for ever."""
    world, told = World(), []
    world.look(failed=1)
    for minute in range(1, 24 * 60 + 1):
        world.wait(60)
        told += [minute] * len(world.look(failed=1))
    assert told[:5] == [1, 3, 7, 15, 31]
    assert len(told) < 40
    assert {event.kind for event in world.events[1:]} == {"still_failing"}


def test_nothing_is_told_of_one_to_which_nothing_is_sent() -> None:
    """Between attempts, with no breaker open, there is no news."""
    world = World()
    world.look(failed=1)
    world.wait(61)
    assert world.look() == []
    world.wait(600)
    assert world.look() == []


def test_without_a_success_nothing_has_recovered() -> None:
    """Silence is no success, whatever the cause; a success with another cause than the breaker's is
    seen by what was delivered."""
    for cause in ("server_error", "egress_denied"):
        world = World()
        assert world.look(failed=1, cause=cause) == ["first_failure"]
        world.wait(10)
        assert world.look() == []
        world.succeed()
        assert world.look() == ["recovered"]


def test_a_receiver_that_answers_seven_of_ten_does_not_recover_all_the_time() -> None:
    """At ten requests a second for an hour: it begins to fail a few times, and then goes on."""
    world = World()
    for n in range(36_000):
        world.wait(0.1)
        if n * 7 % 10 < 3:
            world.look(failed=1)
        else:
            world.succeed()
            world.look()
    kinds = Counter(event.kind for event in world.events)
    assert kinds["first_failure"] <= 2
    assert kinds["recovered"] <= 1
    assert len(world.events) < 15


def test_one_that_relapses_has_to_be_well_for_longer() -> None:
    """A second, four, sixteen, up to two minutes; after ten good minutes it begins anew."""
    world, needed = World(), []
    for _ in range(6):
        assert world.look(failed=1) == ["first_failure"]
        world.succeed()
        waited = 0
        while world.look() != ["recovered"]:
            world.wait(1)
            waited += 1
        needed.append(waited)
    assert needed == [1, 4, 16, 64, 120, 120]
    world.wait(601)
    assert world.known.is_forgotten(world.now_ns)
    world.look(failed=1)
    assert world.known.steady_ns == endpoint_log.STEADY_NS


def test_a_supervisor_that_follows_another_tells_nothing_twice() -> None:
    """A breaker that is open already is not told to have opened; its end is."""
    world = World(failing_ns=START_NS - 100 * S)
    world.state = State("open", (START_NS - 90 * S) // 1_000_000)
    seen = Seen(world.state, world.failing_ns, 0)
    world.known = endpoint_log.begin(seen, world.now_ns)
    assert world.known.opened_ns
    assert world.look() == []
    world.succeed()
    assert world.look() == ["breaker_closed"]
    assert world.events[-1].for_ns == 90 * S


def test_times_of_a_damaged_word_are_not_believed() -> None:
    """One in the future counts as now."""
    world = World(failing_ns=START_NS + 10**6 * S)
    world.state = State("open", 2**48 - 1)
    world.look(failed=1)
    assert all(event.for_ns == 0 for event in world.events)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["fail", "trip", "probe", "succeed", "late success", "quiet"]),
        st.floats(0, 200, allow_nan=False),
        st.integers(1, 3),
    ),
    max_size=60,
)


@given(MOVES)
def test_what_opened_closes_and_what_failed_recovers(moves: list[tuple[str, float, int]]) -> None:
    """In any history opened and closed alternate, failing and recovered alternate, a breaker opens only
    while the endpoint fails, and the state is what was told last."""
    world, told = World(), []
    for move, wait, n in moves:
        world.wait(wait)
        match move:
            case "fail":
                told += world.look(failed=n)
            case "trip":
                world.trip()
                told += world.look(failed=n)
            case "probe" if world.state.name == "open":
                world.state = State("half_open", world.now_ns // 1_000_000)
                told += world.look()
            case "succeed":
                world.succeed()
                told += world.look()
            case "late success":
                world.failing_ns, world.delivered = 0, world.delivered + 1
                told += world.look()
            case _:
                told += world.look()
    breakers = [kind for kind in told if kind.startswith("breaker")]
    assert breakers == (["breaker_opened", "breaker_closed"] * len(breakers))[: len(breakers)]
    health_lines = [kind for kind in told if kind in ("first_failure", "recovered")]
    assert health_lines == (["first_failure", "recovered"] * len(told))[: len(health_lines)]
    is_open, fails = len(breakers) % 2 == 1, len(health_lines) % 2 == 1
    assert (bool(world.known.opened_ns), bool(world.known.failing_ns)) == (is_open, fails)
    assert all(event.for_ns >= 0 for event in world.events)


def test_the_probe_of_an_open_breaker_is_announced() -> None:
    """`next_ns` is when the breaker lets the next request go (policy/breaker.py)."""
    world = World()
    world.trip()
    world.look(failed=1)
    assert world.events[-1].next_ns == breaker.probe_ns(world.state, BREAKER)
