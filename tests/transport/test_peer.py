"""Who is at the other end of a connection, as the kernel says."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from pathlib import Path

import pytest

from fluxhook.transport import peer
from fluxhook.transport.peer import tcp_user, unix_user, user_name

ME = pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name_is_its_number() -> None:
    """As in a container that has no such user."""
    assert user_name(os.getuid()) == ME
    assert user_name(3_999_999_999) == "uid 3999999999"


def test_the_user_of_a_unix_socket() -> None:
    """SO_PEERCRED; nothing that the peer says."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unix_user(ours) == ME


def test_a_high_number_of_a_user_is_no_negative_one() -> None:
    """User namespaces and directories give numbers from 2**31 on."""

    class Peer(socket.socket):
        def getsockopt(self, *_: int) -> bytes:  # type: ignore[override]
            return struct.pack("=iII", 1, 3_999_999_999, 0)

    with Peer() as theirs:
        assert unix_user(theirs) == "uid 3999999999"


@pytest.mark.parametrize(
    ("family", "host", "dialled"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
)
def test_the_user_of_a_tcp_connection(
    family: socket.AddressFamily, host: str, dialled: str
) -> None:
    """By IPv4, by IPv6, and by IPv4 to a socket that has both."""
    with socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::") as server:
        port = server.getsockname()[1]
        with socket.create_connection((dialled, port)) as client:
            accepted, _ = server.accept()
            with accepted:
                assert tcp_user(accepted.getpeername(), accepted.getsockname()) == ME
                near = client.getsockname()
                assert tcp_user((near[0], near[1] ^ 1), accepted.getsockname()) == ""


def test_who_has_hung_up_is_nobody_and_not_root() -> None:
    """Nobody can leave a change behind as root's by closing the connection at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
        with accepted:
            assert tcp_user(accepted.getpeername(), accepted.getsockname()) == ""


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (None, None),
        (("testclient", 50000), ("testserver", 80)),
        (("/run/sock", None), None),
        (("192.0.2.7", 4711), ("127.0.0.1", 8090)),
    ],
)
def test_who_is_not_here_is_nobody(client: object, server: object) -> None:
    """Nor is what has no address."""
    assert tcp_user(client, server) == ""


def test_the_users_number_is_that_of_the_clients_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends of a connection on this machine stand in the table."""
    table = tmp_path / "tcp"
    table.write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 0100007F:1F9A 0100007F:C001 01 0:0 0:0 0 3999999998 0 1\n"
        "   1: 0100007F:C001 0100007F:1F9A 01 0:0 0:0 0 3999999999 0 1\n"
    )
    monkeypatch.setattr(peer, "TABLES", (tmp_path / "missing", table))
    assert tcp_user(("127.0.0.1", 0xC001), ("127.0.0.1", 0x1F9A)) == "uid 3999999999"
