"""An endpoint's options as a list, those that say something first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from fluxhook.admin.dashboard.widgets.dom import tag, text, time
from fluxhook.admin.models import Webhook
from fluxhook.config.option import options, value_at, written
from fluxhook.config.schema import Endpoint
from fluxhook.policy.aggregate import gathered

__all__ = ["OF_FILE", "show_options"]

OF_FILE: Final = (
    "It stands in the configuration file: change it there, and reload it (SIGHUP). Here it can be "
    "paused, resumed and tested."
)


def show_options(webhook: Webhook) -> None:
    if webhook.source == "file":
        text("p", OF_FILE, "help")
    for notice in webhook.notices:
        text("p", notice, "help")
    with tag("dl", "pairs"):
        for name, value in _options(webhook):
            text("dt", name)
            text("dd", value)
        if webhook.secrets_expire_at is not None:
            text("dt", "Former secrets sign until")
            with tag("dd"):
                time(webhook.secrets_expire_at, dated=True)
        if webhook.created_at is not None:
            text("dt", "Created")
            with tag("dd"):
                time(webhook.created_at)


def _options(webhook: Webhook) -> Iterator[tuple[str, str]]:
    """Yield the labels and values of what has one: sentences, and the options that are not at their
    default."""
    yield "Id", webhook.id
    yield "Comes from", "the configuration file" if webhook.source == "file" else "the API"
    for option in options(Endpoint):
        value = value_at(webhook, option.path)
        if option.path in _SENTENCES:
            title, sentence = _SENTENCES[option.path]
            if said := sentence(webhook):
                yield title, said
        elif option.path not in _TOLD and value != option.default:
            yield option.title, "yes" if value is True else written(value)


def _signature(webhook: Webhook) -> str:
    n = len(webhook.secrets)
    return f"{webhook.signature}, {n} secret{'s' * (n != 1)}"


def _retries(webhook: Webhook) -> str:
    retry = webhook.retry
    if retry.schedule is not None:
        return written(retry.schedule)
    return f"{retry.initial_interval} to {retry.max_interval}"


def _breaker(webhook: Webhook) -> str:
    breaker = webhook.circuit_breaker
    return (
        f"opens after {breaker.failure_threshold:,} failures, probes after {breaker.reset_timeout}"
    )


def _order(webhook: Webhook) -> str:
    if not webhook.ordered:
        return ""
    return f"by {webhook.order_key}" if webhook.order_key else "all events"


def _aggregation(webhook: Webhook) -> str:
    types = gathered(webhook.aggregate, webhook.events)
    return f"{', '.join(types)} within {webhook.aggregate.window}" if types else ""


#: what is always said, or of several options together, at the place of the first; "" says nothing
_SENTENCES: Final[dict[str, tuple[str, Callable[[Webhook], str]]]] = {
    "events": ("Events", lambda one: written(one.events) or "all but the engine's own"),
    "where": ("Conditions", lambda one: "; ".join(one.where)),
    "sample": ("Sample", lambda one: f"{one.sample:.4g} of the events" * (one.sample != 1)),
    "headers": ("Headers", lambda one: ", ".join(one.headers)),
    "signature": ("Signature", _signature),
    "envelope": ("Envelope", lambda one: one.envelope),
    "timeout": ("Timeout", lambda one: f"{one.timeout}, {one.connect_timeout} to connect"),
    "retry.schedule": ("Retries after", _retries),
    "circuit_breaker.failure_threshold": ("Breaker", _breaker),
    "concurrency": ("Requests at a time", lambda one: str(one.concurrency)),
    "aggregate.window": ("Aggregation", _aggregation),
    "ordered": ("Order", _order),
    "record": (
        "Record",
        lambda one: "every delivery" if one.record == "all" else "failures and test events",
    ),
}
#: what these sentences say too, and what the page says elsewhere
_TOLD: Final = frozenset(
    (
        "name",
        "url",
        "secrets",
        "connect_timeout",
        "retry.initial_interval",
        "retry.max_interval",
        "circuit_breaker.reset_timeout",
        "aggregate.types",
        "order_key",
        "paused",
    )
)
