"""A build of the rings in which a process can be killed, or stopped, at a named step of ring.h."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from native.rings import NATIVE, Native, compile_c

HERE = Path(__file__).parent
INTERFACES = NATIVE.parent / "engine/fluxhook/_native"
#: in the order in which they need each other
MODULES = ("shared", "ring")
SOURCES = [
    *(NATIVE / f"{name}.pyx" for name in MODULES),
    *(INTERFACES / f"{name}.pxd" for name in MODULES),
    *(NATIVE / header for header in ("counters.h", "ring.h", "crc32c.h")),
    HERE / "ring_steps.h",
]
#: of the package that they are built as
PACKAGE = "stepped"


class Stepped:
    """`native` are the modules; `arm` acts on this process and on children that it forks afterwards."""

    def __init__(self, cache: Path) -> None:
        with open(cache.with_suffix(".lock"), "w") as lock:  # other test processes want it as well
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = _built(cache)
        # What is armed is one variable: that of the first module, for both.
        self._c = ctypes.CDLL(str(folder / PACKAGE / "shared.so"), ctypes.RTLD_GLOBAL)
        sys.path.insert(0, str(folder))
        try:
            self.native = Native(*(importlib.import_module(f"{PACKAGE}.{n}") for n in MODULES))
        finally:
            sys.path.remove(str(folder))

    def fail_syncs(self, times: int) -> None:
        """The next syncs of files fail with EIO."""
        self._c.fx_fail_syncs(times)

    def arm(self, step: str, nth: int, signal: int) -> None:
        """The nth step of that name (any, if empty) from now on raises `signal`."""
        self._c.fx_step_arm(step.encode(), nth, signal)


def _built(cache: Path) -> Path:
    """Compile the modules unless the cache has them for these very sources; return their package's
    folder."""
    digest = hashlib.sha256(sys.version.encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    folder = cache / digest.hexdigest()[:16]
    if folder.exists():
        return folder
    shutil.rmtree(cache, ignore_errors=True)
    building = folder.with_suffix(".new")
    package = building / PACKAGE
    package.mkdir(parents=True)
    package.joinpath("__init__.py").touch()
    for source in SOURCES:
        shutil.copy(source, package)
    options = ["-O1", "-UNDEBUG", "-shared", "-fPIC", '-DFX_STEPS="ring_steps.h"']
    include = sysconfig.get_paths()["include"]
    for name in MODULES:
        cython = [sys.executable, "-m", "cython", "-3", "-X", "boundscheck=True", f"{name}.pyx"]
        subprocess.run(cython, cwd=package, check=True)
        compile_c(package, f"{name}.so", *options, f"-I{include}", f"{name}.c")
    building.rename(folder)
    return folder
