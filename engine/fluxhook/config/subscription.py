"""What an endpoint subscribes to: event patterns and topic filters."""

from __future__ import annotations

from collections.abc import Set

from fluxhook._native.topics import check_filter
from fluxhook.config.problems import Findings
from fluxhook.config.schema import Endpoint
from fluxhook.events.catalog import TYPES, WITH_TOPIC
from fluxhook.events.names import hint, matches, namespace, pattern_fault

__all__ = ["check_subscription"]


def check_subscription(endpoint: Endpoint, path: str, known: Set[str], findings: Findings) -> None:
    """Reports bad patterns and filters, patterns that no known type matches, and idle filters.

    `known` are the types of both catalogs and the host's own; `path` ends in a dot.
    """
    wanted: set[str] = set()
    all_known = bool(endpoint.events)
    for i, pattern in enumerate(endpoint.events):
        if fault := pattern_fault(pattern):
            remedy = 'write a type such as "route.error", a namespace such as "route.*", or "*"'
            findings.problem(f"{path}events[{i}]", fault, remedy)
        wanted |= (found := {name for name in known if matches(pattern, name)})
        all_known = all_known and bool(found)
        if not fault and not found:
            known_patterns = map(namespace, known) if pattern.endswith(".*") else known
            findings.notice(
                f"{path}events[{i}]",
                f"no known event type matches {pattern!r}{hint(pattern, known_patterns)}; "
                "if the host emits it, list its type under event_types",
            )
    for i, topic_filter in enumerate(endpoint.topic_filters):
        if fault := check_filter(topic_filter):
            findings.problem(
                f"{path}topic_filters[{i}]",
                f"{topic_filter!r:.80} is not a topic filter: {fault}",
                'write one such as "sensors/+/temp" or "sensors/#" (MQTT 5.0 section 4.7)',
            )
    if endpoint.topic_filters and all_known and wanted <= TYPES.keys() - WITH_TOPIC:
        findings.notice(
            f"{path}topic_filters",
            "they filter nothing: no event type of this endpoint has a topic name",
        )
