"""A host and its engine under a wall clock that the test sets, in processes of their own.

Only the wall clock moves, as when an operator or NTP sets it: `clock.c` is preloaded into the host,
and its engine, workers and admin process inherit that.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from fluxhook import Config, Engine, connect
from fluxhook.config import codec
from fluxhook.transport.datadir import DataDir

__all__ = ["Host", "WallClock"]

_SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """The wall clock of the processes that are started with `environ`."""

    def __init__(self, directory: Path) -> None:
        library, page = directory / "clock.so", directory / "clock"
        subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)], check=True
        )
        page.write_bytes(bytes(mmap.PAGESIZE))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.environ = {"LD_PRELOAD": str(library), "FLUXHOOK_TEST_CLOCK": str(page)}

    def step(self, seconds: float) -> None:
        """Set the clock forward, or back by less than nothing."""
        (offset_ns,) = struct.unpack_from("=q", self._page)
        struct.pack_into("=q", self._page, 0, offset_ns + int(seconds * 1e9))

    @property
    def offset_s(self) -> float:
        """The time that it is ahead of the test's own."""
        return float(struct.unpack_from("=q", self._page)[0]) / 1e9


class Host:
    """A process that emits, with an engine of its own if it gets a configuration."""

    def __init__(self, data_dir: Path, clock: WallClock, config: Config | None = None) -> None:
        self.data_dir = data_dir
        file = data_dir.with_suffix(".host.json")
        file.write_bytes(b"" if config is None else codec.encode(config))
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(data_dir), str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | clock.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        )
        self._read()

    def emit(self, type: str, data: Any = None) -> int:
        """Return what `emit` returned there."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([type, data]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the host has ended"
        return int(line)

    def kill(self) -> None:
        """Send SIGKILL to the host and its supervisor; the workers leave with them."""
        supervisor = json.loads(DataDir(self.data_dir).engine_file.read_text())["pid"]
        self._process.kill()
        os.kill(supervisor, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Make the engine drain and end."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(30)

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _main(data_dir: str, config_file: str) -> None:
    encoded = Path(config_file).read_bytes()
    engine = Engine(codec.decode(encoded, Config), data_dir) if encoded else None
    if engine is not None:
        engine.start()
    with connect(data_dir) as publisher:
        print(0, flush=True)
        for line in sys.stdin:
            type, data = json.loads(line)
            print(publisher.emit(type, data), flush=True)
    if engine is not None:
        engine.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
