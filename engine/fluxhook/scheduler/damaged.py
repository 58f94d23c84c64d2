"""What the scheduler cannot read is kept for a person to look into."""

from __future__ import annotations

from pathlib import Path

from fluxhook.transport.files import make_folder, replace_file

__all__ = ["keep"]


def keep(folder: Path, name: str, content: bytes) -> None:
    """Put it into the folder of damaged files. Raises OSError."""
    make_folder(folder)
    replace_file(folder / name, content)
