"""Structs to and from plain data, JSON and YAML."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from config.strategies import breakers, configs, endpoints, retries, sound_configs, tls
from fluxhook.config import codec
from fluxhook.config.load import loads
from fluxhook.config.schema import Config, Endpoint


@given(retries | breakers | tls | endpoints | configs)
def test_every_struct_round_trips(struct: msgspec.Struct) -> None:
    """Each struct of the configuration comes back from JSON and YAML as it went."""
    kind = type(struct)
    assert codec.decode(codec.encode(struct), kind) == struct
    yaml = msgspec.yaml.encode(struct, enc_hook=codec.encode_hook)
    assert msgspec.yaml.decode(yaml, type=kind, dec_hook=codec.decode_hook) == struct


@given(sound_configs())
def test_a_sound_config_round_trips_through_the_loader(config: Config) -> None:
    """A configuration, written out whole as a file, is loaded as it was, traps of YAML included."""
    plain = {"webhook": {"preset": "fluxgate", **codec.to_plain(config)}}
    assert loads(msgspec.yaml.encode(plain).decode(), environ={}).config == config


def test_secrets_are_encoded_in_the_clear() -> None:
    """The engine's processes get the secrets themselves, and mask them again."""
    endpoint = Endpoint(name="a", url="https://a.example", secrets=("s3cret",))
    assert b"s3cret" in codec.encode(endpoint)
    assert "s3cret" not in repr(codec.decode(codec.encode(endpoint), Endpoint))


def test_bad_units_are_validation_errors() -> None:
    """A unit that does not parse is msgspec's ValidationError, with its path."""
    with pytest.raises(msgspec.ValidationError, match=r"has no unit.*timeout"):
        codec.decode(b'{"name":"a","url":"b","timeout":"5"}', Endpoint)
    with pytest.raises(NotImplementedError, match="object has no plain form"):
        codec.encode_hook(object())
