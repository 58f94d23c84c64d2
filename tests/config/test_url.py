"""URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.url import PROXY_SCHEMES, judge_url, shown_url, url_host


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/webhook",
        "HTTP://Example.COM:8080/a%20b?c=d&e[]=f",
        "http://127.0.0.1:9000/",
        "https://[2606:4700::1111]:443/x",
        "https://xn--bcher-kva.example/",
        "https://_svc.example.com./",
        "https://example.com?x",
        "https://example.com/@user",
    ],
)
def test_sound_urls(url: str) -> None:
    """An http or https URL with a host, and a port if need be, is a target."""
    assert judge_url(url) is None


@pytest.mark.parametrize(
    ("url", "piece"),
    [
        ("", "does not begin with https:// or http://"),
        ("example.com", "does not begin with"),
        ("ftp://example.com", "does not begin with"),
        ("file:///etc/passwd", "does not begin with"),
        ("https:/example.com", "does not begin with"),
        ("https://", "has no host"),
        ("https:///path", "has no host"),
        ("https://:443/", "has no host"),
        ("https://user@example.com", "user name or password"),
        ("https://user:pw@example.com", "user name or password"),
        ("https://@example.com", "user name or password"),
        ("https://example.com/#x", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com/a b", "no URL may hold"),
        ("https://example.com/a\nb", "no URL may hold"),
        ("https://example.com\\@evil.example", "no URL may hold"),
        ("https://exämple.com/", "no URL may hold"),
        ("https://example.com/%zz", "no URL may hold"),
        ("https://example.com/${X}", "no URL may hold"),
        ("https://127%2e0.0.1/", "'%' in its host"),
        ("https://[fe80::1%25eth0]/", "'%' in its host"),
        ("https://example.com:0/", "bad port"),
        ("https://example.com:65536/", "bad port"),
        ("https://example.com:/", "bad port"),
        ("https://example.com:x/", "bad port"),
        ("https://a:1:2/", "bad port"),
        ("https://[::1/", "bad port or host"),
        ("https://[zz]/", "looks like an address"),
        ("https://1.2.3.4.5/", "looks like an address"),
        ("https://256.0.0.1/", "looks like an address"),
        ("https://-a.example/", "bad host name"),
        ("https://a..b/", "bad host name"),
        ("https://a,b/", "bad host name"),
        (f"https://{'a' * 64}.example/", "bad host name"),
        (f"https://{'a.' * 127}example/", "bad host name"),
        (f"https://example.com/{'a' * 8000}", "8020 characters"),
    ],
)
def test_bad_urls(url: str, piece: str) -> None:
    """Any other URL is refused, whatever libcurl would make of it."""
    fault = judge_url(url)
    assert fault is not None
    assert piece in fault.message
    assert fault.remedy


@pytest.mark.parametrize(
    "url",
    [
        "https://s3cret:s3cret@example.com/#",
        "https://s3cret@s3cret@example.com/",
        "https:/u:s3cret@example.com",
        "s3cret@example.com",
        "//u:s3cret@example.com",
        "https://example.com/a b?token=s3cret",
        "https://example.com/#s3cret",
        f"https://{'s3cret' * 50}@example.com/#",
        "https://u:s3cret\n@example.com/",
    ],
)
def test_faults_hide_passwords_and_queries(url: str) -> None:
    """A fault shows neither the password nor the query of a URL."""
    fault = judge_url(url)
    assert fault is not None
    assert "s3cret" not in " ".join(fault)


def test_proxies() -> None:
    """A proxy may be SOCKS 5, and have a name and a password."""
    for url in ("socks5h://u:p@proxy.example:1080", "http://proxy.example:3128"):
        assert judge_url(url, schemes=PROXY_SCHEMES, userinfo=True) is None
    assert judge_url("socks4://proxy.example", schemes=PROXY_SCHEMES, userinfo=True)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://example.com/", None),
        ("https://127.1:80/x", "127.0.0.1"),
        ("http://u:p@[::1]:80/x", "::1"),
        ("http://localhost", "127.0.0.1"),
    ],
)
def test_host_of_a_url(url: str, address: str | None) -> None:
    """A URL gives the address that its host spells out."""
    host = url_host(url)
    assert address == (None if host is None else str(host))


@given(st.text() | st.text("https://:@[]1.%").map("https://".__add__))
def test_any_text_is_judged(url: str) -> None:
    """Any text whatever is judged without an error, and a sound URL's host can be read."""
    shown_url(url)
    if judge_url(url) is None:
        url_host(url)
