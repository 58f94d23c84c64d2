"""The admin process: `python -m fluxhook.admin serve ALIVE_FD DATA_DIR [BEAT_FD]`.

For the package's own use; the command for people is `fluxhook serve`.
"""

from __future__ import annotations

import sys

from fluxhook.admin.server import main
from fluxhook.runtime.process import name_process


def _main() -> None:
    _, _role, alive_fd, data_dir, *beat_fd = sys.argv
    name_process("admin", data_dir)
    main(data_dir, int(alive_fd), *map(int, beat_fd))


_main()
