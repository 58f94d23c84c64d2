"""Prepare the machine and a virtual environment for a target of the Makefile.

    python3 scripts/bootstrap.py [--venv FOLDER] demo|lint|build|debug|bench|test

`make` calls it before each target, and it does only what was not done before:

1. the Debian packages that the target needs, where it may install them: as root, or by `sudo -n`, which
   never asks for a password. Otherwise it ends with one line that names them.
   For the tests it mounts /dev/pts too, which a chroot may lack.
2. the virtual environment of this interpreter, with the locked packages (requirements/*.txt, by hash);
3. the compiled modules.

It needs nothing but the standard library. What is there is found out by trying it, not by the names of
packages: a Python of pyenv or uv brings headers of its own, and not every machine is a Debian.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Callable, NamedTuple  # noqa: UP035  an old Python has to get as far as main

ROOT = Path(__file__).resolve().parent.parent
#: not in every user's PATH
SBIN = ":/usr/sbin:/usr/local/sbin"
#: what no package brings, but a mount
TERMINALS = "pseudo-terminals (/dev/pts)"
#: A bare Debian may lack the command `mount`.
MOUNT_TERMINALS = """
import ctypes
ctypes.CDLL(None).mount(b"devpts", b"/dev/pts", b"devpts", 0, b"ptmxmode=0666")
"""
#: Debian's package of each program
PROGRAMS = {
    "openssl": "openssl",
    "nginx": "nginx-light",
    "go": "golang-go",
    "valgrind": "valgrind",
    "chromium": "chromium",
    "systemd-analyze": "systemd",
    "prometheus": "prometheus",
}
#: Each target: its lock in requirements/, and the programs that it runs.
TARGETS = {
    "demo": ("demo", []),
    "lint": ("dev", []),
    "build": ("dev", []),
    "debug": ("dev", []),
    "bench": ("dev", ["openssl", "nginx", "go"]),
    "test": ("dev", list(PROGRAMS)),
}


# ---- the machine ---------------------------------------------------------------------------------


class Need(NamedTuple):
    """Something that must be there. `packages` are Debian's; none if no package brings it."""

    what: str
    packages: tuple[str, ...]
    there: Callable[[], bool]


def needs(target: str) -> list[Need]:
    found = [
        Need(f"a C compiler ({compiler()[0]})", ("gcc", "libc6-dev"), lambda: includes("stdlib.h")),
        Need("Python's headers (Python.h)", of_this_python("dev"), lambda: includes("Python.h")),
        Need("OpenSSL's headers", ("libssl-dev",), lambda: includes("openssl/sha.h")),
        Need("Python's ensurepip", of_this_python("venv"), has_ensurepip),
    ]
    for name in TARGETS[target][1]:
        found.append(Need(name, (PROGRAMS[name],), functools.partial(has_program, name)))
    if target == "test":
        found.append(Need(TERMINALS, (), has_terminals))
    return found


def missing(target: str) -> list[Need]:
    return [need for need in needs(target) if not need.there()]


def compiler() -> list[str]:
    """Return the command that builds extensions of this Python (setuptools asks the same)."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def includes(header: str) -> bool:
    folders = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    command = [*compiler(), *("-I" + folder for folder in folders), "-E", "-xc", "-"]
    source = f"#include <{header}>\n".encode()
    try:
        return subprocess.run(command, input=source, capture_output=True).returncode == 0
    except OSError:
        return False


def has_ensurepip() -> bool:
    try:
        import ensurepip  # noqa: F401  Debian has it in a package of its own, and venv needs it
    except ImportError:
        return False
    return True


def has_program(name: str) -> bool:
    return shutil.which(name, path=os.environ.get("PATH", "") + SBIN) is not None


def has_terminals() -> bool:
    try:
        for fd in os.openpty():
            os.close(fd)
    except OSError:  # as in a chroot
        return False
    return True


def of_this_python(part: str) -> tuple[str, ...]:
    """Return Debian's package with a part of this interpreter; none for one that is not Debian's."""
    if sys.base_prefix != "/usr":
        return ()
    version = "python{}.{}".format(*sys.version_info)
    default = os.path.basename(os.path.realpath("/usr/bin/python3")) == version
    return (("python3-" if default else version + "-") + part,)


def prepare_machine(target: str) -> None:
    """Install what is missing, or end with one line about it."""
    lacking = missing(target)
    if not lacking:
        return
    packages = packages_of(lacking)
    root = as_root()
    if root is not None and TERMINALS in [need.what for need in lacking]:
        subprocess.run([*root, sys.executable, "-c", MOUNT_TERMINALS], capture_output=True)
        lacking = missing(target)
    if packages and root is not None and shutil.which("apt-get"):
        say("installing " + " ".join(packages))
        apt_get(root, "update")
        said = apt_get(root, "install", "-y", "--no-install-recommends", *packages)
        lacking = missing(target)
        if lacking and said:
            end(explain(target, lacking) + " (it failed: " + said + ")")
    if lacking:
        end(explain(target, lacking))


def packages_of(lacking: list[Need]) -> list[str]:
    return list(dict.fromkeys(package for need in lacking for package in need.packages))


def explain(target: str, lacking: list[Need]) -> str:
    """Return what is missing and, on a Debian, what to install, in one line."""
    said = "make {} needs {}".format(target, ", ".join(need.what for need in lacking))
    packages = packages_of(lacking)
    if packages and shutil.which("apt-get"):
        said += "; as root: apt-get install " + " ".join(packages)
    return said


def as_root() -> list[str] | None:
    """Return what a command of root begins with; None where nobody lets us without asking."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        tried = ["sudo", "-n", "true"]
        if subprocess.run(tried, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
            return ["sudo", "-n"]
    return None


def apt_get(root: list[str], *arguments: str) -> str:
    """Run apt-get, which asks nothing; return its error, or nothing."""
    command = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    command += ["-o", "DPkg::Lock::Timeout=300", *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
    )
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return [*errors, *lines[-1:], "apt-get"][0]


# ---- the virtual environment ---------------------------------------------------------------------


class Environment:
    """The virtual environment of this interpreter in a folder, and what is installed there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin/python"

    def prepare(self, lock: str) -> None:
        """Bring it to the state of the lock, and the compiled modules to that of their sources."""
        if not self.is_ours():
            say("making " + self.folder.name)
            run(sys.executable, "-m", "venv", "--clear", str(self.folder))
        # The lock of development holds that of the demo.
        if not any(self._is_done(name, self._wanted(name)) for name in (lock, "dev")):
            say(f"installing the packages of requirements/{lock}.txt")
            self._pip("--require-hashes", "--requirement", f"requirements/{lock}.txt")
            self._note(lock, self._wanted(lock))
        package = digest([Path("pyproject.toml")])
        sources = [*Path("_native").glob("*.[hp]*"), *Path("engine/fluxhook/_native").glob("*.pxd")]
        modules = digest([Path("setup.py"), *sorted(sources)])
        if not self._is_done("package", package):
            say("building the compiled modules")
            self._pip("--no-deps", "--no-build-isolation", "--editable", ".")
            self._note("package", package)
            self._note("modules", modules)
        elif not self._is_done("modules", modules) or not has_modules():
            say("building the compiled modules")
            run(str(self.python), "setup.py", "--quiet", "build_ext", "--inplace")
            self._note("modules", modules)

    def is_ours(self) -> bool:
        """Return whether it is whole and of this interpreter: it may be another's, or its Python
        gone."""
        script = "import pip, sys; print(sys.version, sys.base_prefix)"
        try:
            said = subprocess.run([self.python, "-c", script], capture_output=True, text=True)
        except OSError:
            return False
        return said.stdout.strip() == f"{sys.version} {sys.base_prefix}"

    def _wanted(self, lock: str) -> str:
        return digest([Path("pyproject.toml"), Path("requirements", lock + ".txt")])

    def _is_done(self, step: str, state: str) -> bool:
        note = self.folder / f"ready-{step}"
        return note.exists() and note.read_text() == state

    def _note(self, step: str, state: str) -> None:
        (self.folder / f"ready-{step}").write_text(state)

    def _pip(self, *arguments: str) -> None:
        pip = [str(self.python), "-m", "pip", "-qq", "--disable-pip-version-check"]
        run(*pip, "install", *arguments)


def digest(files: list[Path]) -> str:
    """Return a digest of what an installation or a build depends on."""
    found = hashlib.sha256(repr((sys.version, str(ROOT))).encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()


def has_modules() -> bool:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = {path.name for path in Path("engine/fluxhook/_native").glob("*" + suffix)}
    return {path.stem + suffix for path in Path("_native").glob("*.pyx")} <= built


# ---- the command ---------------------------------------------------------------------------------


def run(*command: str) -> None:
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)


def say(text: str) -> None:
    print("fluxhook: " + text, flush=True)


def end(text: str) -> None:
    sys.exit("fluxhook: " + text)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument("target", choices=TARGETS)
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036  this file runs before pip could check it
        version = sys.version.split()[0]
        end(f"Python 3.11 or newer is needed, and {sys.executable} is {version}")
    os.chdir(ROOT)
    prepare_machine(arguments.target)
    Environment(ROOT / arguments.venv).prepare(TARGETS[arguments.target][0])


if __name__ == "__main__":
    main()
