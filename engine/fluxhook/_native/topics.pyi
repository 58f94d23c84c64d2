from collections.abc import Iterable
from typing import Self, final

def check_filter(topic_filter: str) -> str | None:
    """Return what is wrong with an MQTT topic filter (MQTT 5.0 section 4.7), or None if it is valid.

    `$share/{group}/{filter}` is valid (section 4.8.2). The answer is a sentence for the user.
    """

def check_name(topic: str) -> str | None:
    """Return what is wrong with an MQTT topic name (MQTT 5.0 section 4.7), or None if it is valid."""

def check_pattern(pattern: str) -> str | None:
    """Return what is wrong with an event pattern, or None if it is valid."""

@final
class Matcher:
    """Turns (event type, topic name) into the ids of the endpoints that subscribed to them.

    `subscriptions` yields (endpoint id, event patterns, topic filters). An event pattern is an
    exact type, a namespace (`a.*`: every type that starts with `a.`) or `*`; no patterns means all.
    Topic filters bind only events that have a topic name; no filters means all. A shared
    subscription `$share/{group}/{filter}` matches what its inner filter matches. An id that comes
    twice has both subscriptions. Raises ValueError for a bad pattern or filter, and quotes it.

    Immutable: threads may share one. With the same result, a match among 100,000 filters costs
    about twice what it costs among 10, for cache misses.
    """

    def __new__(cls, subscriptions: Iterable[tuple[int, Iterable[str], Iterable[str]]]) -> Self: ...
    def match(self, event_type: str, topic: str | None = None) -> tuple[int, ...]:
        """Return the ids, ascending, each once. Raises ValueError for an invalid topic name.

        Where no topic filter had a say, it is the same tuple object every time.
        """

    def match_filter(self, event_type: str, topic_filter: str) -> tuple[int, ...]:
        """Return the same for an event about a topic filter, such as a client's subscription.

        Its levels are compared as they are written: `sensors/#` and `sensors/+` match `sensors/+`, and
        `sensors/1` does not. A leading wildcard matches all of them, those that begin with `$` too.
        """
