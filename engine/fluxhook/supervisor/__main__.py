"""The body of every child process: `python -P -m fluxhook.supervisor ROLE ALIVE_FD ARGUMENTS`.

For the package's own use; the command for people is `fluxhook serve`.
"""

from __future__ import annotations

import signal
import sys

from fluxhook.transport import process


def main() -> None:
    role, alive_fd, data_dir, *rest = sys.argv[1:]
    # Ctrl-C reaches a terminal's whole process group; who started us decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if role == "worker":
        from fluxhook.worker import worker

        process.name_process(f"worker {rest[0]}", data_dir)
        worker.main(data_dir, int(rest[0]), int(alive_fd), *map(int, rest[1:]))
    else:
        from fluxhook.supervisor import supervisor

        host = process.name_process("supervisor", data_dir)
        supervisor.embedded_main(data_dir, int(alive_fd), ready_fd=int(rest[0]), host=host)


main()
