"""What an operator is told about a file that can be used."""

from __future__ import annotations

import pytest

from fluxhook.config.load import loads

EP = "webhook.endpoints[0]"


@pytest.mark.parametrize(
    ("option", "path", "piece"),
    [
        ("events: [route.eror]", "events[0]", "'route.eror' (did you mean route.error"),
        ("events: [route]", "events[0]", "matches 'route' (did you mean route.*?)"),
        ("events: ['routing.*']", "events[0]", "no known event type matches 'routing.*'"),
        (
            "aggregate: {window: 1s, types: [service.5x]}",
            "aggregate.types[0]",
            "mean service.5xx",
        ),
        ("aggregate: {types: ['*']}", "aggregate.types", "have no effect without a window"),
        ("events: ['rout.*']", "events[0]", "'rout.*' (did you mean route.*?)"),
        ("events: [zzz]", "events[0]", "matches 'zzz'; if the host emits it, list its type"),
        ("events: [message.publish]", "events[0]", "did you mean message.published"),
        ("events: [order.create]", "events[0]", "did you mean order.created"),
        ("topic_filters: ['a/#'], events: [route.error]", "topic_filters", "they filter nothing"),
        ("topic_filters: ['a/#'], events: ['route.*']", "topic_filters", "they filter nothing"),
        ("topic_filters: ['a'], events: [auth.success]", "topic_filters", "they filter nothing"),
        (
            "where: ['statuscode > 1'], events: [route.error]",
            "where[0]",
            "did you mean status_code",
        ),
        ("secret: x, signature: none", "secret", "not used: signature is none"),
        ("on_head_failure: park", "on_head_failure", "no effect without ordered"),
        ("retry: {schedule: [1s], multiplier: 3, jitter: 0.1}", "retry", "schedule: multiplier"),
    ],
)
def test_one_notice(option: str, path: str, piece: str) -> None:
    """Something that is probably a slip, but can be meant, is one notice with its path."""
    text = f"""
    webhook:
      enabled: true
      event_types: [order.created]
      endpoints: [{{name: a, url: https://a.example/, {option}}}]
    """
    (notice,) = loads(text).notices
    assert notice.path == f"{EP}.{path}"
    assert piece in notice.message


@pytest.mark.parametrize(
    "option",
    [
        "events: []",
        "events: ['*', 'route.*', 'rate.limit.*', order.created, 'order.*', message.published]",
        "topic_filters: ['a/#']",
        "topic_filters: ['a/#'], events: ['*']",
        "topic_filters: ['a/#'], events: [route.error, message.published]",
        "topic_filters: ['a/#'], events: [order.created]",
        "where: ['x > 1']",
        "where: ['x > 1', 'status_code > 1'], events: ['route.*']",
        "where: ['status_code > 1'], events: [route.error], sample: 0.1, threshold: 100/s",
        "ordered: true, order_key: client_id, on_head_failure: park",
    ],
)
def test_no_notice(option: str) -> None:
    """Something that makes sense is passed without a remark."""
    text = f"""
    webhook:
      enabled: true
      event_types: [order.created]
      endpoints: [{{name: a, url: https://a.example/, {option}}}]
    """
    assert loads(text).notices == []


def test_networks_that_allow_everything() -> None:
    """A network that opens every private address is allowed, and noticed."""
    (notice,) = loads("webhook: {enabled: true, allow_networks: [0.0.0.0/0]}").notices
    assert notice.path == "webhook.allow_networks[0]"
    assert "every private and special IPv4 address" in notice.message


def test_a_notice_of_the_defaults_is_one() -> None:
    """A notice about the defaults stands there, once, however many endpoints share them."""
    text = """
    webhook:
      enabled: true
      defaults: {events: [route.eror]}
      endpoints:
      - {name: a, url: https://a.example/}
      - {name: b, url: https://b.example/}
    """
    assert [n.path for n in loads(text).notices] == ["webhook.defaults.events[0]"]
