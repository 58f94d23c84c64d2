"""A file system of its own for a test program: of any size, full or read-only, for root and others."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

__all__ = ["fill", "free_bytes", "make", "run"]


@functools.cache
def _namespace() -> tuple[str, ...]:
    """Return the command before one that may mount something that nobody else sees."""
    tries = [[], ["--map-root-user"]]  # root, and a user that is root in a namespace
    propagations = ["private", "unchanged"]  # the latter in a chroot, which may change no more
    said = ""
    with tempfile.TemporaryDirectory() as folder:
        for user, propagation in itertools.product(tries, propagations):
            command = ("unshare", *user, "--mount", "--propagation", propagation)
            mount = 'mount -t tmpfs tried "$0" && umount "$0"'
            tried = subprocess.run(
                [*command, "sh", "-c", mount, folder], capture_output=True, text=True, check=False
            )
            if tried.returncode == 0:
                return command
            said += tried.stderr
    raise AssertionError(f"no file system can be mounted here, in any way:\n{said}")


def run(module: str, function: str, mountpoint: Path, size: str = "96m") -> str:
    """Call a function of a test module with the mountpoint, in a process of its own that has a tmpfs
    there; return what it printed. AssertionError with its output if it fails."""
    mountpoint.mkdir()
    mount = f'mount -t tmpfs -o size={size} test "$0" && "$@"; said=$?; umount -l "$0"; exit $said'
    call = f"import sys, pathlib, {module} as m; m.{function}(pathlib.Path(sys.argv[1]))"
    program = [sys.executable, "-c", call, str(mountpoint)]
    done = subprocess.run(
        [*_namespace(), "sh", "-c", mount, str(mountpoint), *program],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def fill(mountpoint: Path) -> Path:
    """Leave no byte; return the file to be removed for room."""
    filler = mountpoint / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert free_bytes(mountpoint) == 0
    return filler


def free_bytes(mountpoint: Path) -> int:
    found = os.statvfs(mountpoint)
    return found.f_bavail * found.f_frsize


def make(mountpoint: Path, mode: Literal["ro", "rw"]) -> None:
    """Return whether anybody may write there."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(mountpoint)], check=True)
