from collections.abc import Iterable

def check_filter(topic_filter: str) -> str | None:
    """What is wrong with an MQTT topic filter (MQTT 5.0 section 4.7), or None if it is valid."""

def check_name(topic: str) -> str | None:
    """What is wrong with an MQTT topic name (MQTT 5.0 section 4.7), or None if it is valid."""

class Matcher:
    """Turns (event type, topic name) into the ids of the endpoints that subscribed to them.

    `subscriptions` yields (endpoint id, event patterns, topic filters). An event pattern is an exact
    type, a namespace `a.*` or `*`; no patterns means all. Topic filters bind only events that have a
    topic name; no filters means all. Raises ValueError for a bad pattern or filter.
    """

    def __init__(
        self, subscriptions: Iterable[tuple[int, Iterable[str], Iterable[str]]]
    ) -> None: ...
    def match(self, event_type: str, topic: str | None = None) -> tuple[int, ...]:
        """The ids, ascending, each once. Raises ValueError for an invalid topic name."""
