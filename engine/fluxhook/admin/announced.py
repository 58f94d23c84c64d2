"""`admin.json`: how programs on the engine's host find the admin API."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fluxhook.transport.files import read_file, replace_file

__all__ = ["AdminFile"]


class AdminFile(msgspec.Struct, frozen=True):
    """Where the API listens, and a token of all scopes for those who may read the file."""

    url: str
    token: str = ""
    pid: int = 0

    def save(self, path: Path) -> None:
        """Write it whole, readable by its owner alone. Raises OSError."""
        replace_file(path, msgspec.json.encode(self), sync=False)

    @classmethod
    def load(cls, path: Path) -> AdminFile:
        """Read the file. Raise OSError, or msgspec.MsgspecError for one that is damaged."""
        return msgspec.json.decode(read_file(path), type=cls)
