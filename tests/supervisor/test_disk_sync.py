from __future__ import annotations

import errno
import logging
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from fluxhook._native import ring, shared
from fluxhook.store import DeliveryStore
from fluxhook.supervisor.disk_sync import Syncer
from fluxhook.transport.datadir import DataDir
from support.rig import until

_LOOK = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute("SELECT count(*) FROM endpoints").fetchone()
db.close()
"""


def test_the_store_keeps_its_locks(tmp_path: Path) -> None:
    """Syncing leaves SQLite its locks: what the engine commits after a pass is not lost when
    somebody else opens the store, looks, and closes it."""
    datadir = DataDir(tmp_path)
    with DeliveryStore.open(datadir.store) as store:
        store.ensure_endpoints(["before"])
        Syncer(datadir, 0.001).close()  # at least one pass
        subprocess.run([sys.executable, "-c", _LOOK, str(datadir.store)], check=True)
        store.ensure_endpoints(["after"])
        db = sqlite3.connect(datadir.store)
        names = db.execute("SELECT name FROM endpoints ORDER BY id").fetchall()
        db.close()
    assert names == [("before",), ("after",)]


def test_a_file_that_cannot_be_synced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeps no other file from being synced, is named in one line however often it fails, and is
    written wholly, not only synced, when it is tried again."""
    caplog.set_level(logging.INFO)
    datadir = DataDir(tmp_path)
    for name in "abc":
        ring.create_ring(str(tmp_path / f"{name}.ring"), 4, 4096, bytes(16))
    broken, synced = str(tmp_path / "b.ring"), Counter[tuple[str, bool]]()
    failing = threading.Event()
    failing.set()
    sync = shared.sync_file

    def sync_file(path: str, *, again: bool = False) -> None:
        synced[path, again] += 1
        if path == broken and failing.is_set():
            raise OSError(errno.EIO, "Input/output error", path)
        sync(path, again=again)

    monkeypatch.setattr(shared, "sync_file", sync_file)
    syncer = Syncer(datadir, 0.001)
    until(lambda: synced[broken, True] > 2)
    failing.clear()
    before = synced[broken, False]
    until(lambda: synced[broken, False] > before)
    syncer.close()
    assert all(synced[str(tmp_path / f"{name}.ring"), False] > 2 for name in "ac")
    said = [record.message for record in caplog.records]
    assert [line.partition(" (")[0] for line in said if "cannot be" in line] == [
        f"{broken} cannot be synced"
    ]
    assert f"{broken} is synced again" in said
