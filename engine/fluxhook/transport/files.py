"""Small files, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from fluxhook._native.shared import is_own, open_own

__all__ = [
    "FULL",
    "make_folder",
    "overwrite_file",
    "read_file",
    "replace_file",
    "sync_folder",
    "write_all",
]

#: how the system says that there is no room
FULL = (errno.ENOSPC, errno.EDQUOT)


def write_all(fd: int, data: bytes) -> None:
    """Write all of the data. Raises OSError; some of it may be written then.

    One write(2) may take a part only, on a disk that becomes full, and say so by its result alone.
    """
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Make a folder of its owner's alone, on the disk when this returns, if there is none.

    Raises OSError where something else is: a link or another user's folder, too.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        if not is_own(found, path.parent):
            raise OSError(errno.EPERM, "it belongs to another user", str(path)) from None
        return
    path.chmod(0o700)  # under any umask
    sync_folder(path.parent)


def read_file(path: Path) -> bytes:
    """Return what a file of this user's holds. Raises OSError for a link, or anything else."""
    with open(open_own(path, os.O_RDONLY), "rb") as file:
        return file.read()


def replace_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Put a file in place that only its owner may read, with `sync` on the disk when this returns.

    It is written beside, so that a reader, and a process that starts after a full disk or a power loss,
    finds the old one or the new one. Raises OSError, having changed nothing.
    """
    temporary = path.with_suffix(".new")
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        fd = open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(fd, data)
            if sync:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def overwrite_file(path: Path, data: bytes) -> None:
    """Write a text over that of a file, on the disk when this returns, in the blocks that it has.

    For a full disk, where `replace_file` has no room. Spaces fill it up to its former length, so that
    one write does all of it, and who reads it finds the old text or the new one. Raises OSError, having
    changed nothing where the blocks do not suffice.
    """
    fd = open_own(path, os.O_WRONLY)
    try:
        found = os.fstat(fd)
        if len(data) > found.st_blocks * 512:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_all(fd, data.ljust(found.st_size))
        os.fdatasync(fd)
    finally:
        os.close(fd)
