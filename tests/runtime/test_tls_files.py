"""TLS files that were replaced under a running engine are read again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Retry, Tls
from fluxhook.transport.datadir import DataDir
from runtime.conftest import Rig, seconds, until
from support.receiver import ReceiverProcess
from support.tls import Authority, self_signed

#: an attempt every tenth of a second, for as long as it takes
ANEW = Retry(
    max_attempts=1000, initial_interval=seconds(0.1), max_interval=seconds(0.1), multiplier=1.0
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def secure(authority: Authority) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(tls=authority.issue("receiver")) as receiver:
        yield receiver


def replace(path: Path, source: str) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(Path(source).read_bytes())
    new.replace(path)


def hang_up(rig: Rig) -> None:
    os.kill(json.loads(DataDir(rig.data_dir).engine_file.read_text())["pid"], signal.SIGHUP)


def test_replaced_authorities_are_read_at_sighup(
    rig: Rig, tmp_path: Path, authority: Authority, secure: ReceiverProcess
) -> None:
    """At once, by the worker that has used the former ones; what failed meanwhile is delivered."""
    ca = tmp_path / "ca.pem"
    replace(ca, self_signed(tmp_path, "former").cert)
    endpoint = rig.endpoint("a", url=f"{secure.url}/a", tls=Tls(ca=str(ca)), retry=ANEW)
    with rig.engine(endpoint) as engine:
        engine.emit("route.x", {})
        until(lambda: engine.stats().endpoint("a").failed_attempts > 0)
        last = engine.stats().endpoint("a").last_error
        assert last is not None
        assert last.cause == "tls"
        replace(ca, authority.cert)
        hang_up(rig)
        assert engine.drain(5), engine.stats()
        assert engine.stats().endpoint("a").delivered == 1
    assert secure.distinct("/a") == 1
