"""Whose failure it is behind a proxy."""

from __future__ import annotations

import pytest

from fluxhook.policy.outcome import TransportCause
from fluxhook.policy.proxy import ProxyUse, is_proxys_answer, is_proxys_failure, proxy_use


@pytest.mark.parametrize(
    ("url", "proxy", "use"),
    [
        ("https://a.test/", None, None),
        ("https://a.test/", "http://p:3128", "tunnel"),
        ("HTTPS://a.test/", "https://p:3128", "tunnel"),
        ("http://a.test/", "HTTP://p:3128", "forward"),
        ("http://a.test/", "socks5h://p:1080", "socks"),
        ("https://a.test/", "socks5://p:1080", "socks"),
    ],
)
def test_how_requests_pass_through_a_proxy(url: str, proxy: str | None, use: str | None) -> None:
    """The two schemes decide."""
    assert proxy_use(url, proxy) == use


@pytest.mark.parametrize("use", ["forward", "tunnel", "socks"])
def test_without_a_connection_it_is_the_proxy(use: ProxyUse) -> None:
    """For every connection is one to the proxy; but a name that does not resolve is the receiver's."""

    def blamed(cause: TransportCause) -> bool:
        return is_proxys_failure(use, cause, connected_us=0, requested=False, connect_status=0)

    assert blamed("refused")
    assert blamed("connect_timeout")
    assert blamed("proxy")
    assert not blamed("dns")
    assert not blamed("egress_denied")


@pytest.mark.parametrize("use", ["forward", "tunnel", "socks"])
@pytest.mark.parametrize("cause", ["reset", "timeout", "protocol", "tls"])
def test_once_the_request_was_sent_it_is_the_receiver(use: ProxyUse, cause: TransportCause) -> None:
    """Over a kept connection too, of which libcurl reports no time of connecting."""
    assert not is_proxys_failure(use, cause, connected_us=0, requested=True, connect_status=0)


@pytest.mark.parametrize(
    ("use", "cause", "connect_status", "blamed"),
    [
        ("tunnel", "refused", 403, True),
        ("tunnel", "reset", 0, True),
        ("tunnel", "connect_timeout", 0, False),
        ("tunnel", "tls", 0, True),
        ("tunnel", "tls", 200, False),
        ("forward", "tls", 0, True),
        ("socks", "tls", 0, False),
    ],
)
def test_between_connection_and_request(
    use: ProxyUse, cause: TransportCause, connect_status: int, blamed: bool
) -> None:
    """The proxy's until its tunnel stands. A proxy that says nothing may wait for the receiver."""
    assert blamed == is_proxys_failure(
        use, cause, connected_us=1, requested=False, connect_status=connect_status
    )


@pytest.mark.parametrize(
    ("status", "fields", "own"),
    [
        (407, {}, True),
        (511, {"via": "1.1 a"}, True),
        (502, {}, True),
        (504, {}, True),
        (504, {"via": "1.1 a"}, False),
        (503, {"x-squid-error": "ERR_CONNECT_FAIL 111"}, True),
        (403, {"proxy-status": "a; error=http_request_denied"}, True),
        (403, {"proxy-status": "origin-side; error=x, ours; received-status=403"}, False),
        (403, {}, False),
        (410, {}, False),
        (503, {}, False),
    ],
)
def test_a_forwarding_proxys_own_answer(status: int, fields: dict[str, str], own: bool) -> None:
    assert is_proxys_answer(status, fields) == own


@pytest.mark.parametrize(
    ("cause", "connected_us", "requested", "connect_status", "its"),
    [
        ("proxy", 1, True, 200, True),  # libcurl says so itself
        ("internal", 0, False, 0, False),
        ("egress_denied", 0, False, 0, False),
        ("dns", 0, False, 0, False),
        ("reset", 1, False, 299, False),  # the tunnel stood
        ("reset", 1, False, 300, True),
        ("reset", 1, False, 199, True),
        ("connect_timeout", 1, False, 0, False),
    ],
)
def test_whose_failure_a_cause_is(
    cause: TransportCause, connected_us: int, requested: bool, connect_status: int, its: bool
) -> None:
    """In a tunnel: by what libcurl says, and by what the proxy answered to CONNECT (2xx, it stands)."""
    assert (
        is_proxys_failure(
            "tunnel",
            cause,
            connected_us=connected_us,
            requested=requested,
            connect_status=connect_status,
        )
        is its
    )


def test_the_name_of_a_proxy_is_no_parameter() -> None:
    """RFC 9209: a member is the proxy's name, and then its parameters."""
    assert not is_proxys_answer(500, {"proxy-status": "error=1"})
    assert is_proxys_answer(500, {"proxy-status": "a; error=dns_timeout"})
