"""`fluxhook admin`: the admin API beside an embedded engine."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import CommandSite, Invoke, Start, json, until
from fluxhook import Admin, Config, Engine
from fluxhook.cli.exit_codes import ExitCode
from support.tls import Authority


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_commands_find_it_by_the_data_directory(
    start: Start, invoke: Invoke, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM ends it well, and the engine goes on."""
    config = Config(workers=1, admin=Admin(listen="127.0.0.1:0", dashboard=False))
    with Engine(config, tmp_path / "data") as engine:
        program = start("admin", "--data-dir", "data")
        program.hear("listens on http://127.0.0.1:")
        until((tmp_path / "data/admin.json").exists)
        said = invoke("webhook", "list", "--data-dir", "data")
        assert said.exit_code == ExitCode.OK, said.output
        program.signal(number)
        interrupted = number is signal.SIGINT
        assert program.end().exit_code == (ExitCode.INTERRUPTED if interrupted else ExitCode.OK)
        assert not (tmp_path / "data/admin.json").exists()
        assert engine.emit("route.matched", {}) == 0


def test_another_address_than_the_configurations(start: Start, tmp_path: Path) -> None:
    """`--listen` leads elsewhere; beyond this machine it needs a token as the file's does."""
    config = Config(workers=1, admin=Admin(listen="127.0.0.1:1", dashboard=False))
    with Engine(config, tmp_path / "data"):
        for listen, complaint in (("0.0.0.0:0", "there is no token"), ("8090", "is not host:port")):
            refused = start("admin", "--data-dir", "data", "--listen", listen).end()
            assert refused.exit_code == ExitCode.CONFIG
            assert complaint in refused.stderr
        program = start("admin", "--data-dir", "data", "--listen", "127.0.0.1:0")
        program.hear("listens on http://127.0.0.1:")


def test_its_own_certificate_is_trusted_whatever_it_names(
    start: Start, invoke: Invoke, tmp_path: Path
) -> None:
    """The command runs on the engine's host, and knows the certificate by its file."""
    cert, key = Authority(tmp_path / "ca").issue("admin", san="DNS:gateway.example.com")
    admin = Admin(listen="127.0.0.1:0", dashboard=False, cert=cert, key=key)
    with Engine(Config(workers=1, admin=admin), tmp_path / "data"):
        start("admin", "--data-dir", "data").hear("listens on https://127.0.0.1:")
        file = tmp_path / "data/admin.json"
        until(file.exists)
        assert invoke("webhook", "list", "--data-dir", "data").exit_code == ExitCode.OK
        # By its URL alone it is anybody's.
        said = invoke("webhook", "list", "--api", json(file.read_bytes())["url"])
        assert said.exit_code == ExitCode.UNREACHABLE
        assert "certificate is not trusted" in said.stderr


def test_there_is_one_for_a_data_directory(site: CommandSite) -> None:
    said = site.run("admin")
    assert said.exit_code == ExitCode.CONFLICT
    assert site.admin.url in said.stderr
    assert site.admin.token not in said.output


def test_where_no_engine_ever_was_there_is_nothing_to_administer(invoke: Invoke) -> None:
    said = invoke("admin", "--data-dir", "nowhere")
    assert said.exit_code == ExitCode.NOT_RUNNING
    assert not Path("nowhere").exists()


def test_missing_packages_are_named_with_the_way_to_get_them(
    invoke: Invoke, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without_uvicorn(name: str, *rest: Any) -> Any:
        return None if name == "uvicorn" else found(name, *rest)

    monkeypatch.setattr("fluxhook.cli.admin.find_spec", without_uvicorn)
    said = invoke("admin", "--data-dir", stopped)
    assert said.exit_code == ExitCode.FAILURE
    assert "pip install 'fluxhook[admin]'" in said.stderr
