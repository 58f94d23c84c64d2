"""URLs as the configuration may hold them (RFC 3986), stricter than what libcurl would take."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from fluxhook.config.networks import literal_address

__all__ = [
    "PROXY_SCHEMES",
    "Violation",
    "judge_url",
    "shown_url",
    "split_url",
    "url_host",
    "url_hostname",
    "url_origin",
]

_URL: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL
)
#: What libcurl takes for a proxy, but SOCKS 4, which knows neither IPv6 nor passwords.
PROXY_SCHEMES: Final = ("http", "https", "socks5", "socks5h")
#: RFC 3986 section 2: reserved, unreserved, and percent-encoded.
_CHARACTERS: Final = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
#: RFC 1123 section 2.1; the underscore is in use for service names.
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
#: RFC 9110 section 4.1 asks for at least 8000 octets.
_MAX_LENGTH: Final = 8000
#: RFC 9110 sections 4.2.1 and 4.2.2
_PORTS: Final = {"http": "80", "https": "443"}


class Violation(NamedTuple):
    """What is wrong with a URL or a header, and what would be right."""

    message: str
    remedy: str


def judge_url(
    url: str, *, schemes: Collection[str] = ("https", "http"), userinfo: bool = False
) -> Violation | None:
    """Return what is wrong with a URL; None if a delivery can be sent to it.

    With `userinfo` a name and password may stand before the host, as proxies want it.
    """
    if len(url) > _MAX_LENGTH:
        return Violation(f"the URL has {len(url)} characters", f"use at most {_MAX_LENGTH}")
    shown = repr(shown_url(url))
    match = _URL.fullmatch(url)
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if match is None or match[1].lower() not in schemes:
        return Violation(f"{shown} does not begin with {wanted}", f"begin it with {wanted}")
    if not _CHARACTERS.fullmatch(url):
        return Violation(
            f"{shown} holds a space, a control character or another that no URL may hold",
            "percent-encode it (RFC 3986); write a host name in its xn-- form",
        )
    if match[5] is not None:
        return Violation(f"{shown} has a fragment (#...)", "remove it: a fragment is never sent")
    _, at, authority = match[2].rpartition("@")
    if at and not userinfo:
        return Violation(
            f"{shown} has a user name or password before the host",
            "send them in headers, e.g. Authorization: Basic ...",
        )
    return _judge_authority(authority, shown)


def _judge_authority(authority: str, shown: str) -> Violation | None:
    match = _HOST.fullmatch(authority)
    if match is None or match[2] == "" or not 1 <= int((match[2] or "1")[:6]) <= 65535:
        return Violation(
            f"{shown} has a bad port or host", "write host or host:port, port 1 to 65535"
        )
    host: str = match[1]
    if not host:
        return Violation(f"{shown} has no host", "write https://host/path")
    if "%" in host:
        return Violation(f"{shown} has a '%' in its host", "write the plain host name or address")
    try:
        literal = literal_address(host)
    except ValueError:
        return Violation(
            f"{shown} has a host that looks like an address and is none",
            "write a host name, a dotted IPv4 address or [an IPv6 address]",
        )
    labels = host.removesuffix(".").split(".")
    if literal is None and (len(host) > 253 or not all(map(_LABEL.fullmatch, labels))):
        return Violation(f"{shown} has a bad host name", "use letters, digits, hyphens and dots")
    return None


def split_url(url: str) -> tuple[str, str | None, str]:
    """Return a URL without what stands before its host and without its fragment, and both of these."""
    match = _URL.fullmatch(url)
    if match is None:
        return url, None, ""
    scheme, authority, path, query, fragment = match.groups(default="")
    userinfo, at, host = authority.rpartition("@")
    return f"{scheme}://{host}{path}{query}", userinfo if at else None, fragment


def url_host(url: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a sound URL's host spells out; None for a name."""
    host = url_hostname(url)
    return literal_address(host) if host else None


def url_hostname(url: str) -> str:
    """Return a sound URL's host as it is written, an IPv6 address in brackets; empty for an unsound
    one."""
    match = _URL.fullmatch(url)
    host = match and _HOST.fullmatch(match[2].rpartition("@")[2])
    return host[1] if host else ""


def url_origin(url: str, ports: Mapping[str, str] = _PORTS) -> str:
    """Return scheme, host and port of a sound URL in one spelling (RFC 6454 section 4). `ports` are
    those that a scheme has where none is written."""
    match = _URL.fullmatch(url)
    host = match and _HOST.fullmatch(match[2].rpartition("@")[2])
    if not match or not host:
        return url
    scheme = match[1].lower()
    port = host[2].lstrip("0") if host[2] else ports.get(scheme, "")
    return f"{scheme}://{host[1].lower()}" + (f":{port}" if port else "")


def shown_url(url: str) -> str:
    """Return the URL as it may be shown: without user name, password and query, which can hold
    secrets."""
    url = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*:/*)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"([?#]).*", r"\1***", url, flags=re.DOTALL)[:200]
