"""What differs between two endpoints or configurations, as the trail of changes shows it."""

from __future__ import annotations

import json
from typing import Any

from fluxhook import Breaker, Config, Duration, Endpoint, Retry, Tls
from fluxhook.config.schema import Admin, Token
from fluxhook.config.shown import MAX_ENDPOINTS, config_difference, endpoint_difference

KEY = "-----BEGIN PRIVATE KEY-----\nhidden-key\n-----END PRIVATE KEY-----"
SECRETS = ("sk_old", "sk_new", "hidden-a", "hidden-b", "hidden-query", "hidden-token", "hidden-key")
DEFAULT = Endpoint(name="endpoint", url="https://url.invalid/")


def endpoint(name: str = "ops", **options: Any) -> Endpoint:
    return Endpoint(**{"name": name, "url": "https://a.example/in", **options})


def without_secrets(value: object) -> None:
    text = json.dumps(value)
    assert not [secret for secret in SECRETS if secret in text]


def test_only_what_differs_is_there() -> None:
    """By dotted paths, written as in the YAML file."""
    before = endpoint(timeout=Duration.parse("3s"), retry=Retry(max_attempts=5))
    after = endpoint(
        timeout=Duration.parse("5s"),
        retry=Retry(max_attempts=7),
        circuit_breaker=Breaker(failure_threshold=9),
        events=("order.*",),
    )
    old, new = endpoint_difference(before, after, DEFAULT)
    assert old == {
        "timeout": "3s",
        "retry.max_attempts": 5,
        "circuit_breaker.failure_threshold": Breaker().failure_threshold,
        "events": [],
    }
    assert new == {
        "timeout": "5s",
        "retry.max_attempts": 7,
        "circuit_breaker.failure_threshold": 9,
        "events": ["order.*"],
    }
    assert endpoint_difference(before, before, DEFAULT) == ({}, {})


def test_what_is_created_or_deleted_has_one_side() -> None:
    """Its own options, and its URL."""
    made = endpoint(concurrency=3)
    assert endpoint_difference(None, made, DEFAULT) == ({}, {"url": made.url, "concurrency": 3})
    assert endpoint_difference(made, None, DEFAULT) == ({"url": made.url, "concurrency": 3}, {})


def test_a_secret_is_never_there_but_that_it_changed() -> None:
    """Secrets, headers, keys, queries, passwords of proxies, tokens, and the defaults of the file."""
    before = endpoint(
        url="https://a.example/?hidden-query",
        secrets=("sk_old",),
        headers={"X-Key": "hidden-a"},
        proxy="http://user:hidden-a@proxy.example:3128",
        tls=Tls(key=KEY),
    )
    after = endpoint(
        url="https://a.example/in",
        secrets=("sk_new", "sk_old"),
        headers={"X-Key": "hidden-b"},
        proxy="http://user:hidden-b@proxy.example:3128",
    )
    old, new = endpoint_difference(before, after, DEFAULT)
    assert old.keys() == new.keys() == {"url", "secrets", "headers", "proxy", "tls.key"}
    assert (old["secrets"], new["secrets"]) == (["***"], ["***", "***"])
    assert old["headers"] == new["headers"] == {"X-Key": "***"}
    assert (old["tls.key"], new["tls.key"]) == ("***", None)
    without_secrets((old, new))

    def config(secret: str, header: str, token: str) -> Config:
        return Config(
            endpoints=(before,),
            admin=Admin(tokens=(Token(token=token, name="ops"),)),
            defaults={"secret": secret, "headers": {"X": header}, "timeout": "3s"},
        )

    old, new = config_difference(
        config("sk_old", "hidden-a", "hidden-token-0123456789"),
        config("sk_new", "hidden-b", "hidden-token-9876543210"),
        DEFAULT,
    )
    assert new["defaults.secret"] == "***"
    assert new["defaults.headers"] == {"X": "***"}
    assert [token["name"] for token in new["admin.tokens"]] == ["ops"]
    without_secrets((old, new))


def test_a_configuration_names_the_endpoints_that_came_went_and_changed() -> None:
    """And the options that differ; what is as it was is not there."""
    kept, changed, gone, new_one = (endpoint(name) for name in ("kept", "moved", "gone", "new"))
    moved = endpoint("moved", concurrency=2)
    old, new = config_difference(
        Config(endpoints=(kept, changed, gone)),
        Config(endpoints=(kept, moved, new_one), retention=Duration.parse("48h")),
        DEFAULT,
    )
    assert old == {
        "retention": "24h",
        "endpoints": {"moved": {"concurrency": DEFAULT.concurrency}, "gone": {"url": gone.url}},
    }
    assert new == {
        "retention": "48h",
        "endpoints": {"moved": {"concurrency": 2}, "new": {"url": new_one.url}},
    }
    assert config_difference(Config(endpoints=(kept,)), Config(endpoints=(kept,)), DEFAULT) == (
        {},
        {},
    )


def test_an_entry_is_of_a_bounded_size() -> None:
    """However many endpoints, entries and characters a change has."""
    many = tuple(endpoint(f"e{n}") for n in range(1000))
    _, new = config_difference(Config(), Config(endpoints=many), DEFAULT)
    assert len(new["endpoints"]) == MAX_ENDPOINTS + 1
    assert new["endpoints"]["..."] == "and 950 more"
    large = endpoint(
        events=tuple(f"type.n{n}" for n in range(5000)),
        headers={f"X-{n}": "v" for n in range(5000)},
        tls=Tls(ca="-----BEGIN CERTIFICATE-----" + "A" * 100_000),
    )
    _, new = endpoint_difference(None, large, DEFAULT)
    assert len(json.dumps(new)) < 10_000
    assert new["events"][-1] == "and 4,936 more"
