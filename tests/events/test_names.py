"""Event types, patterns, and near misses."""

from __future__ import annotations

import pytest

from fluxhook._native.topics import Matcher
from fluxhook.events.catalog import BOUND, TYPES, WITH_FILTER, WITH_TOPIC
from fluxhook.events.names import (
    hint,
    matches,
    namespaces,
    pattern_fault,
    pattern_hint,
    type_fault,
    types_of,
)

KNOWN = frozenset(TYPES)


@pytest.mark.parametrize("name", [*TYPES, "order", "a.b.c.d", "service.5xx", "x" * 128])
def test_types(name: str) -> None:
    """A type is words of a-z, 0-9 and _ between dots, at most 128 characters."""
    assert type_fault(name) is None


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "A", "a b", "a-b", "a.*", "*", "é", "a\n", "a\0", "x" * 129],
)
def test_bad_types(name: str) -> None:
    """Any other text is refused."""
    assert type_fault(name)


@pytest.mark.parametrize("pattern", ["*", "route.*", "rate.limit.*", "route.error"])
def test_patterns(pattern: str) -> None:
    """A pattern is a type, a namespace, or `*`."""
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize("pattern", ["", "**", ".*", "route*", "*.error", "route.*.x", "Route.*"])
def test_bad_patterns(pattern: str) -> None:
    """Any other pattern is refused."""
    assert pattern_fault(pattern)


@pytest.mark.parametrize("pattern", ["*", "route.*", "rate.*", "rate.limit.*", "route.error", "x"])
def test_matches_as_the_compiled_matcher_does(pattern: str) -> None:
    """Configurations understand a pattern exactly as the publisher's matcher does."""
    matcher = Matcher([(0, [pattern], [])])
    for name in (*TYPES, "route", "router.error"):
        assert matches(pattern, name) == bool(matcher.match(name)), name


def test_namespaces() -> None:
    """Each dot ends one."""
    assert namespaces(["rate.limit.exceeded", "rate.x", "order"]) == {"rate.*", "rate.limit.*"}


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("route", "route.*"),
        ("Route", "route.*"),
        ("rate.limit", "rate.limit.*"),
        ("route.eror", "route.error"),
        ("Route.Error", "route.error"),
        ("rout", "route.*"),
        ("routes.*", "route.*"),
        ("rat.*", "rate.*"),
        ("service.5x", "service.5xx"),
    ],
)
def test_what_matches_nothing_is_pointed_out(pattern: str, near: str) -> None:
    """With a type or a namespace that is near to it, capitals or not."""
    assert types_of(pattern, KNOWN) == ()
    assert pattern_hint(pattern, KNOWN).startswith(f" (did you mean {near}")


def test_what_matches_something_is_not() -> None:
    """And where nothing is near, nothing is guessed."""
    for pattern in ("*", "route.*", "rate.*", "route.error"):
        assert sorted(types_of(pattern, KNOWN)) == [n for n in sorted(KNOWN) if matches(pattern, n)]
        assert types_of(pattern, KNOWN)
    assert pattern_hint("zzz", KNOWN) == ""


def test_hint() -> None:
    """A near miss is answered with the known word, anything else with nothing."""
    assert hint("route.eror", TYPES).startswith(" (did you mean route.error")
    assert hint("zzzz", TYPES) == ""


def test_types_with_a_topic() -> None:
    """The types with a topic name are those of messages, and the denied publish."""
    assert {
        "message.published",
        "message.delivered",
        "message.retained",
        "authz.publish_denied",
    } == WITH_TOPIC
    assert {
        "subscription.created",
        "subscription.removed",
        "authz.subscribe_denied",
    } == WITH_FILTER
    assert WITH_TOPIC | WITH_FILTER == BOUND
