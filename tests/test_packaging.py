"""What is built from the sources, and what a machine says that cannot build them.

No test here needs a network: the build tools and the package's dependencies are those installed
beside the tests (extra `test`).
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[1]
PROJECT: Final = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())
#: what git does not have either
GENERATED: Final = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "__pycache__", "*.so", "*.c"
)

#: Run where nothing but the wheel is installed.
EXERCISE: Final = """
import hmac, os, sys, tempfile
import fluxhook
from fluxhook._native import event, ring, shared, signing, topics

assert sys.prefix in fluxhook.__file__, fluxhook.__file__
signer = signing.Signer(b"key")
assert signer.hex(b"1.", b"{}") == hmac.digest(b"key", b"1.{}", "sha256").hex().encode()
assert topics.Matcher([(7, ["route.*"], [])]).match("route.error") == (7,)
assert len(event.Ids().gateway()) == 24
with tempfile.TemporaryDirectory() as folder:
    shared.Words(os.path.join(folder, "words"), 1, 1).add(0, 0, 1)
    path = os.path.join(folder, "0.ring")
    ring.create_ring(path, 8, 65536, bytes(16))
    producer, consumer = ring.Producer(path), ring.Consumer(path)
    assert producer.put(bytes(4), b"head", b"body") == ring.ACCEPTED
    (delivery,) = consumer.take(8)
    assert (delivery.event, delivery.body) == (b"head", b"body")
    assert delivery.settle()
print(fluxhook.__version__)
"""


def run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and return both streams together; nothing of this process's imports reaches the
    child."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "CFLAGS"))}
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the sources as a clone has them, with nothing built."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("clone") / "fluxhook", ignore=GENERATED)


@pytest.fixture(scope="session")
def dist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist, and the wheel from it; without optimisation, which takes most of the time."""
    out = tmp_path_factory.mktemp("dist")
    command = sys.executable, "-m", "build", "--no-isolation", "-o", out
    built = run(*command, cwd=source, env={"FLUXHOOK_DEBUG": "1"})
    assert built.returncode == 0, built.stdout
    return out


@pytest.fixture(scope="session")
def sdist(dist: Path) -> set[str]:
    """Return the names in the sdist, below its one folder."""
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="session")
def wheel(dist: Path) -> set[str]:
    """Return the names in the wheel."""
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_sdist_has_all_that_a_build_needs(sdist: set[str]) -> None:
    """Every Cython source and interface, every C header, and the files that say how to build."""
    native = {f"_native/{path.name}" for path in ROOT.glob("_native/*.pyx")}
    native |= {f"_native/{path.name}" for path in ROOT.glob("_native/*.h")}
    native |= {str(p.relative_to(ROOT)) for p in ROOT.glob("engine/fluxhook/_native/*.pxd")}
    assert native | {"setup.py", "pyproject.toml", "LICENSE", "README.md", "Makefile"} <= sdist
    assert {"requirements/demo.txt", "requirements/dev.txt"} <= sdist


def test_the_sdist_can_be_tested(source: Path, sdist: set[str]) -> None:
    """Every file of the tests, the documents and the tools is in it, golden files included."""
    wanted = {
        str(path.relative_to(source))
        for folder in ("tests", "docs", "tools", "scripts", "bench", "deploy")
        for path in source.joinpath(folder).rglob("*")
        if path.is_file()
    }
    assert wanted <= sdist


def test_the_sdist_has_nothing_generated(sdist: set[str]) -> None:
    """Neither C from Cython, nor compiled modules, nor caches."""
    assert not [
        name
        for name in sdist
        if name.endswith((".so", ".pyc")) or re.fullmatch(r"(_native|build)/.*\.c", name)
    ]


def test_the_wheel_has_the_whole_package(source: Path, wheel: set[str]) -> None:
    """Every module, py.typed, every stub, the database schema: all under engine/fluxhook."""
    package = source / "engine"
    files = {str(p.relative_to(package)) for p in package.glob("fluxhook/**/*") if p.is_file()}
    assert {"fluxhook/py.typed", "fluxhook/_native/ring.pyi", "fluxhook/store/schema.sql"} <= files
    assert files <= wheel


def test_the_wheel_has_nothing_else_but_the_compiled_modules(source: Path, wheel: set[str]) -> None:
    """No sources of compiled modules, no tests."""
    extra = {n for n in wheel if ".dist-info/" not in n and not (source / "engine" / n).exists()}
    modules = {re.sub(r"\.cpython-.*\.so$", "", name) for name in extra}
    assert modules == {f"fluxhook/_native/{p.stem}" for p in ROOT.glob("_native/*.pyx")}
    assert len(extra) == len(modules)


@pytest.fixture(scope="session")
def empty(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the wheel, and what the wheel says it depends on: nothing more.

    The dependencies are copied from where the tests run, file by file as they were recorded.
    """
    folder = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(folder, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python")
    installed = run(*pip, "install", "--no-deps", *dist.glob("*.whl"), cwd=folder)
    assert installed.returncode == 0, installed.stdout
    (site,) = folder.glob("lib/python*/site-packages")
    wanted, copied = list(PROJECT["project"]["dependencies"]), set[str]()
    while wanted:
        requirement = Requirement(wanted.pop())
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not applies or requirement.name in copied:
            continue
        copied.add(requirement.name)
        distribution = importlib.metadata.distribution(requirement.name)
        wanted += distribution.requires or []
        for file in distribution.files or []:
            origin, target = Path(str(distribution.locate_file(file))), site / file
            if ".." not in file.parts and origin.suffix != ".pyc" and origin.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(origin, target)
    checked = run(*pip, "check", cwd=folder)
    assert checked.returncode == 0, checked.stdout
    return folder


def test_the_wheel_works_by_itself(empty: Path) -> None:
    """It imports, and its three compiled modules do their work, with its declared dependencies."""
    exercised = run(empty / "bin/python", "-W", "error", "-c", EXERCISE, cwd=empty)
    assert exercised.returncode == 0, exercised.stdout


def test_the_wheel_brings_the_command(empty: Path) -> None:
    """`fluxhook --version` names the version that the package has."""
    version = run(empty / "bin/python", "-c", EXERCISE, cwd=empty).stdout.strip()
    said = run(empty / "bin/fluxhook", "--version", cwd=empty)
    assert said.returncode == 0, said.stdout
    assert said.stdout.split()[-1] == version


# ---- what is missing ---------------------------------------------------------------------------

BUILD: Final = ("-m", "build", "--no-isolation", "--wheel")
PIP: Final = ("-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", "here", ".")
SETUP: Final = ("setup.py", "--quiet", "build_ext", "--inplace")


def complaints(output: str) -> list[str]:
    return [line.strip() for line in output.splitlines() if line.strip().startswith("fluxhook: ")]


@pytest.mark.parametrize("command", [BUILD, PIP, SETUP], ids=["build", "pip", "make"])
@pytest.mark.parametrize("env", [{"CC": "/nonexistent/cc"}, {"PATH": "/nonexistent"}], ids=str)
def test_a_missing_compiler_is_one_line(
    source: Path, command: tuple[str, ...], env: dict[str, str]
) -> None:
    """However it is built: what is missing, all packages that a build needs, and no traceback.

    `make` calls the third of these commands.
    """
    built = run(sys.executable, *command, cwd=source, env=env)
    assert built.returncode != 0
    (line,) = complaints(built.stdout)
    assert line.startswith("fluxhook: no working C compiler (")
    assert line.endswith("on Debian: apt-get install gcc libc6-dev python3-dev libssl-dev")
    assert "Traceback" not in built.stdout
    assert command != SETUP or built.stdout.strip() == line


@pytest.mark.parametrize(
    ("header", "package"), [("openssl/sha.h", "libssl-dev"), ("Python.h", "python3-dev")]
)
@pytest.mark.parametrize("command", [BUILD, SETUP], ids=["build", "make"])
def test_a_missing_header_is_one_line(
    source: Path, tmp_path: Path, command: tuple[str, ...], header: str, package: str
) -> None:
    """The same for OpenSSL's and Python's headers, here spoilt by one that comes before them."""
    spoilt = tmp_path / header
    spoilt.parent.mkdir(exist_ok=True)
    spoilt.write_text("#error not here\n")
    built = run(sys.executable, *command, cwd=source, env={"CFLAGS": f"-I{tmp_path}"})
    assert built.returncode != 0
    (line,) = complaints(built.stdout)
    assert line.endswith(f" headers ({header}); on Debian: apt-get install {package}")
    assert "Traceback" not in built.stdout
    assert "not here" not in built.stdout


def test_an_sdist_needs_no_compiler(source: Path, tmp_path: Path) -> None:
    """A machine that packs the sources need not be able to build them."""
    env = {"CC": "/nonexistent/cc"}
    command = ("-m", "build", "--no-isolation", "--sdist", "-o", str(tmp_path))
    packed = run(sys.executable, *command, cwd=source, env=env)
    assert packed.returncode == 0, packed.stdout
