"""What an endpoint subscribes to: event patterns, topic filters, conditions on the data."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, NamedTuple

from fluxhook._native.topics import check_filter
from fluxhook.config.findings import Findings
from fluxhook.config.schema import Aggregate, Endpoint
from fluxhook.events.catalog import BOUND, TYPES
from fluxhook.events.names import hint, pattern_fault, pattern_hint, types_of
from fluxhook.events.where import OPERATORS, parse_condition

__all__ = ["check_subscription"]

#: of a topic filter: `emit` looks at each level of each filter that shares those before with the topic.
#: Arbitrary, far above what brokers allow, or devices use.
MAX_LEVELS: Final = 128


class _Matched(NamedTuple):
    """What is known of the types that a pattern matches."""

    any: bool
    #: one of them may have a topic name, or a topic filter
    bound: bool
    #: of the data of any of them; None: one of them is not declared, and may have any
    fields: frozenset[str] | None


def check_subscription(
    endpoint: Endpoint, path: str, known: frozenset[str], findings: Findings
) -> None:
    """Report bad patterns, filters and conditions, and those that can match nothing or all.

    `known` are the types of both catalogs and the host's own; `path` ends in a dot.
    """
    found = [match_types(pattern, known) for pattern in endpoint.events]
    _check_events(endpoint.events, found, f"{path}events", known, findings)
    _check_topic_filters(endpoint.topic_filters, found, f"{path}topic_filters", findings)
    _check_aggregate(endpoint.aggregate, f"{path}aggregate.types", known, findings)
    _check_conditions(endpoint.where, found, f"{path}where", findings)


def _check_events(
    patterns: Sequence[str],
    found: Sequence[_Matched],
    path: str,
    known: frozenset[str],
    findings: Findings,
) -> None:
    for i, (pattern, matched) in enumerate(zip(patterns, found, strict=True)):
        if fault := pattern_fault(pattern, known):
            remedy = 'write a type such as "route.error", a namespace such as "route.*", or "*"'
            said = fault + findings.hint(pattern_hint, pattern, known)
            findings.problem(f"{path}[{i}]", said, remedy)
        elif not matched.any:
            _point_out(pattern, known, f"{path}[{i}]", findings)


def _check_topic_filters(
    filters: Sequence[str], found: Sequence[_Matched], path: str, findings: Findings
) -> None:
    for i, topic_filter in enumerate(filters):
        if fault := check_filter(topic_filter) or _filter_fault(topic_filter):
            findings.problem(
                f"{path}[{i}]",
                f"{topic_filter!r:.80} is not a topic filter: {fault}",
                'write one such as "sensors/+/temp" or "sensors/#" (MQTT 5.0 section 4.7)',
            )
    if filters and _all_known(found) and not any(matched.bound for matched in found):
        findings.notice(
            path,
            "they filter nothing: no event type of this endpoint has a topic name or a topic filter",
        )


def _check_aggregate(
    aggregate: Aggregate, path: str, known: frozenset[str], findings: Findings
) -> None:
    for i, pattern in enumerate(aggregate.types):
        if fault := pattern_fault(pattern, known):
            remedy = 'write a type such as "service.5xx", or a namespace such as "service.*"'
            findings.problem(f"{path}[{i}]", fault, remedy)
        elif not types_of(pattern, known):
            _point_out(pattern, known, f"{path}[{i}]", findings)
    if aggregate.types and aggregate.types != Aggregate().types and not aggregate.window:
        findings.notice(path, "have no effect without a window")


def _check_conditions(
    conditions: Sequence[str], found: Sequence[_Matched], path: str, findings: Findings
) -> None:
    declared = [matched.fields for matched in found if matched.fields is not None]
    fields = frozenset().union(*declared)
    is_told = _all_known(found) and len(declared) == len(found)
    for i, text in enumerate(conditions):
        where = f"{path}[{i}]"
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
        if is_told and name not in fields:
            findings.notice(
                where,
                f"nothing meets it: no event type of this endpoint has a field {name!r}"
                f"{findings.hint(hint, name, fields)}",
            )


def _all_known(found: Sequence[_Matched]) -> bool:
    """Tell whether each of an endpoint's patterns, of which there is one, matches a known type."""
    return bool(found) and all(matched.any for matched in found)


def _point_out(pattern: str, known: frozenset[str], path: str, findings: Findings) -> None:
    """Point out what matches nothing: nobody is to wait in silence for events that never come."""
    findings.notice(
        path,
        f"no known event type matches {pattern!r}{findings.hint(pattern_hint, pattern, known)}; "
        "if the host emits it, list its type under event_types",
    )


@functools.lru_cache(maxsize=4096)
def match_types(pattern: str, known: frozenset[str]) -> _Matched:
    names = types_of(pattern, known)
    data = [TYPES.get(name) for name in names]
    fields: frozenset[str] | None = None
    if all(data):
        fields = frozenset(
            field for kind in data if kind for field in kind.__struct_encode_fields__
        )
    bound = any(name not in TYPES or name in BOUND for name in names)
    return _Matched(bool(names), bound, fields)


def _filter_fault(topic_filter: str) -> str | None:
    levels = topic_filter.count("/") + 1
    return f"it has {levels} levels, and {MAX_LEVELS} are allowed" if levels > MAX_LEVELS else None
