from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from fluxhook.runtime.syncer import Syncer
from fluxhook.store import DeliveryStore
from fluxhook.transport.datadir import DataDir

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
