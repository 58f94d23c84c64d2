"""The user of the operating system at the other end of a local connection."""

from __future__ import annotations

import ipaddress
import pwd
import socket
import struct
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = ["tcp_user", "unix_user", "user_name"]

#: pid, uid and gid (unix(7), SO_PEERCRED)
_CREDENTIALS: Final = struct.Struct("iII")
#: of the machine's connections over TCP
TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


@cache
def user_name(uid: int) -> str:
    """Return the name of a user, or `uid 1000` where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def unix_user(sock: socket.socket) -> str:
    """Return who connected to a Unix socket, as the kernel says."""
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return user_name(_CREDENTIALS.unpack(found)[1])


def tcp_user(client: Any, server: Any) -> str:
    """Return who has the client's end of a TCP connection on this machine, as the kernel says; empty
    where it is not here, or has closed it: what is left of it then is in the table as root's. Both are
    addresses and ports."""
    try:
        near, far = ({*_written(*address[:2])} for address in (client, server))
    except (TypeError, ValueError):  # a Unix socket's, or none
        return ""
    for table in TABLES:
        try:
            lines = table.read_text("ascii", "replace").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if len(columns) > 9 and columns[1] in near and columns[2] in far:
                uid, inode = columns[7], columns[9]
                return "" if inode == "0" else user_name(int(uid))
    return ""


def _written(host: str, port: int) -> list[str]:
    """Return an address and a port as /proc/net has them: by words of the machine's order. An IPv4
    address may be that of an IPv6 socket."""
    address = ipaddress.ip_address(host)
    packed = [address.packed]
    if isinstance(address, ipaddress.IPv4Address):
        packed.append(b"\0" * 10 + b"\xff\xff" + address.packed)
    elif address.ipv4_mapped is not None:
        packed.append(address.ipv4_mapped.packed)
    return [
        "".join(f"{word:08X}" for (word,) in struct.iter_unpack("=I", one)) + f":{port:04X}"
        for one in packed
    ]
