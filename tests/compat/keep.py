"""Keep a data directory as this version leaves it, for every later one to open.

    python tests/compat/keep.py NAME

It writes `NAME.tar.xz` and `NAME.json`, the ids that wait in it, beside this file; NAME is the commit
or the version that it is run with. Keep one before a file's format changes.

An engine runs until each kind of thing is there, is stopped in the middle, and is killed with all of
its workers:

- unread records in a publisher's rings, of plain and of ordered endpoints
- reports in the outboxes that no scheduler has read
- stored retries, a line of ordered ones, what a paused endpoint holds, dead letters
- webhooks that were made at run time, one of them with a secret that still signs for a while
- an open window of aggregation, an open breaker, a threshold, and entries of the audit trail
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from support.rig import until as until

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from compat.world import config  # noqa: E402
from fluxhook import Config, Engine  # noqa: E402
from fluxhook import engine as engine_module  # noqa: E402
from fluxhook.control import Selection  # noqa: E402
from fluxhook.receiver import Behaviour  # noqa: E402
from fluxhook.stats import read_stats  # noqa: E402
from support.receiver import ReceiverProcess  # noqa: E402

FAILS = Behaviour(fail_rate=1.0, fail_status=503)
REFUSES = Behaviour(fail_rate=1.0, fail_status=400)


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    data_dir = folder / "data"
    with ReceiverProcess() as receiver:
        for path in ("/waiting", "/order", "/broken", "/created"):
            receiver.behave(FAILS, path)
        receiver.behave(REFUSES, "/dead")
        ids = fill(data_dir, receiver)
    name = HERE / sys.argv[1]
    with tarfile.open(f"{name}.tar.xz", "w:xz") as archive:
        archive.add(data_dir, "data", filter=plain)
    Path(f"{name}.json").write_text(json.dumps(ids, indent=1) + "\n")
    shutil.rmtree(folder)


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Nobody's name; and no socket, which a tar cannot hold."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def start_mortal(settings: Config, data_dir: Path) -> Engine:
    """Start an engine whose supervisor has no successor once it is killed."""
    engine_module.MIN_RESTART_BACKOFF_S = 3600.0
    return Engine(settings, data_dir).start()


def fill(data_dir: Path, receiver: ReceiverProcess) -> dict[str, list[str]]:
    """Return the ids of the events that each endpoint accepted and has not got."""
    ids: dict[str, list[str]] = {}
    engine = start_mortal(config(receiver.url), data_dir)
    publisher = engine.publisher

    def emit(endpoint: str, count: int, **data: Any) -> None:
        for _ in range(count):
            id = f"kept-{endpoint}-{len(ids.setdefault(endpoint, []))}"
            type = "service.5xx" if endpoint == "window" else f"kept.{endpoint}"
            accepted = publisher.accept(type, {"n": len(ids[endpoint]), **data}, event_id=id)
            assert accepted.endpoints or endpoint == "metered", (endpoint, accepted)
            ids[endpoint].append(id)

    def stats(endpoint: str) -> Any:
        (found,) = (e for e in read_stats(data_dir).endpoints if e.name == endpoint)
        return found

    control = engine.control
    for name in ("created", "rotated"):
        layer = {"name": name, "url": f"{receiver.url}/{name}", "events": [f"kept.{name}"]}
        control.create({**layer, "secret": f"secret-of-{name}", "retry": {"schedule": ["20s"]}})
    control.rotate_secret("rotated", "new-secret-of-rotated")
    emit("created", 3)
    until(lambda: stats("created").failed_attempts >= 3)
    for name in ("created", "rotated"):  # their URLs are of this receiver, which will be no more
        control.pause(name)
    emit("created", 2)

    for _ in range(3):  # retries, then a line of ordered ones
        emit("waiting", 20)
        emit("order", 10, key="a")
        emit("order", 10, key="b")
    emit("dead", 12)
    until(lambda: stats("dead").dead == 12)
    engine.control.purge(Selection(endpoint="dead", limit=4))
    ids["dead"] = ids["dead"][4:]
    emit("window", 30)
    emit("broken", 5)
    emit("metered", 50)
    until(lambda: stats("metered").delivered == stats("metered").accepted > 0)
    emit("paused", 15)
    until(lambda: stats("waiting").stored == 60 and stats("order").stored == 60)
    until(lambda: stats("paused").stored == 15)
    until(lambda: stats("window").aggregated == 30 and stats("broken").state == "open")

    engine_file = json.loads((data_dir / "engine.json").read_bytes())
    supervisor = engine_file["pid"]
    workers = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    os.kill(supervisor, signal.SIGSTOP)
    emit("waiting", 20)  # reported, and read by nobody
    time.sleep(1)
    for pid in map(int, workers):
        os.kill(pid, signal.SIGSTOP)
    emit("plain", 40)
    emit("waiting", 10)
    emit("order", 10, key="a")
    emit("rotated", 5)
    emit("window", 10)
    for pid in (supervisor, *map(int, workers)):
        os.kill(pid, signal.SIGKILL)
    with socket.socket(socket.AF_UNIX) as control_socket:
        until(lambda: control_socket.connect_ex(str(data_dir / "control.sock")))
    (data_dir / "control.sock").unlink()
    publisher.close()
    ids["metered"] = []
    return ids


if __name__ == "__main__":
    main()
