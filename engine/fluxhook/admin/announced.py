"""`admin.json`: how programs on the engine's host find the admin API."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

__all__ = ["AdminFile"]


class AdminFile(msgspec.Struct, frozen=True):
    """Where the API listens, and a token of all scopes for whoever may read the file."""

    url: str
    token: str = ""
    pid: int = 0

    def save(self, path: Path) -> None:
        """Writes it whole, readable by its owner alone."""
        temporary = path.with_suffix(".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(self))
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> AdminFile:
        """Raises OSError, or msgspec.MsgspecError for one that is damaged."""
        return msgspec.json.decode(path.read_bytes(), type=cls)
