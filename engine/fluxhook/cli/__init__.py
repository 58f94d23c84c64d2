"""The command line: one module for each command, loaded when it is called."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command `fluxhook`; this is its entry point."""
    if os.getpid() == 1:  # in a container: what has no handler the kernel does not even deliver
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        run()
    except KeyboardInterrupt:  # before a command begins, or after it has ended
        sys.exit(128 + signal.SIGINT)


def run() -> None:
    from fluxhook.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a check mark must not fail under Latin-1
    os.environ.pop(
        "SSLKEYLOGFILE", None
    )  # else TLS to the API would be decrypted by the one who set it
    try:
        app(prog_name="fluxhook")
    except OSError as error:  # --help writes before any command begins
        sys.exit(f"Error: {error.strerror or error}")
    finally:
        _give_up_output()


def _give_up_output() -> None:
    """Point stdout nowhere if it still cannot be written, or the interpreter would fail once more as it
    ends, with a traceback and a status of its own (docs.python.org, "Note on SIGPIPE")."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError):  # there is none, or it is closed
        pass
