"""A build of the ring in which a process can be killed, or stopped, at a named step of ring.h."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from native.rings import NATIVE, compile_c

HERE = Path(__file__).parent
SOURCES = [NATIVE / "ring.pyx", NATIVE / "ring.h", NATIVE / "crc32c.h", HERE / "ring_steps.h"]


class Stepped:
    """`ring` is the module; `arm` acts on this process and on children that it forks afterwards."""

    def __init__(self, cache: Path) -> None:
        with open(cache.with_suffix(".lock"), "w") as lock:  # other test processes want it as well
            fcntl.flock(lock, fcntl.LOCK_EX)
            library = _built(cache)
        spec = importlib.util.spec_from_file_location("stepped.ring", library)
        assert spec is not None
        assert spec.loader is not None
        self.ring: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.ring)
        self._c = ctypes.CDLL(str(library))

    def fail_syncs(self, times: int) -> None:
        """The next syncs of files fail with EIO."""
        self._c.fx_fail_syncs(times)

    def arm(self, step: str, nth: int, signal: int) -> None:
        """The nth step of that name (any, if empty) from now on raises `signal`."""
        self._c.fx_step_arm(step.encode(), nth, signal)


def _built(cache: Path) -> Path:
    """Compile the module unless the cache has it for these very sources."""
    digest = hashlib.sha256(sys.version.encode())
    for source in SOURCES:
        digest.update(source.read_bytes())
    folder = cache / digest.hexdigest()[:16]
    library = folder / "ring.so"
    if library.exists():
        return library
    shutil.rmtree(cache, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in SOURCES:
        shutil.copy(source, folder)
    cython = [sys.executable, "-m", "cython", "-3", "-X", "boundscheck=True", "ring.pyx"]
    subprocess.run(cython, cwd=folder, check=True)
    options = ["-O1", "-UNDEBUG", "-shared", "-fPIC", '-DFX_STEPS="ring_steps.h"']
    include = sysconfig.get_paths()["include"]
    built = compile_c(folder, f"ring.{os.getpid()}.so", *options, f"-I{include}", "ring.c")
    built.rename(library)
    return library
