"""An endpoint is built in one place, where what is wrong with it is found, with the field's name."""

from __future__ import annotations

import base64
import sys
from typing import Any

import pytest

from fluxhook import Config, ConfigError, Endpoint, Tls
from fluxhook.errors import Problem
from fluxhook.transport.build import build, problems

#: 64 bytes whose halves do not belong together
TORN = "whsk_" + base64.b64encode(bytes(range(64))).decode()
SEED = "whsk_" + base64.b64encode(bytes(32)).decode()


def endpoint(**options: Any) -> Endpoint:
    return Endpoint(**{"name": "a", "url": "https://a.example/", "secrets": ("s",)} | options)


def faults(**options: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        build(endpoint(**options))
    return caught.value.problems


def test_what_is_sound_is_built() -> None:
    """Header lines, a signature, a compressor, and how the endpoint is reached."""
    built = build(endpoint(compression="gzip", headers={"X-A": "1"}))
    assert b"X-A: 1" in built.headers
    (line,) = built.sign("evt_1", 1, b"{}")
    assert line.startswith(b"X-FluxGate-Signature: t=1,v1=")
    assert built.compress is not None
    assert built.compress(b"x" * 4096)
    assert built.target.url == b"https://a.example/"
    assert built.tls is None
    assert build(endpoint(signature="standard", secrets=(SEED,))).sign("evt_1", 1, b"{}")


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"signature": "standard", "secrets": (TORN,)}, "secrets[0]", "halves"),
        ({"secrets": ()}, "secrets", "nothing to sign with"),
        ({"tls": Tls(ca="/none/such")}, "tls.ca", "'/none/such' does not exist"),
        ({"tls": Tls(ca="/dev/zero")}, "tls.ca", "not a regular file"),
        ({"tls": Tls(ca="a\0b")}, "tls.ca", ""),
        ({"proxy": "http://\xe9.example"}, "url", "cannot be used"),
        ({"url": "https://\ud800.example/"}, "url", "cannot be used"),
        ({"headers": {"X-A": "\ud800"}}, "headers", "cannot be used"),
    ],
)
def test_each_fault_has_its_field(options: dict[str, Any], path: str, words: str) -> None:
    """Whatever a library raises is a problem like any other: no caller sees another error."""
    (problem,) = faults(**options)
    assert problem.path == path
    assert words in problem.message


@pytest.mark.parametrize(
    ("package", "options", "path", "remedy"),
    [
        (
            "cryptography.hazmat.primitives.asymmetric.ed25519",
            {"signature": "standard", "secrets": (SEED,)},
            "secrets[0]",
            "fluxhook[ed25519]",
        ),
        ("zstandard", {"compression": "zstd"}, "compression", "fluxhook[zstd]"),
    ],
)
def test_a_package_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, package: str, options: dict[str, Any], path: str, remedy: str
) -> None:
    """The problem names what to install."""
    build(endpoint(**options))
    monkeypatch.setitem(sys.modules, package, None)
    (problem,) = faults(**options)
    assert problem.path == path
    assert remedy in problem.remedy


def test_all_faults_at_once() -> None:
    found = faults(signature="standard", secrets=(TORN,), tls=Tls(ca="/none/such"))
    assert [problem.path for problem in found] == ["secrets[0]", "tls.ca"]


def test_the_problems_of_a_configuration_name_the_endpoint() -> None:
    config = Config(endpoints=(endpoint(name="good"), endpoint(name="odd", secrets=())))
    (problem,) = problems(config, "webhook.")
    assert problem.path == "webhook.endpoints[1].secrets"
    assert "'odd'" in problem.message
    assert problems(Config(endpoints=(endpoint(),))) == []
