"""Where the admin API is: at a URL that was given, or where a data directory says."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fluxhook.admin.announced import AdminFile
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from fluxhook.errors import FluxhookError
from fluxhook.stats import is_running
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.files import read_file
from fluxhook.transport.snapshot import Snapshot

if TYPE_CHECKING:
    from fluxhook.cli.api_client import Api

__all__ = ["Remote", "announced"]


#: what an admin API needs to start on a busy machine
STARTING_S = 10.0


class _EngineFile(msgspec.Struct):
    """What a running engine leaves there (`supervisor/supervisor.py`)."""

    started: float
    sidecar: str | None = msgspec.field(default=None, name="companion")


class Remote(NamedTuple):
    """`url` is None unless it was given; then `data_dir` tells."""

    url: str | None
    token: str
    data_dir: str

    def connect(self) -> Api:
        """Return a client of the admin API. Raise Failure where there is none, and say what to do."""
        from fluxhook.cli.api_client import Api

        if self.url is not None:
            return Api(self.url, self.token)
        datadir = DataDir(self.data_dir)
        file = announced(datadir)
        deadline = time.monotonic() + STARTING_S
        while file is None and _starting(datadir) and time.monotonic() < deadline:
            time.sleep(0.05)
            file = announced(datadir)
        if file is None:
            raise _absent(datadir)
        pinned = _certificate(datadir) if file.url.startswith("https:") else None
        return Api(file.url, file.token, pinned=pinned, absent=lambda: _absent(datadir))


def announced(datadir: DataDir) -> AdminFile | None:
    """Return where the admin API of a data directory is; None if none runs."""
    path = datadir.admin_file
    try:
        file = AdminFile.load(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Failure(
            f"{path} cannot be read: {error.strerror}",
            ExitCode.DENIED,
            remedy="run as the engine's user, or give --api and a token",
        ) from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Failure(
            f"{path} is damaged: {error}", remedy="start the engine again, which writes it anew"
        ) from None
    # One that was killed has left its file, and its port may be another program's by now.
    return file if not file.pid or _alive(file.pid) else None


def _starting(datadir: DataDir) -> bool:
    """Return whether an engine that has just begun is about to bring its admin API up."""
    try:
        engine = msgspec.json.decode(read_file(datadir.engine_file), type=_EngineFile)
    except (OSError, msgspec.MsgspecError):
        return False
    young = 0 <= time.time() - engine.started < STARTING_S
    return engine.sidecar is not None and young and is_running(datadir)


def _absent(datadir: DataDir) -> Failure:
    """Return why there is no API, and what to do about it."""
    where = datadir.path
    if not (datadir.engine_lock.exists() and is_running(datadir)):
        return Failure(
            f"no engine runs on {where}",
            ExitCode.NOT_RUNNING,
            remedy="start one with `fluxhook serve -c FILE`, or name another with --data-dir or --api",
        )
    return Failure(
        f"the engine on {where} runs without its admin API",
        ExitCode.UNREACHABLE,
        remedy=f"start it with `fluxhook admin --data-dir {where}`",
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _certificate(datadir: DataDir) -> str | None:
    """Return the certificate that the API of this data directory has: the URL need not be a name in
    it."""
    try:
        return Snapshot.load(datadir).config.admin.cert
    except (FluxhookError, OSError):
        return None
