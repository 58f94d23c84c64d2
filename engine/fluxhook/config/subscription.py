"""What an endpoint subscribes to: event patterns, topic filters, conditions on the data."""

from __future__ import annotations

from fluxhook._native.topics import check_filter
from fluxhook.config.problems import Findings
from fluxhook.config.schema import Endpoint
from fluxhook.events.catalog import BOUND, TYPES
from fluxhook.events.names import hint, matches, pattern_fault, pattern_hint, unmatched
from fluxhook.events.where import OPERATORS, parse_condition

__all__ = ["check_subscription"]


def check_subscription(
    endpoint: Endpoint, path: str, known: frozenset[str], findings: Findings
) -> None:
    """Reports bad patterns, filters and conditions, and those that can match nothing or all.

    `known` are the types of both catalogs and the host's own; `path` ends in a dot.
    """
    wanted: set[str] = set()
    all_known = bool(endpoint.events)
    for i, pattern in enumerate(endpoint.events):
        if fault := pattern_fault(pattern, known):
            remedy = 'write a type such as "route.error", a namespace such as "route.*", or "*"'
            said = fault + pattern_hint(pattern, known)
            findings.problem(f"{path}events[{i}]", said, remedy)
        wanted |= (found := {name for name in known if matches(pattern, name)})
        all_known = all_known and bool(found)
        if not fault and not found:
            _point_out(pattern, known, f"{path}events[{i}]", findings)
    for i, topic_filter in enumerate(endpoint.topic_filters):
        if fault := check_filter(topic_filter):
            findings.problem(
                f"{path}topic_filters[{i}]",
                f"{topic_filter!r:.80} is not a topic filter: {fault}",
                'write one such as "sensors/+/temp" or "sensors/#" (MQTT 5.0 section 4.7)',
            )
    for i, pattern in enumerate(endpoint.aggregate.types):
        if fault := pattern_fault(pattern, known):
            remedy = 'write a type such as "service.5xx", or a namespace such as "service.*"'
            findings.problem(f"{path}aggregate.types[{i}]", fault, remedy)
        else:
            _point_out(pattern, known, f"{path}aggregate.types[{i}]", findings)
    if endpoint.topic_filters and all_known and wanted <= TYPES.keys() - BOUND:
        findings.notice(
            f"{path}topic_filters",
            "they filter nothing: no event type of this endpoint has a topic name or a topic filter",
        )
    declared = [TYPES.get(name) for name in wanted]
    fields = {field for data in declared if data for field in data.__struct_encode_fields__}
    for i, text in enumerate(endpoint.where):
        where = f"{path}where[{i}]"
        try:
            name = parse_condition(text).path[0]
        except ValueError as error:
            findings.problem(
                where,
                str(error),
                f"write a field, one of {' '.join(OPERATORS)}, and a value: status_code >= 500, "
                "path startswith '/api/', service in ['a', 'b']",
            )
            continue
        if all_known and all(declared) and name not in fields:
            findings.notice(
                where,
                f"nothing meets it: no event type of this endpoint has a field {name!r}"
                f"{hint(name, fields)}",
            )


def _point_out(pattern: str, known: frozenset[str], path: str, findings: Findings) -> None:
    """Nobody is to wait in silence for events that never come."""
    if said := unmatched(pattern, known):
        findings.notice(path, f"{said}; if the host emits it, list its type under event_types")
