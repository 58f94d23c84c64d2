"""Event patterns and MQTT topic filters against the naive oracle, paho, and the shared vectors."""

from __future__ import annotations

import enum
import gc
import json
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from fluxhook._native.topics import Matcher, check_filter, check_name, check_pattern
from oracles import topics as oracle

VECTORS = json.loads((Path(__file__).parents[1] / "vectors.json").read_text())["topic_matching"]

# No rule here is about time, and a busy or instrumented machine may take over Hypothesis's 200 ms
# for the longest texts; pytest-timeout ends what hangs.
UNTIMED = settings(deadline=None)

# Few words, so that filters and names meet often. NUL and a lone surrogate only where validity is
# the question.
WORDS = ["", "a", "$x", "日本"]
levels = st.sampled_from(WORDS)
names = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(oracle.valid_name)
inner_filters = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(levels | st.just("+"), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
) | st.just("#")
filters = st.builds(str.__add__, st.sampled_from(["", "", "$share/g/"]), inner_filters).filter(
    oracle.valid_filter
)
event_types = st.lists(st.sampled_from(["a", "b", "", "*"]), min_size=1, max_size=4).map(".".join)
patterns = (
    event_types | event_types.map("{}.*".format) | st.sampled_from(["*", "a.*", "a.b.*"])
).filter(oracle.valid_pattern)
subscriptions = st.lists(
    st.tuples(
        st.integers(0, 12) | st.integers(-(2**70), 2**70),
        st.lists(patterns, max_size=3),
        st.lists(filters, max_size=4),
    ),
    max_size=12,
)
#: any text, thick with what the rules are about
doubtful = st.lists(
    st.sampled_from([*WORDS, "+", "#", "/", "$share/", "\0", "\ud800", "\n"]), max_size=8
).map("".join)


def matches(topic_filter: str, topic: str) -> bool:
    return Matcher([(1, (), (topic_filter,))]).match("any", topic) == (1,)


@settings(UNTIMED, max_examples=400)
@given(subscriptions, event_types, st.none() | names)
def test_matcher_agrees_with_oracle(
    subs: list[oracle.Subscription], event_type: str, topic: str | None
) -> None:
    """An endpoint is reached if its patterns hold and its filters, if any, match the topic."""
    assert Matcher(subs).match(event_type, topic) == oracle.match(subs, event_type, topic)


@UNTIMED
@given(subscriptions, st.lists(st.tuples(event_types, st.none() | names), max_size=30))
def test_history_does_not_matter(
    subs: list[oracle.Subscription], events: list[tuple[str, str | None]]
) -> None:
    """Former matches do not change what matches."""
    matcher = Matcher(subs)
    for event_type, topic in [*events, *events]:
        assert matcher.match(event_type, topic) == oracle.match(subs, event_type, topic)


@UNTIMED
@given(filters.filter(lambda f: not f.startswith("$share/")), names)
def test_single_filter_agrees_with_paho(topic_filter: str, topic: str) -> None:
    """paho-mqtt decides alike. ($share is left out: paho takes it for a literal level.)"""
    assert matches(topic_filter, topic) == topic_matches_sub(topic_filter, topic)


@UNTIMED
@given(filters, names)
def test_shared_subscription_matches_as_its_filter(topic_filter: str, topic: str) -> None:
    """`$share/{group}/{filter}` matches exactly what {filter} matches (MQTT 5.0 section 4.8.2)."""
    if not topic_filter.startswith("$share/"):
        assert matches(f"$share/group/{topic_filter}", topic) == matches(topic_filter, topic)


@pytest.mark.parametrize(("topic_filter", "topic", "expected"), VECTORS["rows"])
def test_vectors(topic_filter: str, topic: str, expected: bool) -> None:
    """Each shared vector holds, in the matcher and in the oracle that judges it."""
    assert matches(topic_filter, topic) is expected
    assert oracle.filter_matches(topic_filter, topic) is expected


@pytest.mark.parametrize("topic_filter", VECTORS["invalid_filters"])
def test_invalid_filter_vectors(topic_filter: str) -> None:
    """An invalid filter is explained by check_filter and refused by Matcher, which quotes it."""
    fault = check_filter(topic_filter)
    assert fault
    with pytest.raises(ValueError, match="topic filter") as caught:
        Matcher([(1, (), (topic_filter,))])
    assert str(caught.value) == f"topic filter {topic_filter!r}: {fault}"


@pytest.mark.parametrize("topic", VECTORS["invalid_topic_names"])
def test_invalid_name_vectors(topic: str) -> None:
    """An invalid topic name is explained by check_name and refused by match, which quotes it."""
    fault = check_name(topic)
    assert fault
    with pytest.raises(ValueError, match="topic name") as caught:
        Matcher([]).match("any", topic)
    assert str(caught.value) == f"topic name {topic!r}: {fault}"


@settings(UNTIMED, max_examples=1_000)
@given(doubtful)
@example("é" * 32_767 + "a")
@example("é" * 32_768)
@example("a" * 65_536)
@example("/" * 65_535)
@example("$share")
@example("$share/g")
@example("$SHARE//a")
@example("$share/g//")
def test_validity_agrees_with_oracle(text: str) -> None:
    """Exactly the texts that MQTT 5.0 sections 1.5.4, 4.7 and 4.8.2 allow are accepted."""
    assert (check_filter(text) is None) == oracle.valid_filter(text)
    assert (check_name(text) is None) == oracle.valid_name(text)
    if oracle.valid_name(text):
        assert Matcher([]).match("any", text) == ()
    else:
        with pytest.raises(ValueError, match="topic name"):
            Matcher([]).match("any", text)


@UNTIMED
@given(st.text(st.sampled_from("ab.*"), max_size=5))
def test_pattern_validity_agrees_with_oracle(text: str) -> None:
    """A star stands alone or after the last dot of a namespace; anything else is refused."""
    assert (check_pattern(text) is None) == oracle.valid_pattern(text)
    if not oracle.valid_pattern(text):
        with pytest.raises(ValueError, match="event pattern"):
            Matcher([(1, (text,), ())])


@pytest.mark.parametrize(
    ("check", "text", "sentence"),
    [
        (check_filter, "a/#/b", "'#' must stand alone in the last level"),
        (check_filter, "a#", "'#' must stand alone in the last level"),
        (check_filter, "a+/b", "'+' must stand alone in its level"),
        (check_filter, "", "a topic filter must have at least one character"),
        (
            check_filter,
            "$share/group",
            "a shared subscription must have the form $share/{group}/{filter}",
        ),
        (
            check_filter,
            "$share/+/a",
            "the group of a shared subscription must not contain '+' or '#'",
        ),
        (check_name, "a/+", "a topic name must not contain the wildcards '+' and '#'"),
        (check_name, "a\0", "a topic name must not contain the NUL character"),
        (check_name, "a" * 65_536, "a topic name must not be longer than 65,535 bytes of UTF-8"),
        (
            check_name,
            "\udc80",
            "a topic name must be valid Unicode; this one holds a lone surrogate",
        ),
        (
            check_pattern,
            "route*",
            "'*' must stand alone, or after the last dot of a namespace as in 'route.*'",
        ),
    ],
)
def test_sentences(check: Callable[[str], str | None], text: str, sentence: str) -> None:
    """A fault is told in a sentence that can be shown to a user."""
    assert check(text) == sentence


def test_long_texts_are_quoted_in_part() -> None:
    """An error names the text but does not repeat 65,000 characters of it."""
    with pytest.raises(ValueError, match=r"^topic name 'a{80}\.\.\.': a topic name") as caught:
        Matcher([]).match("any", "a" * 70_000)
    assert len(str(caught.value)) < 200


def test_namespace_needs_a_dot() -> None:
    """`route.*` matches `route.error` and `route.a.b`, but neither `route` nor `routes.a`."""
    matcher = Matcher([(1, ("route.*",), ())])
    found = [matcher.match(t) for t in ("route.error", "route.a.b", "route", "routes.a")]
    assert found == [(1,), (1,), (), ()]


def test_filters_bind_only_events_with_a_topic() -> None:
    """An event without a topic reaches filtered endpoints; one with a topic must match a filter."""
    matcher = Matcher([(1, (), ("a",)), (2, (), ())])
    assert matcher.match("any") == (1, 2)
    assert matcher.match("any", "a") == (1, 2)
    assert matcher.match("any", "b") == (2,)


@UNTIMED
@given(
    st.lists(filters, min_size=1, max_size=4), st.lists(levels | st.sampled_from("+#"), max_size=5)
)
def test_an_event_about_a_filter(bound: list[str], levels: list[str]) -> None:
    """Its levels are compared as they are written, those that begin with `$` like any other."""
    text = "/".join(levels)
    expected = {i for i, f in enumerate(bound) if oracle.text_matches(f, text)}
    matcher = Matcher([*((i, (), (f,)) for i, f in enumerate(bound)), (99, (), ())])
    assert matcher.match_filter("subscription.created", text) == (*sorted(expected), 99)


def test_a_filter_that_is_no_text() -> None:
    """A lone surrogate is refused as in a topic name."""
    with pytest.raises(ValueError, match="lone surrogate"):
        Matcher([(1, (), ("#",))]).match_filter("a", "\ud800")


def test_untouched_result_is_one_object() -> None:
    """If no filter had a say, the prebuilt tuple itself comes back: it is a cheap dict key."""
    matcher = Matcher([(1, (), ("a",)), (2, ("x", "y.*"), ())])
    assert matcher.match("x", "b") is matcher.match("x", "c")
    assert matcher.match("x") is matcher.match("x")
    assert matcher.match("y.1", "b") is matcher.match("y.2", "b")


def test_many_endpoints() -> None:
    """Among 20,000 endpoints of all shapes each topic finds its own, ascending and once."""
    shapes = ("site/{}/temp", "site/{}/+", "site/{}/#", "+/{}/temp", "$share/g/site/{}/temp")
    subs = [
        (7 * i, ("message.*",) if i % 2 else (), tuple(s.format(i // 4) for s in shapes))
        for i in range(20_000)
    ]
    subs.reverse()
    matcher = Matcher(subs)
    for n in range(0, 5_000, 97):
        topic = f"site/{n}/temp"
        assert matcher.match("message.published", topic) == tuple(7 * (4 * n + k) for k in range(4))
        assert matcher.match("other", topic) == (28 * n, 28 * n + 14)
    assert matcher.match("message.published", "site/5000/temp") == ()
    assert len(matcher.match("message.published")) == 20_000


def test_wide_results() -> None:
    """Results beyond every internal threshold stay ascending and whole."""
    for n in (31, 32, 33, 63, 64, 65, 1_000):
        subs = [(i, (), ("a/#", "a/+", "+/b") if i % 2 else ()) for i in range(n)]
        assert Matcher(subs).match("any", "a/b") == tuple(range(n))


def test_deep_topics() -> None:
    """A topic of 65,535 empty or 32,768 one-letter levels is matched without recursion."""
    slashes, letters = "/" * 65_535, "/".join("a" * 32_768)
    plus = "/".join("+" * 32_768)
    matcher = Matcher([(1, (), (slashes,)), (2, (), (letters,)), (3, (), (plus,)), (4, (), ("#",))])
    assert matcher.match("any", slashes) == (1, 4)
    assert matcher.match("any", letters) == (2, 3, 4)


def test_plus_branches_do_not_multiply() -> None:
    """Work follows the filters that share the topic's levels, not 2^levels ways to cut it."""
    depth = 2_000
    exact, plus = "/".join("a" * depth), "/".join("+" * depth)
    matcher = Matcher([(1, (), (exact,)), (2, (), (plus,)), (3, (), (plus + "/#",))])
    assert matcher.match("any", exact) == (1, 2, 3)


def test_all_plus_paths_are_found() -> None:
    """If the filters themselves spell out every mix of `a` and `+`, each of them is found."""
    mixes = ["/".join("a+"[i >> bit & 1] for bit in range(10)) for i in range(1_024)]
    matcher = Matcher([(i, (), (mix,)) for i, mix in enumerate(mixes)])
    assert matcher.match("any", "/".join("a" * 10)) == tuple(range(1_024))


def test_endless_event_types() -> None:
    """A host that invents event types without end, or very long ones, is served correctly."""
    matcher = Matcher([(1, ("a.*",), ()), (2, ("b",), ()), (3, ("a.7.*",), ("t",))])
    for i in range(5_000):
        assert matcher.match(f"a.{i}.x", "t") == ((1, 3) if i == 7 else (1,))
    assert matcher.match("a." + "x." * 500_000) == (1,)
    assert matcher.match("b") == (2,)


def test_twice_the_same_id() -> None:
    """An id that comes twice has both subscriptions."""
    matcher = Matcher([(1, ("a",), ()), (1, ("b",), ("t",))])
    assert [matcher.match(*e) for e in (("a", "x"), ("b", "t"), ("b", "x"))] == [(1,), (1,), ()]


def test_text_subclasses_match_as_text() -> None:
    """A StrEnum, which hashes by its member's name, is taken by its value."""

    class Kind(enum.StrEnum):
        ERROR = "route.error"
        PLUS = "a/+"

    matcher = Matcher([(1, ("route.error",), ("route.error",))])
    for _ in range(2):
        assert matcher.match(Kind.ERROR, Kind.ERROR) == (1,)
    with pytest.raises(ValueError, match=r"topic name 'a/\+'"):
        matcher.match("any", Kind.PLUS)


@pytest.mark.parametrize(
    "subscription",
    [
        (1, "a.*", ()),
        (1, (), "a/b"),
        (1, (5,), ()),
        (1, (), (None,)),
        ("1", (), ()),
        5,
    ],
)
def test_wrong_types_are_type_errors(subscription: Any) -> None:
    """A string where several are due, or anything else of the wrong type, is a TypeError."""
    with pytest.raises(TypeError):
        Matcher([subscription])


def test_match_refuses_wrong_types() -> None:
    """Event type and topic are strings (or no topic); nothing else is guessed at."""
    matcher: Any = Matcher([])
    with pytest.raises(TypeError, match="event type must be a str, not int"):
        matcher.match(5)
    with pytest.raises(TypeError, match="topic name must be a str, not bytes"):
        matcher.match("a", b"a")


def test_threads_share_a_matcher() -> None:
    """Threads that match at the same time do not disturb each other."""
    matcher = Matcher([(i, (), (f"t/{i % 50}/#", "+/+/x")) for i in range(500)])
    expected = {f"t/{i}/y": tuple(range(i, 500, 50)) for i in range(50)}
    wrong: list[str] = []

    def work() -> None:
        for _ in range(50):
            wrong.extend(t for t, ids in expected.items() if matcher.match("any", t) != ids)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_memory_comes_back() -> None:
    """Building, using, failing to build and dropping matchers leaves no memory behind."""

    def rounds(n: int) -> None:
        for _ in range(n):
            subs = [(i, (f"t{i % 9}.*",), (f"a/{i}/+", "a/#", f"{i}/b")) for i in range(1_000)]
            matcher = Matcher(subs)
            for i in range(50):
                matcher.match(f"t{i}.x", f"a/{i}/b")
            for bad in (("a/#/b",), ("\ud800",)):
                with pytest.raises(ValueError, match="topic filter"):
                    Matcher([*subs, (1, (), bad)])
            with pytest.raises(ValueError, match="topic name"):
                matcher.match("any", "+")

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    rounds(5)
    resident = resident_bytes()
    rounds(100)
    assert resident_bytes() - resident < 8 << 20  # a leak of the tries alone would be over 20 MB

    tracemalloc.start()  # sees each allocation of the trie, too
    try:
        rounds(2)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        rounds(10)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
