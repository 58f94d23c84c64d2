"""The admin process: `python -P -m fluxhook.admin serve ALIVE_FD DATA_DIR [REPORT_FD [BEAT_FD]]`.

For the package's own use; the command for people is `fluxhook serve`.
"""

from __future__ import annotations

import sys

from fluxhook.errors import EngineError
from fluxhook.transport.process import described, name_process
from fluxhook.transport.readiness import tell


def _main() -> None:
    _, _role, alive_fd, data_dir, *rest = sys.argv
    name_process("admin", data_dir)
    try:
        from fluxhook.admin.server import main
    except Exception as error:  # a package that is broken, or of a version that does not fit
        if not rest:
            raise
        said = f"the admin API cannot be loaded: {described(error)}; install 'fluxhook[admin]' anew"
        tell(int(rest[0]), EngineError(said))
        raise SystemExit(1) from None
    main(data_dir, int(alive_fd), *map(int, rest))


_main()
