"""Find the oldest and the newest Python on this machine that the package supports, for CI.

    python3 scripts/interpreters.py

prints their commands on one line: one command where there is only one. What was found where goes to
standard error. Looks at `python3` and `python3.X` in PATH, at the versions of pyenv and at those of uv;
of those with the same X the first one counts, so that what `python3` is here comes before others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterable  # noqa: UP035  the machine's python3 may be an old one

ROOT = Path(__file__).resolve().parent.parent
#: what a CPython without these cannot run
PROBE = """
import bz2, ctypes, ssl, sqlite3, sys, sysconfig, zlib
assert sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")
assert sys.version_info.releaselevel == "final"
print(*sys.version_info[:3], sep=".")
"""


def supported() -> list[str]:
    """Return the minor versions that the classifiers in pyproject.toml name, the oldest first."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    return sorted(found, key=minor)


def minor(version: str) -> int:
    return int(version.split(".")[1])


def candidates() -> Iterable[str]:
    yield "python3"
    for version in supported():
        yield "python" + version
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    for folder in (pyenv, uv):
        for path in sorted(folder.glob("*/bin/python3")):
            yield str(path)


def version_of(command: str) -> str | None:
    """Return its version; None where it cannot be run, or lacks what the engine needs."""
    try:
        done = subprocess.run([command, "-c", PROBE], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def choose(found: Iterable[tuple[str, str]], wanted: list[str]) -> list[tuple[str, str]]:
    """Return the oldest and the newest of commands with their versions; one if there is only one."""
    first: dict[str, tuple[str, str]] = {}
    for command, version in found:
        first.setdefault(version.rpartition(".")[0], (command, version))
    usable = [first[version] for version in wanted if version in first]
    return usable if len(usable) < 2 else [usable[0], usable[-1]]


def main() -> None:
    wanted = supported()
    known = [(command, version_of(command)) for command in candidates()]
    chosen = choose([(command, version) for command, version in known if version], wanted)
    if not chosen:
        sys.exit(f"fluxhook: no Python from {wanted[0]} to {wanted[-1]} is here")
    for name, (command, version) in zip(("oldest", "newest"), chosen):  # noqa: B905
        print(f"fluxhook: the {name} Python here is {version}: {command}", file=sys.stderr)
    if len(chosen) == 1:
        print(
            "fluxhook: no other Python that is supported is here",
            file=sys.stderr,
        )
    print(*(command for command, _ in chosen))


if __name__ == "__main__":
    main()
