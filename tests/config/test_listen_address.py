"""Where the admin API listens, and who can get there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.listen_address import Listen, parse_listen


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8090", "127.0.0.1", 8090, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("localhost:0", "localhost", 0, True),
        ("LocalHost:80", "LocalHost", 80, True),
        ("[::1]:65535", "::1", 65535, True),
        (":8090", "0.0.0.0", 8090, False),
        ("0.0.0.0:8090", "0.0.0.0", 8090, False),
        ("[::]:8090", "::", 8090, False),
        ("10.0.0.1:8090", "10.0.0.1", 8090, False),
        ("gateway.internal:8090", "gateway.internal", 8090, False),
        ("localhost.example.com:8090", "localhost.example.com", 8090, False),
        ("2130706433:80", "2130706433", 80, False),
    ],
)
def test_what_is_read(text: str, host: str, port: int, loopback: bool) -> None:
    """Only what surely is loopback is called so: a name that merely resolves there is not."""
    listen = parse_listen(text)
    assert (listen.host, listen.port, listen.loopback) == (host, port, loopback)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8090",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:8090 ",
        " 127.0.0.1:8090",
        "127.0.0.1:8090\n",
        "::1:8090",
        "[::1]",
        "[]:8090",
        "[127.0.0.1]:8090",
        "[localhost]:8090",
        "[::1]]:8090",
        "http://127.0.0.1:8090",
        "-host:8090",
        "a b:8090",
        "h\u00f6st:8090",
        "127.0.0.1:\u0661\u0662",
        "unix:/run/x.sock",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """ValueError, and nothing else, whatever is written."""
    with pytest.raises(ValueError, match=r"is not host:port|neither a host|not an IPv6"):
        parse_listen(text)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_address_comes_back(address: object, port: int) -> None:
    """`authority` is what stands in a URL; read again it is the same place."""
    listen = Listen(str(address), port)
    assert parse_listen(listen.authority) == listen


@given(st.text(max_size=30))
def test_any_text_is_judged(text: str) -> None:
    """Read or refused, never anything else."""
    try:
        parse_listen(text)
    except ValueError:
        return
    assert ":" in text
