"""Makes .venv ready: the compiled modules, the package as an editable install, what the tests need.

    python3 scripts/bootstrap.py

`make` calls it whenever its inputs have changed. It needs nothing but the standard library, and it
does only what was not done before. Where the system lacks something it ends with one line that
names the Debian package.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
#: what was installed, as a digest; make compares the age of the other one with the sources'
INSTALLED, READY = VENV / "installed", VENV / "ready"


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  this file runs before pip could check it
        end(f"Python 3.11 or newer is needed, and {sys.executable} is {sys.version.split()[0]}")
    os.chdir(ROOT)
    if not works(PYTHON):
        make_venv()
    import tomllib  # not above, where an old Python would stumble over it

    project = Path("pyproject.toml").read_bytes()
    state = hashlib.sha256(project + repr((sys.version, str(ROOT))).encode()).hexdigest()
    fresh = not INSTALLED.exists() or INSTALLED.read_text() != state
    # First what is most likely to be missing, a compiler; then the long downloads.
    if fresh:
        say("installing the build tools")
        pip("install", *tomllib.loads(project.decode())["build-system"]["requires"])
    say("building the compiled modules")
    run(str(PYTHON), "setup.py", "--quiet", "build_ext", "--inplace")
    if fresh:
        say("installing the package and what its tests need")
        pip("install", "--no-build-isolation", "--editable", ".[test]")
        INSTALLED.write_text(state)
    READY.touch()


def make_venv() -> None:
    try:
        import ensurepip  # noqa: F401  Debian has it in a package of its own, and venv needs it
    except ImportError:
        end("python3 cannot make virtual environments; on Debian: apt-get install python3-venv")
    say("making .venv")
    run(sys.executable, "-m", "venv", "--clear", str(VENV))


def works(python: Path) -> bool:
    """Whether the environment is whole: it may be of another machine, or its Python gone."""
    try:
        return subprocess.run([python, "-m", "pip", "-V"], capture_output=True).returncode == 0
    except OSError:
        return False


def pip(*arguments: str) -> None:
    run(str(PYTHON), "-m", "pip", "-qq", "--disable-pip-version-check", *arguments)


def run(*command: str) -> None:
    if code := subprocess.run(command).returncode:
        sys.exit(code)


def say(text: str) -> None:
    print(f"fluxhook: {text}", flush=True)


def end(text: str) -> None:
    sys.exit(f"fluxhook: {text}")


main()
