"""A text that cannot be encoded is refused where it is written, and not by the process that gets it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fluxhook import Config, ConfigError, Endpoint, Tls
from fluxhook.config.check import validate
from fluxhook.config.load import loads

#: as Python has the bytes a, FF, b from the environment
TORN = os.fsdecode(b"a\xffb")
ENDPOINT = Endpoint(name="a", url="https://a.example/", secrets=("s3cret-s3cret",))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"secrets": (TORN,)}, "secrets"),
        ({"tls": Tls(ca=f"/tmp/{TORN}")}, "tls"),
        ({"where": (f"a == '{TORN}'",)}, "where"),
        ({"order_key": f"$.{TORN}", "ordered": True}, "order_key"),
    ],
)
def test_of_an_endpoint(options: dict[str, Any], path: str) -> None:
    fields = {name: getattr(ENDPOINT, name) for name in ENDPOINT.__struct_fields__} | options
    with pytest.raises(ConfigError) as raised:
        validate(Config(endpoints=(Endpoint(**fields),)))
    found = {p.path: p.message for p in raised.value.problems if "UTF-8" in p.message}
    assert found == {
        f"endpoints[0].{path}": "holds bytes that are not UTF-8, or half of a surrogate pair"
    }


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{defaults: {secret: '${T}'}}", "webhook.defaults"),
        (
            "{endpoints: [{name: a, url: 'https://a.example/', secret: '${T}'}]}",
            "webhook.endpoints[0].secret",
        ),
        ("{admin: {tokens: [{token: '${T}-0123456789abcdef'}]}}", "webhook.admin"),
    ],
)
def test_of_the_environment(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loads(f"webhook: {text}", environ={"T": TORN})
    assert path in [p.path for p in raised.value.problems if "UTF-8" in p.message]
    assert TORN not in str(raised.value)
