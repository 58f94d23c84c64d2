"""What lies in the working directory is never executed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fluxhook import Config, Engine
from fluxhook.cli.demo_receiver import ReceiverProcess

#: modules that the engine, its admin API or its command import, from the standard library and beyond
PLANTED = ("json", "queue", "random", "secrets", "selectors", "socket", "ssl", "tempfile", "uuid")
PLANTED_PACKAGES = ("click", "msgspec", "pycurl", "setproctitle", "uvicorn", "yaml", "zstandard")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which each of these lies. Any that is executed leaves a line in the file
    that is returned."""
    trace = tmp_path / "executed"
    for name in (*PLANTED, *PLANTED_PACKAGES):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(trace)!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(99)\n"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    return trace


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "fluxhook"),
        ("-mfluxhook",),
        ("-Bm", "fluxhook.cli"),
        ("-P", "-m", "fluxhook"),
        (str(Path(sys.executable).with_name("fluxhook")),),
    ],
    ids=" ".join,
)
def test_the_command_imports_nothing_from_the_working_directory(
    planted: Path, command: tuple[str, ...]
) -> None:
    """However it is started: as the installed script, or as a module without `-P`."""
    Path("f.yaml").write_text("webhook:\n  endpoints: []\n")
    checked = subprocess.run(
        [sys.executable, *command, "check", "f.yaml", "--json"], capture_output=True, text=True
    )
    assert not planted.exists(), planted.read_text()
    assert checked.returncode == 0, checked.stderr


def test_a_host_keeps_its_own_path(planted: Path) -> None:
    """A program that imports the package decides by itself where modules come from."""
    program = "import sys, fluxhook; print(sys.path[0] == '')"
    Path("json.py").unlink()
    for name in (*PLANTED, *PLANTED_PACKAGES):
        Path(f"{name}.py").unlink(missing_ok=True)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout == "True\n"


def test_children_import_nothing_from_the_working_directory(planted: Path) -> None:
    """Supervisor and workers of an embedded engine, and the demo's receivers."""
    with Engine(Config(workers=1), "data") as engine:
        deadline = time.monotonic() + 60
        while not engine.stats().serving:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    receiver = ReceiverProcess("sk_live_9x8m2p")
    try:
        assert receiver.url.startswith("http://")
        receiver.stop()
    finally:
        receiver.kill()
    assert not planted.exists(), planted.read_text()


def test_pythonpath_stays_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that the operator puts there is found by every child."""
    trace = tmp_path / "seen"
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import sys; open({str(trace)!r}, 'a').write(' '.join(sys.orig_argv) + '\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path[:1]]))
    with Engine(Config(workers=1), tmp_path / "data"):
        pass
    assert "-P -m fluxhook.supervisor supervisor" in trace.read_text()
