"""The control socket's listener, by itself."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from fluxhook.control import Done, Origin, Pause, Request, frame, socket_path
from fluxhook.supervisor.control_server import Listener
from fluxhook.transport.datadir import DataDir


def reply(request: Request, origin: Origin) -> msgspec.Struct:
    return Done()


@contextmanager
def without_descriptors() -> Iterator[None]:
    free = os.dup(0)  # the lowest there is
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_client_without_a_descriptor_for_it_is_refused(tmp_path: Path) -> None:
    """It is not left to wait, the supervisor goes on, and the next one is served."""
    datadir = DataDir(tmp_path)
    listener = Listener(datadir, reply)
    with socket_path(datadir) as path, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        with without_descriptors():
            listener.step()
        assert client.recv(1) == b""
    with socket_path(datadir) as path, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(path)
        client.send(frame(msgspec.msgpack.encode(Pause("a"))))
        listener.step()
        listener.step()
        assert client.recv(1000) == frame(msgspec.msgpack.encode(Done()))
    listener.close()
