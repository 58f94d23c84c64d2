"""The address at which the admin API listens, and whether only this machine can reach it."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

__all__ = ["Listen", "parse_listen"]

_LISTEN: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})", re.ASCII)
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}", re.ASCII)


class Listen(NamedTuple):
    """`host` is an address or a name, without brackets; port 0 takes a free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """True if nobody beyond this machine can connect. A name other than localhost may lead
        anywhere."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """Read `host:port`; without a host (`:8090`) it is every address. Raise ValueError.

    >>> parse_listen("127.0.0.1:8090")
    Listen(host='127.0.0.1', port=8090)
    >>> parse_listen("[::1]:8090").loopback, parse_listen(":8090").loopback
    (True, False)
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match[3]) > 65_535:
        raise ValueError(f"{text!r:.80} is not host:port")
    bracketed, plain, port = match.groups()
    if bracketed is not None:
        try:
            ipaddress.IPv6Address(bracketed)
        except ValueError:
            raise ValueError(f"[{bracketed:.80}] is not an IPv6 address") from None
    elif plain and not _NAME.fullmatch(plain):
        raise ValueError(f"{plain!r:.80} is neither a host name nor an address")
    return Listen(bracketed or plain or "0.0.0.0", int(port))
