"""Figures and words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fluxhook.policy.outcome import CAUSES, NOT_ATTEMPTED

__all__ = [
    "HALTED",
    "HELD_BACK",
    "action_sentence",
    "cause_sentence",
    "causes",
    "change_sentence",
    "changes",
    "count",
    "milliseconds",
    "per_second",
    "percent",
    "way",
]


def count(n: int | None) -> str:
    """
    >>> count(1234567)
    '1,234,567'
    """
    return "-" if n is None else f"{n:,}"


def per_second(rate: float | None) -> str:
    """
    >>> per_second(0.0), per_second(0.25), per_second(12.34), per_second(5120.4)
    ('0', '0.25', '12.3', '5,120')
    """
    if rate is None:
        return "-"
    if rate < 10:
        return f"{rate:.2f}".rstrip("0").rstrip(".")
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def milliseconds(ms: float | None) -> str:
    """
    >>> milliseconds(0.5), milliseconds(12.34), milliseconds(1234.0), milliseconds(75_000)
    ('0.5 ms', '12 ms', '1.23 s', '75 s')
    """
    if ms is None:
        return "-"
    if 0 < ms < 0.01:
        return "<0.01 ms"
    if ms < 10:
        return f"{ms:.2f}".rstrip("0").rstrip(".") + " ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 10_000 else f"{ms / 1000:.0f} s"


def percent(share: float | None) -> str:
    """Return a percentage: never 100 % where something failed, nor 0 % where something succeeded.

    >>> percent(1.0), percent(0.99999), percent(0.5), percent(None)
    ('100 %', '99.9 %', '50 %', '-')
    """
    if share is None:
        return "-"
    tenths = share * 1000
    shown = min(tenths, 999) if share < 1 else tenths
    shown = max(shown, 1) if share > 0 else shown
    return f"{int(shown) / 10:.1f}".removesuffix(".0") + " %"


#: reasons to wait that are no failures
HELD_BACK: Final = frozenset(
    ("breaker_open", "misconfigured", "paused", "rate_limit", "over_share", "other_worker")
)
#: states of endpoints that nothing is sent to, so that nothing of theirs is ahead
HALTED: Final = frozenset(("misconfigured", "paused", "disabled"))
_SENTENCES: Final = {name: cause.user for name, cause in CAUSES.items()} | NOT_ATTEMPTED


_ACTIONS: Final = {"purged": "Given up and erased"}
_CHANGES: Final = {
    "webhook.create": "Endpoint created",
    "webhook.update": "Endpoint changed",
    "webhook.delete": "Endpoint deleted",
    "webhook.pause": "Endpoint paused",
    "webhook.resume": "Endpoint resumed",
    "webhook.rotate": "Secret rotated",
    "webhook.secret-expired": "Former secret expired",
    "webhook.test": "Test event sent",
    "webhook.close-breaker": "Breaker closed",
    "webhook.retry": "Deliveries retried",
    "webhook.disable": "Endpoint disabled",
    "webhook.enable": "Endpoint enabled",
    "delivery.retry": "Delivery retried",
    "delivery.resend": "Delivery resent",
    "dead-letters.replay": "Dead letters replayed",
    "dead-letters.purge": "Dead letters purged",
    "config.start": "Started with a changed configuration",
    "config.reload": "Configuration reloaded",
}
_WAYS: Final = {
    "api": "by the API",
    "cli": "on the command line",
    "dashboard": "in the dashboard",
    "embedding": "by the program that embeds the engine",
    "reload": "the configuration file",
    "engine": "by the engine itself",
}


def cause_sentence(cause: str) -> str:
    """Return what a cause's word means; itself where it is not known."""
    return _SENTENCES.get(cause, cause)


def causes(by_cause: Mapping[str, int]) -> str:
    """Return how many died of each cause, the commonest first.

    >>> causes({"timeout": 3, "payload_too_large": 2201})
    'payload_too_large 2,201, timeout 3'
    """
    ordered = sorted(by_cause.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{cause} {n:,}" for cause, n in ordered)


def action_sentence(action: str) -> str:
    """Return what an action of the audit trail means; itself where it is not known."""
    return _ACTIONS.get(action, action)


def changes() -> tuple[tuple[str, str], ...]:
    """Return the actions of the trail of changes, each with what it means."""
    return tuple(_CHANGES.items())


def change_sentence(action: str) -> str:
    """Return what an action of the trail of changes means; itself where it is not known."""
    return _CHANGES.get(action, action)


def way(via: str) -> str:
    """Return how a change was asked for."""
    return _WAYS.get(via, via)
