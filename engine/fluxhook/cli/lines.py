"""Numbered lines of a stream, and a bar that shows how far it is read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["MAX_LINE_BYTES", "Bar", "Lines"]

#: Of a longer line only so much is kept. No event can be larger: the most of max_event_bytes.
MAX_LINE_BYTES = 256 * 1024 * 1024
#: between two looks at the bar
REFRESH_S = 0.1


class Lines:
    """The lines of a stream, from number 1; of one over `max_bytes` the first `max_bytes` + 1."""

    def __init__(self, file: BinaryIO, max_bytes: int = MAX_LINE_BYTES) -> None:
        self.number = 0
        self.bytes_read = 0
        self._file = file
        self._max_bytes = max_bytes
        try:
            #: None for what has no size, such as a pipe
            self.size: int | None = os.fstat(file.fileno()).st_size or None
        except (OSError, ValueError):
            self.size = None

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline(self._max_bytes + 1):
            self.number += 1
            self.bytes_read += len(line)
            rest = line
            while not rest.endswith(b"\n") and (rest := self._file.readline(1 << 20)):
                self.bytes_read += len(rest)
            # Windows programs begin a file with a byte order mark.
            yield line.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else line


class Bar:
    """Shows on a terminal how far `lines` are read, and nothing elsewhere."""

    def __init__(self, console: Console, lines: Lines) -> None:
        self._lines = lines
        self._due_at = 0.0
        self._progress = Progress(
            TextColumn("emitting"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=lines.size, said="")

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due_at

    def update(self, said: str) -> None:
        self._due_at = time.monotonic() + REFRESH_S
        self._progress.update(self._task, completed=self._lines.bytes_read, said=said)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
