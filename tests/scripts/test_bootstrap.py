"""scripts/bootstrap.py: one step prepares a machine, or says in one line what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from scripts import bootstrap

ROOT: Final = Path(__file__).parents[2]
COMPILER: Final = ["gcc", "libc6-dev", "libssl-dev"]
TOOLS: Final = [
    "openssl",
    "nginx-light",
    "golang-go",
    "valgrind",
    "chromium",
    "systemd",
    "prometheus",
]
#: a machine whose programs say what they were called with
PROGRAM: Final = '#!/bin/sh\necho "$0 $*" >>"{log}"\n{action}\n'


class Machine:
    """A bare machine: nothing is in PATH but what a test puts there. It is another user's: no root."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = folder / "log"
        self._bin = folder / "bin"
        self._bin.mkdir()
        self._patch = monkeypatch
        monkeypatch.setenv("PATH", str(self._bin))
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(bootstrap, "SBIN", "")
        # What is Debian's own is asked by trying, so it is taken away by failing.
        monkeypatch.setattr(bootstrap, "compiler", lambda: [str(self._bin / "cc")])
        monkeypatch.setattr(bootstrap, "has_ensurepip", lambda: True)
        monkeypatch.setattr(bootstrap, "has_terminals", lambda: True)

    def has(self, name: str, action: str = "exit 0") -> None:
        path = self._bin / name
        path.write_text(PROGRAM.format(log=self.log, action=action))
        path.chmod(0o755)

    def installs(self, *programs: str) -> str:
        """Return what a command does that brings programs."""
        script = "#!/bin/sh\\nexit 0\\n"
        made = "".join(
            f"printf '{script}' >{self._bin / p}; /bin/chmod 755 {self._bin / p};" for p in programs
        )
        return f'case "$*" in *install*) {made} ;; esac; exit 0'

    def called(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.removeprefix(f"{self._bin}/") for line in lines]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def ended(target: str) -> str:
    """The line with which the preparation ends."""
    with pytest.raises(SystemExit) as caught:
        bootstrap.prepare_machine(target)
    (line,) = str(caught.value.code).splitlines()
    return line


@pytest.mark.parametrize(
    ("target", "extra"), [("demo", []), ("lint", []), ("bench", TOOLS[:3]), ("test", TOOLS)]
)
def test_a_debian_without_rights_is_told_in_one_line(
    machine: Machine, target: str, extra: list[str]
) -> None:
    """All packages that the target needs and no others: the demo needs the compiler's alone."""
    machine.has("apt-get")
    line = ended(target)
    assert line.startswith(f"fluxhook: make {target} needs a C compiler (")
    packages = line.partition("; as root: apt-get install ")[2].split()
    ours = [package for package in packages if not package.startswith("python3")]
    assert ours == COMPILER + extra
    assert machine.called() == []


def test_another_system_is_told_what_it_lacks(machine: Machine) -> None:
    """Without apt-get no package of Debian's is named."""
    line = ended("test")
    assert line.endswith("openssl, nginx, go, valgrind, chromium, systemd-analyze, prometheus")
    assert "apt-get" not in line


def test_sudo_is_used_where_it_asks_for_nothing(machine: Machine) -> None:
    """And for nothing but apt-get, which is to ask for nothing either."""
    machine.has("apt-get")
    machine.has("sudo", "shift; exec " + '"$@"')
    machine.has("true")
    machine.has(
        "env",
        machine.installs(
            "cc", "openssl", "chromium", "nginx", "valgrind", "go", "systemd-analyze", "prometheus"
        ),
    )
    bootstrap.prepare_machine("test")
    _, _, sudo, update, again, install = machine.called()
    assert sudo.startswith("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -q ")
    assert update.endswith(" update")
    assert again.startswith("sudo -n env ")
    wanted = " ".join(COMPILER + TOOLS)
    assert " install -y --no-install-recommends gcc" in install
    assert set(wanted.split()) <= set(install.split())
    machine.log.unlink()
    bootstrap.prepare_machine("test")
    assert not [line for line in machine.called() if "apt-get" in line]


def test_sudo_that_wants_a_password_is_left_alone(machine: Machine) -> None:
    """No prompt: the line is the same as without it."""
    machine.has("apt-get")
    machine.has("sudo", "exit 1")
    assert "as root: apt-get install gcc" in ended("demo")
    assert machine.called() == ["sudo -n true"]


def test_an_installation_that_fails_is_told_with_its_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same line, after what is missing."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.has("apt-get")
    machine.has("env", "echo Reading...; echo 'E: Unable to locate package gcc'; echo; exit 100")
    line = ended("demo")
    assert "apt-get install gcc libc6-dev" in line
    assert line.endswith("(it failed: E: Unable to locate package gcc)")


def test_what_only_one_package_brings_is_asked_for_alone(machine: Machine) -> None:
    """The script finds out what is there by trying."""
    machine.has("apt-get")
    for name in ("cc", "openssl", "nginx", "valgrind", "go", "systemd-analyze", "prometheus"):
        machine.has(name)
    assert ended("test") == (
        "fluxhook: make test needs chromium; as root: apt-get install chromium"
    )


def test_terminals_are_mounted_where_there_are_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chroot often has none. A user who may not mount is told so."""
    for name in ("cc", *bootstrap.PROGRAMS):
        machine.has(name)
    machine.has("true")
    monkeypatch.setattr(bootstrap, "has_terminals", lambda: "mount(" in "".join(machine.called()))
    assert ended("test") == "fluxhook: make test needs pseudo-terminals (/dev/pts)"
    machine.has("sudo")
    bootstrap.prepare_machine("test")
    assert f"sudo -n {sys.executable} -c " in machine.called()


def test_a_header_is_tried_with_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one: of this Python, wherever its headers are."""
    assert bootstrap.includes("Python.h")
    assert bootstrap.includes("openssl/sha.h")
    assert not bootstrap.includes("no_such_header.h")
    monkeypatch.setenv("CC", "/nonexistent/cc -O2")
    assert bootstrap.compiler() == ["/nonexistent/cc", "-O2"]
    assert not bootstrap.includes("stdlib.h")


@pytest.mark.parametrize(
    ("prefix", "version", "packages"),
    [
        ("/usr", (3, 11), ("python3-dev",)),
        ("/usr", (3, 13), ("python3.13-dev",)),
        ("/opt/python", (3, 13), ()),
    ],
)
def test_headers_of_another_python_are_another_package(
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    version: tuple[int, int],
    packages: tuple[str, ...],
) -> None:
    """Debian's default Python, another one of Debian's, and one that no package belongs to."""
    monkeypatch.setattr(sys, "base_prefix", prefix)
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(os.path, "realpath", lambda path: "/usr/bin/python3.11")
    assert bootstrap.of_this_python("dev") == packages


def test_a_prepared_machine_is_left_as_it_is(machine: Machine) -> None:
    """Nothing is installed, and nobody is asked."""
    machine.has("cc")
    machine.has("sudo")
    machine.has("apt-get")
    bootstrap.prepare_machine("demo")
    assert all(line.startswith("cc ") for line in machine.called())


def test_a_session_of_tests_begins_with_what_is_missing() -> None:
    """No test fails for a missing tool: the session ends with one line and the command that helps."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/policy/test_rate.py"],
        cwd=ROOT,
        env=os.environ | {"PATH": "/nonexistent", "CC": "/nonexistent/cc"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("ERROR: the tests need a C compiler (/nonexistent/cc), ")
    assert line.endswith(
        "go, valgrind, chromium, systemd-analyze, prometheus; run: python3 scripts/bootstrap.py test"
    )


# ---- the environment -----------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bootstrap.Environment:
    """One in which every command succeeds at once and is written down."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(bootstrap, "has_modules", lambda: True)
    made = bootstrap.Environment(tmp_path / "venv")
    made.folder.mkdir()
    monkeypatch.setattr(made, "is_ours", lambda: True)
    return made


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(bootstrap, "say", said.append)
    monkeypatch.setattr(bootstrap, "run", lambda *command: None)
    return said


def test_nothing_is_done_twice(environment: bootstrap.Environment, steps: list[str]) -> None:
    """The demo's packages for the demo, all for the tests; those of the tests hold the demo's."""
    demo, dev = (f"installing the packages of requirements/{name}.txt" for name in ("demo", "dev"))
    environment.prepare("demo")
    assert steps == [demo, "building the compiled modules"]
    environment.prepare("demo")
    environment.prepare("dev")
    environment.prepare("dev")
    assert steps[2:] == [dev]
    (environment.folder / "ready-demo").unlink()
    environment.prepare("demo")
    assert steps[3:] == []


def test_modules_are_built_anew_when_their_sources_changed(
    environment: bootstrap.Environment, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or when they are gone, as after `make clean`; nothing is installed for that."""
    environment.prepare("demo")
    (environment.folder / "ready-modules").write_text("of other sources")
    environment.prepare("demo")
    monkeypatch.setattr(bootstrap, "has_modules", lambda: False)
    environment.prepare("demo")
    assert steps[2:] == ["building the compiled modules"] * 2


def test_another_lock_or_another_python_is_installed_anew(
    environment: bootstrap.Environment, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation is known by the digest of all that it depends on."""
    environment.prepare("demo")
    monkeypatch.setattr(sys, "version", "3.99")
    environment.prepare("demo")
    assert len(steps) == 4


def test_the_environment_of_another_python_is_not_used(tmp_path: Path) -> None:
    """Each interpreter has its own: `make` names it, and one of another Python is made anew."""
    mine = bootstrap.Environment(Path(sys.prefix))
    assert mine.is_ours()
    other = bootstrap.Environment(tmp_path)
    assert not other.is_ours()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text("#!/bin/sh\necho '3.99 (main) /usr'\n")
    python.chmod(0o755)
    assert not other.is_ours()


@pytest.mark.parametrize(
    ("python", "folder"),
    [
        ("python3", ".venv"),
        ("python3.13", ".venv-python3.13"),
        ("/opt/python/bin/python3", ".venv-opt-python-bin-python3"),
    ],
)
def test_make_keeps_the_environments_apart(python: str, folder: str) -> None:
    """And asks for the preparation of the very target, before anything else."""
    planned = subprocess.run(
        ["make", "--dry-run", "test", f"PYTHON={python}"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert planned[0] == f"{python} scripts/bootstrap.py --venv {folder} test"
    assert planned[-1].startswith(f"{folder}/bin/pytest ")
