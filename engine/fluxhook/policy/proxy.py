"""Whose failure it is where a proxy stands between us and the receiver.

    forward   an HTTP proxy and an http:// URL: the proxy reads the request and sends one of its own
    tunnel    an HTTP proxy and an https:// URL: the proxy is asked to CONNECT, then passes bytes on
    socks     a SOCKS proxy, which passes bytes on whatever the URL

In a tunnel the two can be told apart. What a forwarding proxy answers itself can be told only where it
says so, or where it answers what a gateway answers and leaves out the Via field that every forwarded
answer has (RFC 9110 section 7.6.3). Its other answers count as the receiver's.

A proxy that accepts the connection and then says nothing may wait for the receiver: that is a
`connect_timeout` in a tunnel, and a `timeout` where it forwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from fluxhook.policy.outcome import TransportCause

__all__ = ["ProxyUse", "is_proxys_answer", "is_proxys_failure", "proxy_use"]

ProxyUse = Literal["forward", "tunnel", "socks"]

#: RFC 9110 section 15.5.8, RFC 6585 section 6: no receiver answers these
_PROXYS_OWN: Final = frozenset((407, 511))
#: RFC 9110 sections 15.6.3 and 15.6.5: what a proxy answers where the receiver could not be reached
_GATEWAYS: Final = frozenset((502, 504))


def proxy_use(url: str, proxy: str | None) -> ProxyUse | None:
    """Return how requests to the URL pass through the proxy; None without one."""
    if not proxy:
        return None
    if not proxy.lower().startswith("http"):
        return "socks"
    return "tunnel" if url.lower().startswith("https:") else "forward"


def is_proxys_failure(
    use: ProxyUse,
    cause: TransportCause,
    *,
    connected_us: int,
    requested: bool,
    connect_status: int,
) -> bool:
    """Return whether it was the proxy with which a request failed that brought no answer.

    `connected_us` is not 0 once the TCP connection stood, which is always one to the proxy; `requested`
    tells whether something of the request itself was sent, through the tunnel if there is one;
    `connect_status` is what the proxy answered to CONNECT, or 0.
    """
    if cause == "proxy":
        return True
    if requested or cause in ("dns", "egress_denied", "internal"):
        return False
    if not connected_us:
        return True
    return use != "socks" and connect_status // 100 != 2 and cause != "connect_timeout"


def is_proxys_answer(status: int, fields: Mapping[str, str]) -> bool:
    """Return whether an answer that came through a forwarding proxy is the proxy's own, as far as can
    be told. `fields` has its names in lower case."""
    if status in _PROXYS_OWN or "x-squid-error" in fields:
        return True
    # RFC 9209: the last member is that of the proxy nearest to us.
    nearest = fields.get("proxy-status", "").rpartition(",")[2]
    if any(parameter.strip().startswith("error=") for parameter in nearest.split(";")[1:]):
        return True
    return status in _GATEWAYS and "via" not in fields
