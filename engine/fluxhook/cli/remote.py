"""Where the admin API is: at a URL that was given, or where a data directory says."""

from __future__ import annotations

import os
import shlex
import time
from importlib.util import find_spec
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

__all__ = ["Remote", "announced", "has_own_api"]


#: what an admin API needs to start on a busy machine
STARTING_S = 10.0


class _EngineFile(msgspec.Struct):
    """What a running engine leaves there (`supervisor/supervisor.py`)."""

    started: float
    sidecar: str | None = msgspec.field(default=None, name="companion")


class Remote(NamedTuple):
    """`url` is None unless it was given; then `data_dir` tells. `options` are those of the command line
    that name this engine, for commands that a message names."""

    url: str | None
    token: str
    data_dir: str
    options: str = ""

    def connect(self) -> Api:
        """Return a client of the admin API. Raise Failure where there is none, and say what to do."""
        if self.url is None:
            datadir = DataDir(self.data_dir)
            deadline = time.monotonic() + STARTING_S
            while announced(datadir) is None and _starting(datadir) and time.monotonic() < deadline:
                time.sleep(0.05)
        return self.client()

    def client(self, timeout_s: float | None = None) -> Api:
        """Do the same without waiting for an API that is about to start; `timeout_s` is for its answer
        to a request."""
        from fluxhook.cli.api_client import TIMEOUT_S, Api

        timeout_s = timeout_s or TIMEOUT_S

        if self.url is not None:
            return Api(self.url, self.token, timeout_s=timeout_s, options=self.options)
        datadir = DataDir(self.data_dir)
        file = announced(datadir)
        if file is None:
            raise self.absent(datadir)
        pinned = _certificate(datadir) if file.url.startswith("https:") else None
        return Api(
            file.url,
            file.token,
            pinned=pinned,
            absent=lambda: self.absent(datadir),
            timeout_s=timeout_s,
            options=self.options,
        )

    def absent(self, datadir: DataDir) -> Failure:
        """Return why there is no API, and what to do about it."""
        where = datadir.path
        if not is_running(datadir):
            return Failure(
                f"no engine runs on {where}",
                ExitCode.NOT_RUNNING,
                remedy=f"start one with `fluxhook serve -c FILE{self.options}`, or name another with "
                "--data-dir or --api",
            )
        if has_own_api(datadir):
            return Failure(
                f"the admin API of the engine on {where} does not answer",
                ExitCode.UNREACHABLE,
                remedy="try again in a moment: the engine starts it anew, and its log says more",
            )
        if find_spec("litestar") is None or find_spec("uvicorn") is None:
            remedy = "install what it needs: pip install 'fluxhook[admin]'"
        else:
            remedy = f"start it with `fluxhook admin --data-dir {shlex.quote(str(where))}`"
        return Failure(
            f"the engine on {where} runs without its admin API",
            ExitCode.UNREACHABLE,
            remedy=remedy,
        )


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


def has_own_api(datadir: DataDir) -> bool:
    """Return whether the engine that runs there runs its admin API too."""
    engine = _engine(datadir)
    return engine is not None and engine.sidecar is not None


def _starting(datadir: DataDir) -> bool:
    """Return whether an engine that has just begun is about to bring its admin API up."""
    engine = _engine(datadir)
    if engine is None or engine.sidecar is None:
        return False
    return 0 <= time.time() - engine.started < STARTING_S and is_running(datadir)


def _engine(datadir: DataDir) -> _EngineFile | None:
    try:
        return msgspec.json.decode(read_file(datadir.engine_file), type=_EngineFile)
    except (OSError, msgspec.MsgspecError):
        return None


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
