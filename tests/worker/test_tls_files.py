"""TLS files that were replaced under a running engine are read again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Config, Retry, Tls
from fluxhook import control as c
from fluxhook.config.definition import check_tls_paths
from fluxhook.config.shown import endpoint_options
from fluxhook.errors import ConfigError
from fluxhook.store import SubscriptionRow
from fluxhook.transport.datadir import DataDir
from support.receiver import ReceiverProcess
from support.rig import Rig, seconds, until
from support.scheduler_harness import SchedulerHarness
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
        until(lambda: engine.stats().endpoint("a").failed_attempts > 0, deadline_s=30)
        last = engine.stats().endpoint("a").last_error
        assert last is not None
        assert last.cause == "tls"
        replace(ca, authority.cert)
        hang_up(rig)
        assert engine.drain(30), engine.stats()
        assert engine.stats().endpoint("a").delivered == 1
    assert secure.distinct("/a") == 1


# ---- named at run time ---------------------------------------------------------------------

LAYER = {"name": "rt", "url": "https://rt.example/", "events": ["*"], "signature": "none"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a certificate in it, `ca.pem`, and a link to one beside it, `link.pem`."""
    folder = tmp_path / "folder"
    folder.mkdir()
    replace(folder / "ca.pem", self_signed(tmp_path, "one").cert)
    (tmp_path / "beside.pem").write_bytes((folder / "ca.pem").read_bytes())
    (folder / "link.pem").symlink_to(tmp_path / "beside.pem")
    return folder


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data") as harness:
        yield harness


def test_pem_text_may_be_given_at_run_time(harness: SchedulerHarness, tmp_path: Path) -> None:
    """It is used as a file would be, and a key in it is never shown."""
    cert, key = (Path(path).read_text() for path in self_signed(tmp_path, "client"))
    harness.ask(c.Create({**LAYER, "tls": {"ca": cert, "cert": cert, "key": key}}), c.Subscription)
    (endpoint,) = harness.supervisor.snapshot.config.endpoints
    assert harness.supervisor.snapshot.held == {}
    assert endpoint.tls == Tls(ca=cert, cert=cert, key=key)
    assert "PRIVATE" not in repr(endpoint)
    assert "PRIVATE" not in repr(Config(defaults={"tls": {"key": key}}))
    assert endpoint_options(endpoint)["tls"] == Tls(ca=cert, cert=cert, key="***")
    with pytest.raises(ConfigError, match=r"tls\.key: the text does not belong") as caught:
        other = Path(self_signed(tmp_path, "other").key).read_text()
        harness.ask(c.Update("rt", {"tls": {"key": other}}), c.Subscription)
    assert "PRIVATE" not in str(caught.value)


def test_no_path_may_be_given_without_a_folder(harness: SchedulerHarness, folder: Path) -> None:
    """A user who may change endpoints may not have the engine read any file; and the answer does not
    tell whether there is such a file."""
    said = set()
    for path in (folder / "ca.pem", folder / "none.pem", Path("/etc/shadow"), Path("/proc/kmsg")):
        with pytest.raises(ConfigError, match="no tls_folder") as caught:
            harness.ask(c.Create({**LAYER, "tls": {"ca": str(path)}}), c.Subscription)
        said.add(str(caught.value).replace(str(path), "PATH"))
    assert len(said) == 1
    assert harness.supervisor.snapshot.config.endpoints == ()


@pytest.mark.parametrize(
    "path",
    ["../beside.pem", "link.pem", "", "/etc/ssl/certs/ca-certificates.crt", "a\0b", "../folder"],
)
def test_a_path_is_below_the_folder(folder: Path, path: str) -> None:
    """With `..` and links followed; one that is relative has no meaning here."""
    for name in ("ca", "cert", "key"):
        layer = {"tls": {name: os.path.join(folder, path)}}
        with pytest.raises(ConfigError, match=rf"tls\.{name}: .* is not below the tls_folder"):
            check_tls_paths(layer, {}, str(folder))
    with pytest.raises(ConfigError, match="not below"):
        check_tls_paths({"tls": {"ca": "ca.pem"}}, {}, str(folder))
    check_tls_paths(
        {"tls": {"ca": str(folder / "ca.pem"), "cert": None, "key": 5}}, {}, str(folder)
    )


def test_paths_that_were_given_before_stay(harness: SchedulerHarness, folder: Path) -> None:
    """Those of a data directory from before are judged only when they are changed."""
    path = str(folder / "ca.pem")
    row = SubscriptionRow("rt", {**LAYER, "tls": {"ca": path}}, 1, 1, {})
    del row.layer["name"]
    harness.store.save_subscription(row)
    harness.reopen()
    harness.ask(c.Update("rt", {"concurrency": 3}), c.Subscription)
    (endpoint,) = harness.supervisor.snapshot.config.endpoints
    assert (endpoint.tls.ca, endpoint.concurrency) == (path, 3)
    with pytest.raises(ConfigError, match="no tls_folder"):
        harness.ask(c.Update("rt", {"tls": {"ca": str(folder / "link.pem")}}), c.Subscription)
    harness.ask(c.Update("rt", {"tls": {"ca": None}}), c.Subscription)
    with pytest.raises(ConfigError, match="no tls_folder"):
        harness.ask(c.Update("rt", {"tls": {"ca": path}}), c.Subscription)


# ---- what decrypts TLS ---------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True])
def test_session_keys_are_written_only_if_asked_for(
    rig: Rig,
    tmp_path: Path,
    authority: Authority,
    secure: ReceiverProcess,
    monkeypatch: pytest.MonkeyPatch,
    asked: bool,
) -> None:
    """SSLKEYLOGFILE, which a host may have for its own TLS, is not ours: FLUXHOOK_SSLKEYLOGFILE is."""
    for_host, for_us = tmp_path / "host.keys", tmp_path / "our.keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(for_host))
    if asked:
        monkeypatch.setenv("FLUXHOOK_SSLKEYLOGFILE", str(for_us))
    with rig.engine(rig.endpoint("a", url=f"{secure.url}/a", tls=Tls(ca=authority.cert))) as engine:
        engine.emit("route.x", {})
        assert engine.drain(30), engine.stats()
        assert engine.stats().endpoint("a").delivered == 1
    assert not for_host.exists()
    assert for_us.exists() == asked
