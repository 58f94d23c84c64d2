"""An endpoint's options as a list, those that say something first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fluxhook.admin.dashboard.dom import tag, text, time
from fluxhook.admin.models import Webhook
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
    source = "the configuration file" if webhook.source == "file" else "the API"
    yield "Id", webhook.id
    yield "Comes from", source
    yield "Events", ", ".join(webhook.events) or "all but the engine's own"
    if webhook.topic_filters:
        yield "Topic filters", ", ".join(webhook.topic_filters)
    if webhook.where:
        yield "Conditions", "; ".join(webhook.where)
    if webhook.sample != 1.0:
        yield "Sample", f"{webhook.sample:.4g} of the events"
    if webhook.threshold is not None:
        yield "Threshold", str(webhook.threshold)
    n = len(webhook.secrets)
    yield "Signature", f"{webhook.signature}, {n} secret{'s' * (n != 1)}"
    yield "Envelope", webhook.envelope
    yield "Timeout", f"{webhook.timeout}, {webhook.connect_timeout} to connect"
    retry = webhook.retry
    if retry.schedule is not None:
        yield "Retries after", ", ".join(map(str, retry.schedule))
    else:
        yield "Retries after", f"{retry.initial_interval} to {retry.max_interval}"
    if retry.max_attempts is not None:
        yield "Attempts at most", str(retry.max_attempts)
    breaker = webhook.circuit_breaker
    yield (
        "Breaker",
        f"opens after {breaker.failure_threshold} failures, probes after {breaker.reset_timeout}",
    )
    yield "Requests at a time", str(webhook.concurrency)
    if webhook.rate_limit is not None:
        yield "Rate limit", str(webhook.rate_limit)
    if webhook.max_payload is not None:
        yield "Payload at most", str(webhook.max_payload)
    if webhook.ttl is not None:
        yield "Time to live", str(webhook.ttl)
    if webhook.ordered:
        key = webhook.order_key
        yield "Order", f"by {key}" if key else "all events"
    if types := gathered(webhook.aggregate, webhook.events):
        yield "Aggregation", f"{', '.join(types)} within {webhook.aggregate.window}"
    if webhook.headers:
        yield "Headers", ", ".join(webhook.headers)
    if webhook.disable_on_gone:
        yield "Disabled", "when it answers 410"
    if webhook.disable_after is not None:
        yield "Disabled after", f"{webhook.disable_after} of failure"
    yield "Record", "every delivery" if webhook.record == "all" else "failures and test events"
