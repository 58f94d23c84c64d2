"""Aggregation: whatever comes when, each event is counted once, and notifications are rare."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fluxhook.config.schema import Aggregate, Endpoint
from fluxhook.config.units import Duration
from fluxhook.events.catalog import TYPES as CATALOG
from fluxhook.events.names import matches
from fluxhook.policy.aggregate import Window, add, aggregates, closes, gathered

S = 1_000_000_000
NOW = 1_700_000_000 * S
TYPES = ("service.5xx", "tls.handshake.fail", "circuit.broken")
NAMES = [".".join(word) for n in (1, 2, 3) for word in itertools.product("ab", repeat=n)]
PATTERNS = ["*", *NAMES, *(f"{name}.*" for name in NAMES if len(name) < 5)]


def options(window_s: float = 10, originals: int = 5) -> Aggregate:
    return Aggregate(window=Duration(int(window_s * S)), originals=originals)


def gather(
    events: list[tuple[str, bytes, int]], aggregate: Aggregate, room_bytes: int = 1 << 20
) -> Window:
    """One window with all of these events, which come at NOW."""
    window = None
    for event_type, body, accepted_ns in events:
        window = add(
            window, event_type, body, accepted_ns, NOW, aggregate=aggregate, room_bytes=room_bytes
        )
    assert window is not None
    return window


@pytest.mark.parametrize(
    ("patterns", "event_type", "is_gathered"),
    [
        (TYPES, "service.5xx", True),
        (TYPES, "service.4xx", False),
        (("service.*",), "service.4xx", True),
        (("service.*",), "service", False),
        (("*",), "anything.at.all", True),
        ((), "service.5xx", False),
    ],
)
def test_the_types_say_what_is_gathered(
    patterns: tuple[str, ...], event_type: str, is_gathered: bool
) -> None:
    """Types and namespaces, as in `events`; without a window, or with one of 0s, nothing is."""
    aggregate = Aggregate(window=Duration(S), types=patterns)
    assert aggregates(aggregate, event_type) is is_gathered
    for off in (None, Duration(0)):
        assert not aggregates(msgspec.structs.replace(aggregate, window=off), event_type)


def test_the_gateways_three_failures_are_gathered_unless_something_else_is_said() -> None:
    """FluxGate: "Monitor downstream health with service.5xx, tls.handshake.fail, and circuit.broken.
    FluxGate aggregates consecutive failures into a single batched notification." In windows of ten
    seconds."""
    by_default = Endpoint(name="a", url="").aggregate
    assert {t for t in CATALOG if aggregates(by_default, t)} == set(TYPES)
    assert by_default.window == Duration.parse("10s")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), TYPES),
        (("*",), TYPES),
        (("service.*",), ("service.5xx",)),
        (("circuit.broken", "tls.*"), ("tls.handshake.fail", "circuit.broken")),
        (("tls.handshake.*", "route.error"), ("tls.handshake.fail",)),
        (("route.*", "service.4xx"), ()),
    ],
)
def test_which_types_an_endpoint_can_get_at_all(
    events: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """An endpoint that subscribes to none of them never waits for a window."""
    assert gathered(Aggregate(), events) == expected
    assert gathered(Aggregate(window=Duration(0)), events) == ()


@given(st.lists(st.sampled_from(PATTERNS), max_size=3), st.lists(st.sampled_from(PATTERNS)))
def test_what_can_be_gathered_is_what_some_type_is(events: list[str], types: list[str]) -> None:
    """`gathered` is true to `aggregates`: of patterns over a small alphabet some type meets both, or
    none does."""
    aggregate = Aggregate(types=tuple(types))
    meets = any(
        aggregates(aggregate, name) and (not events or any(matches(e, name) for e in events))
        for name in NAMES
    )
    assert bool(gathered(aggregate, events)) == meets


def test_the_window_is_open_for_its_whole_length() -> None:
    """From the first event on; the last instant still belongs to it, the next does not."""
    window = gather([("service.5xx", b"{}", NOW)], options(10))
    assert window.closes_ns == NOW + 10 * S
    assert not closes(window, NOW + 10 * S - 1)
    assert closes(window, NOW + 10 * S)


def test_what_comes_later_does_not_keep_it_open() -> None:
    """A storm without end is reported in time: no event moves the end of the window."""
    window = gather([("service.5xx", b"{}", NOW)], options(10))
    for i in range(1, 100):
        now_ns = NOW + i * S // 10
        window = add(
            window, "service.5xx", b"{}", now_ns, now_ns, aggregate=options(99), room_bytes=0
        )
    assert (window.closes_ns, window.count) == (NOW + 10 * S, 100)


def test_a_state_survives_its_encoding() -> None:
    """A window that the store keeps is the same when it is read again."""
    window = gather([(t, b'{"n":1}', NOW + i) for i, t in enumerate(TYPES * 3)], options())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(window), type=Window) == window


events = st.lists(
    st.tuples(st.sampled_from(TYPES), st.binary(max_size=60), st.integers(0, 10**6)), min_size=1
)


@given(events, st.integers(0, 8), st.integers(-100, 400))
def test_originals_are_the_first_without_a_gap(
    events: list[tuple[str, bytes, int]], most: int, room_bytes: int
) -> None:
    """The longest run of first events that is within both the number and the room: a small event
    behind a large one does not take its place."""
    kept: list[bytes] = []
    for _, body, _ in events:
        if len(kept) == most or len(b"".join(kept)) + len(body) > room_bytes:
            break
        kept.append(body)
    assert list(gather(events, options(10, most), room_bytes).originals) == kept


@given(events)
def test_first_and_last_are_by_acceptance(events: list[tuple[str, bytes, int]]) -> None:
    """Several workers report out of order: the earliest and the latest acceptance are kept."""
    window = gather(events, options())
    times = [accepted_ns for _, _, accepted_ns in events]
    assert (window.first_ns, window.last_ns) == (min(times), max(times))


class Storm(RuleBasedStateMachine):
    """One endpoint's windows as the scheduler runs them, beside plain lists."""

    LENGTH_S = 10

    def __init__(self) -> None:
        super().__init__()
        self.now_ns = NOW
        self.window: Window | None = None
        self.opened_ns: list[int] = []
        #: events of the open window, and of each notification
        self.inside: list[str] = []
        self.sent: list[tuple[Window, list[str], int]] = []
        self.emitted = 0

    @rule(event_type=st.sampled_from(TYPES), n=st.integers(1, 50))
    def arrive(self, event_type: str, n: int) -> None:
        for _ in range(n):
            if self.window is None:
                self.opened_ns.append(self.now_ns)
            self.window = add(
                self.window,
                event_type,
                b"%d" % self.emitted,
                self.now_ns,
                self.now_ns,
                aggregate=options(self.LENGTH_S),
                room_bytes=1000,
            )
            self.inside.append(event_type)
            self.emitted += 1

    @rule(forward_ns=st.integers(0, 25 * S) | st.sampled_from([10 * S - 1, 10 * S, 10 * S + 1]))
    def wait(self, forward_ns: int) -> None:
        self.now_ns += forward_ns

    @rule(back_ns=st.integers(0, 3600 * S))
    def set_the_clock_back(self, back_ns: int) -> None:
        self.now_ns -= back_ns

    @rule()
    def look(self) -> None:
        if self.window is not None and closes(self.window, self.now_ns):
            self.sent.append((self.window, self.inside, self.now_ns))
            self.window, self.inside = None, []

    @invariant()
    def every_event_is_in_one_window(self) -> None:
        counted = sum(window.count for window, _, _ in self.sent)
        assert counted + (self.window.count if self.window else 0) == self.emitted

    @invariant()
    def each_window_counts_what_came_into_it(self) -> None:
        for window, inside, _ in self.sent:
            assert window.counts == {name: inside.count(name) for name in set(inside)}

    @invariant()
    def originals_are_of_their_own_window(self) -> None:
        begun = 0
        for window, inside, _ in self.sent:
            most = min(len(inside), 5)
            assert window.originals == tuple(b"%d" % n for n in range(begun, begun + most))
            begun += len(inside)

    @invariant()
    def one_notification_for_each_length_at_most(self) -> None:
        for i, (window, _, sent_ns) in enumerate(self.sent):
            assert window.closes_ns == self.opened_ns[i] + self.LENGTH_S * S
            assert sent_ns >= window.closes_ns


TestStorm = Storm.TestCase


@pytest.mark.parametrize(
    ("sizes", "kept"),
    [((6, 4), 2), ((6, 5), 1), ((10,), 1), ((11,), 0), ((11, 5), 0), ((6, 5, 1), 1)],
)
def test_originals_have_room_to_the_byte(sizes: tuple[int, ...], kept: int) -> None:
    """They are the first ones, without a gap: after one that found no room none follows."""
    events = [("service.5xx", b"x" * size, NOW) for size in sizes]
    assert len(gather(events, options(), room_bytes=10).originals) == kept
