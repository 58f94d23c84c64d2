"""Configurations built in Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from config.strategies import configs, sound_configs
from fluxhook.config.check import validate
from fluxhook.config.schema import Breaker, Config, Endpoint, Retry, Tls
from fluxhook.config.units import Duration, Size
from fluxhook.errors import ConfigError

SOUND = Endpoint(name="a", url="https://a.example/", secrets=("s",))
SLOPPY = replace(Retry(), schedule=("1s",))


def engine(**options: Any) -> Config:
    return Config(**options)


def endpoint(**options: Any) -> Config:
    return Config(
        endpoints=(
            Endpoint(**{"name": "a", "url": "https://a.example/", "secrets": ("s",), **options}),
        )
    )


def test_a_sound_configuration() -> None:
    """A sound configuration passes without a remark; its notices are returned, not printed."""
    assert validate(Config(endpoints=(SOUND,))) == []
    assert validate(Config()) == []
    (notice,) = validate(endpoint(events=("route.eror",)))
    assert notice.path == "endpoints[0].events[0]"


@pytest.mark.parametrize(
    ("config", "path", "piece"),
    [
        (Config(queue_size=0), "queue_size", "0 is out of range"),
        (Config(workers=8, ring_bytes=Size(2**24)), "ring_bytes", "raise ring_bytes to 32MiB"),
        (Config(workers=0), "workers", "0 is out of range"),
        (Config(endpoints=(SOUND, SOUND)), "endpoints[1].name", "also the name of endpoints[0]"),
        (Config(endpoints=(SOUND,) * 3, max_endpoints=2), "endpoints", "more than max_endpoints"),
        (endpoint(url="http://127.0.0.1"), "endpoints[0].url", '["127.0.0.0/8"]'),
        (endpoint(timeout=Duration(0)), "endpoints[0].timeout", "0s is out of range"),
        (endpoint(retry=Retry(multiplier=float("nan"))), "endpoints[0].retry.multiplier", "nan"),
        (endpoint(circuit_breaker=Breaker(failure_threshold=0)),
         "endpoints[0].circuit_breaker.failure_threshold", "0 is out of range"),
        (endpoint(tls=Tls(key="/etc/hostname")), "endpoints[0].tls.key", "without a cert"),
        (endpoint(secrets=()), "endpoints[0].signature", "no secret to sign with"),
        (endpoint(headers={"Host": "b"}), "endpoints[0].headers.Host", "from the URL"),
        (endpoint(name=" a"), "endpoints[0].name", "outer spaces"),
        (endpoint(name="a" * 129), "endpoints[0].name", "too long"),
    ],
)  # fmt: skip
def test_the_rules_are_the_files(config: Config, path: str, piece: str) -> None:
    """A configuration built in Python obeys the rules of files; its paths have no `webhook`."""
    with pytest.raises(ConfigError) as caught:
        validate(config)
    assert any(p.path == path and piece in str(p) for p in caught.value.problems)


@pytest.mark.parametrize(
    ("config", "path", "piece"),
    [
        (engine(queue_size="5"), "queue_size", "'5' is not a whole number"),
        (engine(workers=True), "workers", "True is not a whole number"),
        (engine(ring_bytes="64MiB"), "ring_bytes", "write Size("),
        (engine(endpoints=[SOUND]), "endpoints", "is a list; write a tuple"),
        (engine(endpoints=({"name": "a"},)), "endpoints[0]", "is a dict"),
        (engine(drop_policy="latest"), "drop_policy", "'latest'"),
        (endpoint(timeout="3s"), "endpoints[0].timeout", "write Duration.parse('3s')"),
        (endpoint(timeout=3), "endpoints[0].timeout", "3 is not a duration"),
        (endpoint(events=["a"]), "endpoints[0].events", "write a tuple"),
        (endpoint(events="a"), "endpoints[0].events", "is not a list"),
        (endpoint(secrets="s3cret"), "endpoints[0].secrets", "the value is not a list"),
        (endpoint(secrets=["s3cret"]), "endpoints[0].secrets", "is a list; write a tuple"),
        (endpoint(secrets=(b"s3cret",)), "endpoints[0].secrets[0]", "the value is not a text"),
        (endpoint(headers={"A": b"s3cret"}), "endpoints[0].headers.A", "the value is not a text"),
        (endpoint(headers={1: "s3cret"}), "endpoints[0].headers", "not a mapping of texts"),
        (endpoint(headers=None), "endpoints[0].headers", "the value is not a mapping"),
        (endpoint(proxy=b"s3cret@"), "endpoints[0].proxy", "the value is not a text"),
        (endpoint(retry=None), "endpoints[0].retry", "is a NoneType"),
        (endpoint(retry=SLOPPY), "endpoints[0].retry.schedule", "write a tuple"),
        (endpoint(name=None), "endpoints[0].name", "None is not a text"),
    ],
)  # fmt: skip
def test_wrong_types(config: Config, path: str, piece: str) -> None:
    """msgspec checks no types at construction, so that is done here, without showing a secret."""
    with pytest.raises(ConfigError) as caught:
        validate(config)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert piece in str(problem)
    assert "s3cret" not in repr(caught.value)


def test_numbers_and_sizes() -> None:
    """An int will do where a number or a size is wanted, and a size where an int is."""
    assert validate(endpoint(max_payload=100)) == []
    assert validate(endpoint(retry=Retry(multiplier=2))) == []
    assert validate(Config(queue_size=Size(5))) == []


@given(configs)
def test_any_configuration_is_judged(config: Config) -> None:
    """Whatever a host builds is sound or refused, and no refusal shows a secret."""
    try:
        validate(config)
    except ConfigError as error:
        assert error.problems  # noqa: PT017


@given(sound_configs())
def test_sound_configurations_pass(config: Config) -> None:
    """A configuration that passes as a file passes as it is."""
    validate(config)
