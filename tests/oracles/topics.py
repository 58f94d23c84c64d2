"""Matching as the specification tells it, one endpoint and one level at a time.

Only for valid patterns, filters and names; `valid_filter` and `valid_name` say which those are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Subscription = tuple[int, Iterable[str], Iterable[str]]

_LEVELS = r"(?:(?:\+|[^+#/]*)/)*(?:\+|\#|[^+#/]*)"
_FILTER = re.compile(rf"(?!\$share/){_LEVELS} | \$share/[^+#/]+/(?=.){_LEVELS}", re.S | re.X)


def _valid_text(text: str) -> bool:
    try:
        return 1 <= len(text.encode()) <= 65_535 and "\0" not in text
    except UnicodeEncodeError:
        return False


def valid_name(topic: str) -> bool:
    """MQTT 5.0 sections 1.5.4 and 4.7.3, and 4.7.1: a name holds no wildcards."""
    return _valid_text(topic) and "+" not in topic and "#" not in topic


def valid_filter(topic_filter: str) -> bool:
    """MQTT 5.0 sections 1.5.4, 4.7.1, 4.7.3 and 4.8.2."""
    return _valid_text(topic_filter) and _FILTER.fullmatch(topic_filter) is not None


def valid_pattern(pattern: str) -> bool:
    return pattern == "*" or re.fullmatch(r"[^*]+(\.\*)?", pattern, re.S) is not None


def pattern_matches(pattern: str, event_type: str) -> bool:
    if pattern.endswith(".*"):
        return event_type.startswith(pattern.removesuffix("*"))
    return pattern in ("*", event_type)


def filter_matches(topic_filter: str, topic: str) -> bool:
    if topic_filter.startswith("$share/"):
        _, _, topic_filter = topic_filter.split("/", 2)
    if topic.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    return _levels_match(topic_filter.split("/"), topic.split("/"))


def text_matches(topic_filter: str, text: str) -> bool:
    """Return whether a filter matches another one, which is compared as a text."""
    if topic_filter.startswith("$share/"):
        _, _, topic_filter = topic_filter.split("/", 2)
    return _levels_match(topic_filter.split("/"), text.split("/"))


def _levels_match(filter_levels: list[str], levels: list[str]) -> bool:
    if filter_levels == ["#"]:
        return True
    if not filter_levels or not levels:
        return filter_levels == levels
    return filter_levels[0] in ("+", levels[0]) and _levels_match(filter_levels[1:], levels[1:])


def match(
    subscriptions: Iterable[Subscription], event_type: str, topic: str | None
) -> tuple[int, ...]:
    ids = set()
    for endpoint_id, patterns, filters in subscriptions:
        by_type = not patterns or any(pattern_matches(p, event_type) for p in patterns)
        by_topic = not filters or topic is None or any(filter_matches(f, topic) for f in filters)
        if by_type and by_topic:
            ids.add(endpoint_id)
    return tuple(sorted(ids))
