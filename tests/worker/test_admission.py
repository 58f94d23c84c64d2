"""The admission of an endpoint: breaker and rate limit as production applies them to the shared words,
alone and while other workers change the same words in the middle of it."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxhook._native.shared import Words
from fluxhook.config.schema import Breaker, Endpoint
from fluxhook.config.units import Duration, Rate
from fluxhook.policy import breaker
from fluxhook.policy.breaker import CLOSED, Action, Hold, Probe, Send, State
from fluxhook.transport.datadir import BREAKER, FAILING, RATE, WORD_FIELDS
from fluxhook.worker.admission import Admission
from fluxhook.worker.endpoint_queue import EndpointQueue

MS = 1_000_000
T0 = 1_700_000_000_000
RESET_MS = 1_000
PROBE_MS = 300
#: the endpoint's row; there are others beside it
ROW = 1


def queue(threshold: int = 3, rate_limit: str | None = None) -> EndpointQueue:
    """All that the admission asks of an endpoint queue."""
    endpoint = Endpoint(
        name="a",
        url="https://a.example/",
        circuit_breaker=Breaker(failure_threshold=threshold, reset_timeout=Duration(RESET_MS * MS)),
        rate_limit=Rate.parse(rate_limit) if rate_limit else None,
    )
    fields = SimpleNamespace(
        id=ROW, endpoint=endpoint, probe_timeout_ns=PROBE_MS * MS, failure_threshold=threshold
    )
    return cast(EndpointQueue, fields)


class Contended:
    """The words of all workers, on which others act between any two operations of one.

    Each operation lets the next of `others` go first. `moment` counts; the last one at which a worker
    changed the breaker's word, or saw it without a change to make, is when what it does takes effect.
    """

    def __init__(self, words: Words) -> None:
        self._words = words
        self.others: deque[Callable[[], object] | None] = deque()
        self.moment = 0
        #: of each worker that is at work, the innermost last
        self.effects: list[int] = []

    def load(self, row: int, field: int) -> int:
        self._let_others()
        self._note(field)
        return self._words.load(row, field)

    def store(self, row: int, field: int, value: int) -> None:
        self._let_others()
        self._words.store(row, field, value)

    def swap(self, row: int, field: int, expected: int, value: int) -> bool:
        self._let_others()
        swapped = self._words.swap(row, field, expected, value)
        if swapped:
            self._note(field)
        return swapped

    def _let_others(self) -> None:
        if self.others and (other := self.others.popleft()):
            other()

    def _note(self, field: int) -> None:
        if field == BREAKER and self.effects:
            self.moment += 1
            self.effects[-1] = self.moment


@pytest.fixture
def words(tmp_path: Path) -> Iterator[Words]:
    words = Words(str(tmp_path / "words"), 3, WORD_FIELDS)
    yield words
    assert [words.load(row, field) for row in (0, 2) for field in range(WORD_FIELDS)] == (
        [0] * 2 * WORD_FIELDS
    ), "the word of another endpoint"


# ---- the breaker ---------------------------------------------------------------------------


def test_a_success_ends_the_row_of_failures(words: Words) -> None:
    """Two failures, a success, two failures: the third in a row alone opens it."""
    admission, a = Admission(words), queue(3)
    for _ in range(3):
        admission.failure(a, T0 * MS, 0)
        admission.failure(a, T0 * MS, 0)
        assert breaker.unpack(words.load(ROW, BREAKER)) == State("closed", 2)
        admission.success(a, T0 * MS, 0)
        assert words.load(ROW, BREAKER) == 0
        assert admission.permit(a, T0 * MS) == Send()
    for _ in range(3):
        admission.failure(a, T0 * MS, 0)
    assert admission.permit(a, T0 * MS) == Hold((T0 + RESET_MS) * MS)


def test_a_probe_that_tells_nothing_makes_room_for_another(words: Words) -> None:
    """`release` hands the permit back at once, and not after the probe's time; what was no probe has
    none to hand back."""
    admission, a = Admission(words), queue(1)
    admission.failure(a, T0 * MS, 0)
    probe = admission.permit(a, (T0 + RESET_MS) * MS)
    assert probe == Probe(T0 + RESET_MS)
    later = (T0 + RESET_MS + 1) * MS
    admission.release(a, later, 0)
    assert admission.permit(a, later) == Hold((T0 + RESET_MS + PROBE_MS) * MS)
    admission.release(a, later, T0 + RESET_MS)
    assert admission.permit(a, later) == Probe(T0 + RESET_MS + 1)


def test_failing_since_the_first_failure_after_a_success(words: Words) -> None:
    """The word says when nothing but failure began, and nothing once the endpoint answered."""
    admission, a = Admission(words), queue(2)
    admission.success(a, T0 * MS, 0)
    assert words.load(ROW, FAILING) == 0
    for at in (T0, T0 + 1, T0 + 2):  # the third comes late, to an open breaker
        admission.failure(a, at * MS, 0)
        assert words.load(ROW, FAILING) == T0 * MS
    admission.success(
        a, (T0 + 3) * MS, 0
    )  # late as well: it opens nothing, but the endpoint answers
    assert words.load(ROW, FAILING) == 0
    assert breaker.unpack(words.load(ROW, BREAKER)) == State("open", T0 + 1)


@pytest.mark.parametrize(("word", "failing"), [(0, T0 * MS), (1, 0)])
def test_failing_since_where_a_success_is_half_done(words: Words, word: int, failing: int) -> None:
    """A success clears two words; a failure between the two, or right after them, is the first one."""
    words.store(ROW, BREAKER, word)
    words.store(ROW, FAILING, failing)
    Admission(words).failure(queue(3), (T0 + 5) * MS, 0)
    assert words.load(ROW, FAILING) == (T0 + 5) * MS


@pytest.mark.parametrize(
    ("event", "other", "after"),
    [
        ("success", "failure", CLOSED),
        ("failure", "failure", State("open", T0)),
        ("failure", "success", State("closed", 1)),
        ("success", "success", CLOSED),
    ],
)
def test_another_worker_is_quicker(words: Words, event: str, other: str, after: State) -> None:
    """Between the look at the word and its change: nothing is lost, and nothing counts twice."""
    contended = Contended(words)
    admission, a = Admission(cast(Words, contended)), queue(3)
    words.store(ROW, BREAKER, 1)
    words.store(ROW, FAILING, T0 * MS)
    looks = {"success": 1, "failure": 2}[event]
    quicker = Admission(words)
    contended.others.extend([None] * looks)
    contended.others.append(lambda: getattr(quicker, other)(a, T0 * MS, 0))
    getattr(admission, event)(a, T0 * MS, 0)
    assert not contended.others
    assert breaker.unpack(words.load(ROW, BREAKER)) == after


class Workers(RuleBasedStateMachine):
    """Workers that share a breaker, each of whose operations others may interrupt at any point.

    The model is a dict that sees each operation once, at the moment at which it takes effect.
    """

    @initialize(threshold=st.integers(1, 3), is_open=st.booleans())
    def start(self, threshold: int, is_open: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.words = Words(str(Path(self.folder.name, "words")), 3, WORD_FIELDS)
        self.contended = Contended(self.words)
        self.admission = Admission(cast(Words, self.contended))
        self.queue = queue(threshold)
        self.threshold = threshold
        self.now = T0
        self.words.store(ROW, BREAKER, breaker.pack(State("open", T0)) if is_open else 0)
        self.model: dict[str, Any] = {
            "name": "open" if is_open else "closed",
            "row": 0,
            "opened": T0,
            "probe": None,
        }
        self.answered = 0
        #: the tokens of the requests under way, 0 for an ordinary one
        self.in_flight: list[int] = []
        self.done: list[tuple[int, str, int, Action | None]] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    operations = st.tuples(
        st.sampled_from(["permit", "permit", "success", "failure", "failure", "release"]),
        st.integers(0, 99),
    )

    def operate(self, event: str, pick: int) -> None:
        """One operation of one worker, from its beginning to its end."""
        token = 0
        if event != "permit":
            if not self.in_flight:
                return
            # probes first, as there are few of them: old, lost ones too
            self.in_flight.sort(reverse=True)
            token = self.in_flight.pop(pick % len(self.in_flight))
        action = None
        self.contended.effects.append(0)
        if event == "permit":
            action = self.admission.permit(self.queue, self.now * MS)
            if not isinstance(action, Hold):
                self.in_flight.append(action.token if isinstance(action, Probe) else 0)
        else:
            getattr(self.admission, event)(self.queue, self.now * MS, token)
        effect = self.contended.effects.pop()
        if event != "release" or token:  # that of an ordinary request looks at nothing
            assert effect
            self.done.append((effect, event, token, action))

    @rule(first=operations, others=st.lists(st.none() | operations, max_size=8))
    def workers_act(self, first: Any, others: list[Any]) -> None:
        self.contended.others.extend(
            other and (lambda other=other: self.operate(*other)) for other in others
        )
        failing = self.words.load(ROW, FAILING)
        before = self.words.load(ROW, BREAKER)
        self.operate(*first)
        self.contended.others.clear()
        for _, event, token, action in sorted(self.done, key=lambda done: done[0]):
            self.takes_effect(event, token, action)
        if len(self.done) == 1:
            ((_, event, _, _),) = self.done
            if event == "success" and before:
                failing = 0
            elif event == "failure" and not (before and failing):
                failing = self.now * MS
            assert self.words.load(ROW, FAILING) == failing
        self.done.clear()

    def takes_effect(self, event: str, token: int, action: Action | None) -> None:
        model = self.model
        if event == "success":
            self.answered = self.now * MS
        if event == "permit":
            if model["name"] == "closed":
                assert action == Send()
            elif model["name"] == "open" and self.now - model["opened"] < RESET_MS:
                assert action == Hold((model["opened"] + RESET_MS) * MS)
            elif model["probe"] is not None and self.now - model["probe"] < PROBE_MS:
                assert action == Hold((model["probe"] + PROBE_MS) * MS)
            else:
                assert action == Probe(self.now)
                model.update(name="half_open", probe=self.now)
        elif model["name"] == "closed":
            if event == "success":
                model["row"] = 0
            elif event == "failure":
                model["row"] += 1
                if model["row"] == self.threshold:
                    model.update(name="open", opened=self.now)
        elif model["name"] == "half_open" and token and token == model["probe"]:
            if event == "success":
                model.update(name="closed", row=0, probe=None)
            elif event == "failure":
                model.update(name="open", opened=self.now, probe=None)
            else:
                model.update(probe=None)

    @rule(ms=st.sampled_from([1, PROBE_MS - 1, PROBE_MS, RESET_MS - 1, RESET_MS]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @precondition(lambda self: self.in_flight)
    @rule()
    def a_worker_dies(self) -> None:
        self.in_flight.pop()

    @invariant()
    def at_most_one_probe_is_out_at_a_time(self) -> None:
        assert sum(self.now - token < PROBE_MS for token in self.in_flight if token) <= 1

    @invariant()
    def the_word_says_what_happened(self) -> None:
        """failure_threshold failures in a row open it, and one fewer does not."""
        state = breaker.unpack(self.words.load(ROW, BREAKER))
        assert state.name == self.model["name"]
        if state.name == "closed":
            assert state.value == self.model["row"] < self.threshold
        elif state.name == "open":
            assert state.value == self.model["opened"]
        else:
            assert state.value == (self.model["probe"] or 0)

    @invariant()
    def failure_is_not_measured_from_before_a_success(self) -> None:
        failing = self.words.load(ROW, FAILING)
        assert failing == 0 or failing >= self.answered

    @invariant()
    def it_can_always_recover(self) -> None:
        """Whatever happened: wait, ask, succeed, and it is closed."""
        saved = [(field, self.words.load(ROW, field)) for field in (BREAKER, FAILING)]
        admission, later = Admission(self.words), (self.now + RESET_MS + PROBE_MS) * MS
        action = admission.permit(self.queue, later)
        assert isinstance(action, Send | Probe)
        admission.success(self.queue, later, action.token if isinstance(action, Probe) else 0)
        assert breaker.unpack(self.words.load(ROW, BREAKER)) == CLOSED
        for field, value in saved:
            self.words.store(ROW, field, value)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


# ---- the rate limit ------------------------------------------------------------------------


def test_without_a_limit_nothing_waits(words: Words) -> None:
    """And no word is touched."""
    admission, a = Admission(words), queue()
    assert [admission.admit(a, T0 * MS) for _ in range(100)] == [0] * 100
    assert words.load(ROW, RATE) == 0


def test_a_limit_holds_however_many_workers_ask(words: Words) -> None:
    """`10/s`: one goes, and the others wait for their turn; also where another worker was quicker
    between the look at the word and its change."""
    contended = Contended(words)
    admission, a = Admission(cast(Words, contended)), queue(rate_limit="10/s")
    assert a.endpoint.rate_limit is not None
    interval_ns, burst = a.endpoint.rate_limit.interval_ns, a.endpoint.rate_limit.burst
    waits: list[int] = []

    def ask() -> None:
        waits.append(admission.admit(a, T0 * MS))

    while not any(waits):
        contended.others.extend([None, ask])
        ask()
        assert len(waits) <= 2 * burst + 2
    assert waits.count(0) == burst
    assert set(waits) == {0, interval_ns}
    assert words.load(ROW, RATE) == T0 * MS + burst * interval_ns
    assert admission.admit(a, T0 * MS + interval_ns) == 0
