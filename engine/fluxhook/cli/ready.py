"""Waiting for an engine: until it runs, serves, and its admin API answers."""

from __future__ import annotations

import time
from typing import Final

from fluxhook.admin.models import Health
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from fluxhook.cli.remote import Remote, announced, has_own_api
from fluxhook.errors import EngineNotRunning
from fluxhook.stats import is_running, serving
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = ["WAIT_S", "wait_until_ready"]

#: how long an engine is waited for unless somebody says; arbitrary
WAIT_S: Final = 60.0
#: between two looks, and for the answer to one
LOOK_S: Final = 0.1
ANSWER_S: Final = 5.0
#: what time may mend
_PASSING: Final = (ExitCode.NOT_RUNNING, ExitCode.UNREACHABLE)


def wait_until_ready(remote: Remote, timeout_s: float) -> None:
    """Return once the engine is ready. Raise Failure where it is not in time, or cannot be looked at.

    Its data directory need not be there yet.
    """
    deadline = time.monotonic() + timeout_s
    while (obstacle := _obstacle(remote)) is not None:
        if obstacle.code not in _PASSING:
            raise obstacle
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise Failure(
                f"no engine was ready within {timeout_s:g} s: {obstacle}",
                obstacle.code,
                remedy=obstacle.remedy,
            )
        time.sleep(min(LOOK_S, left_s))


def _obstacle(remote: Remote) -> Failure | None:
    """Return why the engine is not ready at this moment."""
    try:
        if remote.url is None:
            datadir = DataDir(remote.data_dir)
            if not is_running(datadir) or (announced(datadir) is None and has_own_api(datadir)):
                return remote.absent(datadir)
            if not serving(datadir, Snapshot.load(datadir).workers):
                return Failure(
                    f"no worker of the engine on {datadir.path} serves",
                    ExitCode.NOT_RUNNING,
                    remedy="its log says why",
                )
            if not has_own_api(datadir):
                return None
        remote.client(timeout_s=ANSWER_S).get("/readyz", Health)
    except EngineNotRunning as error:  # it has not written its configuration yet
        return Failure(str(error), ExitCode.NOT_RUNNING)
    except Failure as failure:
        return failure
    return None
