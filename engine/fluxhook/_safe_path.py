"""Python's `-P`, for those who start `python -m fluxhook` without it.

With `-m` the working directory comes first in `sys.path`, so a `queue.py` beside the configuration
would be executed with the engine's rights. This module is imported before any other of the package,
and imports nothing but `sys`, which is compiled in. What Python itself imports to find the package
(runpy: `contextlib`, `functools`, ...) is beyond its reach; `python -P -m fluxhook` covers that too.
"""

import sys


def _is_own_command() -> bool:
    """Return True while `python -m fluxhook...` looks for the module that it is to run.

    Until then `sys.argv[0]` is `-m` (docs.python.org, "Command line", `-m`).
    """
    if sys.argv[:1] != ["-m"]:
        return False
    word = sys.orig_argv[-len(sys.argv)]  # `fluxhook.cli`, or `-mfluxhook.cli`
    module = word.partition("m")[2] if word.startswith("-") else word
    return module.partition(".")[0] == "fluxhook"


if _is_own_command() and not sys.flags.safe_path:
    del sys.path[0]
