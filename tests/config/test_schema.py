"""The structs themselves."""

from __future__ import annotations

import pickle

import msgspec
import pytest

from fluxhook.config.schema import Config, Endpoint, Retry
from fluxhook.config.secret import Secret
from fluxhook.config.units import Duration

ENDPOINT = Endpoint(
    name="a",
    url="https://a.example",
    secrets=("s3cret",),
    headers={"Authorization": "Bearer s3cret"},
    proxy="http://u:s3cret@p.example",
)


def test_no_repr_shows_a_secret() -> None:
    """No repr, of a struct or of a value, shows secrets, header values or a proxy's password."""
    for value in (
        ENDPOINT,
        Config(endpoints=(ENDPOINT,)),
        ENDPOINT.secrets,
        ENDPOINT.headers,
        ENDPOINT.proxy,
        msgspec.structs.replace(ENDPOINT, name="b"),
        list(ENDPOINT.__rich_repr__()),
    ):
        assert "s3cret" not in repr(value)
        assert "***" in repr(value)


def test_secrets_stay_texts() -> None:
    """A secret is a str with its own text in everything but its repr."""
    assert ENDPOINT.secrets[0].encode() == b"s3cret"
    assert f"{ENDPOINT.headers['Authorization']}" == "Bearer s3cret"
    secret = pickle.loads(pickle.dumps(Secret("x")))
    assert (secret, repr(secret), hash(secret)) == ("x", "Secret('***')", hash("x"))


def test_structs_are_frozen() -> None:
    """No part of a configuration changes once it is built."""
    with pytest.raises(AttributeError):
        setattr(ENDPOINT, "name", "b")  # noqa: B010


def test_defaults_are_fluxgates() -> None:
    """The schema's defaults are FluxGate's: 3 s, and retries at 15s, 2m, 10m and 1h."""
    endpoint = Endpoint(name="a", url="https://a.example")
    assert endpoint.timeout == Duration.parse("3s")
    assert list(map(str, endpoint.retry.schedule or ())) == ["15s", "2m", "10m", "1h"]
    assert endpoint.retry.max_attempts is None
    assert Retry().schedule is None
