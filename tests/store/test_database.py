"""The file: who may read it, what is refused, and what a failing disk does."""

from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fluxhook.errors import EngineNotRunning, LayoutError
from fluxhook.store import (
    DeliveryRow,
    DeliveryStore,
    ReadStore,
    StoreDamaged,
    StoreError,
    database,
    deliveries,
)
from fluxhook.store.database import LAYOUT
from fluxhook.store.reader import EXPIRED
from fluxhook.store.rows import COLUMNS, EndpointRow, SubscriptionRow
from fluxhook.store.transaction import PROMOTE
from fluxhook.transport.messages import Attempt, EventHead
from support import store_rows

NOW = 1_700_000_000_000_000_000

Add = Callable[..., int]


def plan(store: ReadStore, sql: str) -> list[str]:
    named = dict.fromkeys(re.findall(r":(\w+)", sql), 0)
    numbered = {f"?{n}" for n in (1, 2)} if "?1" in sql else re.findall(r"\?", sql)
    rows = store.db.execute(f"EXPLAIN QUERY PLAN {sql}", named or [0] * len(numbered))
    return [row[3] for row in rows]


def columns(store: ReadStore, table: str) -> list[str]:
    return [row[1] for row in store.db.execute(f"PRAGMA table_info({table})")]


def test_the_columns_are_the_fields(store: DeliveryStore) -> None:
    """Rows are written and read by position: schema and structs agree in names and order."""
    assert columns(store, "deliveries") == list(COLUMNS)
    assert (*COLUMNS, *columns(store, "traces")[1:]) == DeliveryRow.__struct_fields__
    assert columns(store, "endpoints") == list(EndpointRow._fields)
    assert columns(store, "subscriptions") == list(SubscriptionRow._fields)
    assert columns(store, "attempts")[4:] == list(Attempt.__struct_fields__)


def test_no_query_sorts_or_scans(store: DeliveryStore) -> None:
    """However many deliveries there are, what the scheduler asks is answered from an index."""
    statements = {**vars(deliveries), "EXPIRED": EXPIRED, "PROMOTE": PROMOTE}
    queries = {k: v for k, v in statements.items() if isinstance(v, str) and "deliveries" in v}
    for name in queries.keys() - {"__doc__", "__name__", "__file__", "__cached__", "_LEG"}:
        steps = plan(store, queries[name])
        slow = [s for s in steps if "TEMP B-TREE" in s or re.match("SCAN (d|deliveries)$", s)]
        assert not slow, (name, steps)


def test_only_the_owner_may_read_it(store: DeliveryStore, path: Path, add: Add) -> None:
    """Bodies may hold what is nobody's business: the file and its log are the owner's alone."""
    add()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_full_sync_survives_a_power_loss(tmp_path: Path) -> None:
    """`full_sync` syncs the log at every commit, which SQLite calls FULL (2); the default is
    NORMAL (1)."""
    for full_sync, level in [(False, 1), (True, 2)]:
        with DeliveryStore.open(tmp_path / f"{full_sync}.db", full_sync=full_sync) as store:
            assert store.db.execute("PRAGMA synchronous").fetchone() == (level,)


# ---- readers -----------------------------------------------------------------------------------


def test_a_reader_follows_the_writer(store: DeliveryStore, path: Path, add: Add) -> None:
    """A reader sees each transaction once it is committed, stops no writer, and cannot write."""
    with ReadStore.open(path) as reader:
        for n in range(1, 4):
            add()
            assert len(store_rows.deliveries(reader)) == n
            assert reader.endpoints()[0].pending == n
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.db.execute("DELETE FROM deliveries")


def test_a_reader_needs_no_writer(store: DeliveryStore, path: Path, add: Add) -> None:
    """A store that a stopped engine left can be read."""
    add()
    store.close()
    with ReadStore.open(path) as reader:
        assert len(store_rows.deliveries(reader)) == 1


def test_a_reader_creates_nothing(path: Path) -> None:
    """If no engine ever ran there, the reader says so and leaves no file behind."""
    with pytest.raises(EngineNotRunning, match=r"store\.db does not exist"):
        ReadStore.open(path)
    assert list(path.parent.iterdir()) == []
    path.touch()  # an engine is just starting
    with pytest.raises(EngineNotRunning):
        ReadStore.open(path)


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [DeliveryStore.open, ReadStore.open])
def test_another_layout_is_refused(
    store: DeliveryStore, path: Path, opened: Callable[[Path], ReadStore]
) -> None:
    """Another version's file is left alone; the error names both versions and the way out."""
    store.db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(LayoutError, match=rf"layout 99.*uses {LAYOUT}.*move the file aside"):
        opened(path)


@pytest.mark.parametrize("opened", [DeliveryStore.open, ReadStore.open])
def test_what_is_no_database_is_refused(path: Path, opened: Callable[[Path], ReadStore]) -> None:
    """A file that SQLite cannot read is not touched; the error says what to do with it."""
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(LayoutError, match=r"store\.db is damaged.*put a copy of it back"):
        opened(path)
    assert path.read_bytes() == b"no database" * 1000


def test_a_foreign_database_is_refused(path: Path) -> None:
    """Another program's database is not mistaken for an empty one."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(LayoutError, match="its layout has the number 0"):
        DeliveryStore.open(path)


def overwrite_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 & ~4095)
        file.write(b"\xa5" * 65536)


def killed_with_rows(path: Path, boot_id: str | None = None) -> None:
    """Leave a store as a process that was killed leaves it, with 5000 rows in the file."""
    script = f"""
import os
from pathlib import Path
from fluxhook.store import DeliveryStore
from fluxhook.transport.messages import EventHead
store = DeliveryStore.open(Path({str(path)!r}))
store.ensure_endpoints(["e"])
if {boot_id!r}:
    store.db.execute("UPDATE meta SET value = {boot_id!r} WHERE key = 'boot_id'")
with store.transaction() as transaction:
    for id in range(5000):
        transaction.add(id, 0, EventHead(str(id), "t"), bytes(600), accepted_ns=0, due_ns=id)
store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9


def test_the_file_is_checked_after_a_power_loss(path: Path) -> None:
    """If the machine went down over an open store, damage is found on opening, not later."""
    killed_with_rows(path, boot_id="another boot")
    overwrite_the_middle(path)
    with pytest.raises(LayoutError, match="is damaged"):
        DeliveryStore.open(path)


def test_a_small_file_is_looked_through(path: Path) -> None:
    """At every start, as that costs nothing."""
    killed_with_rows(path)
    overwrite_the_middle(path)
    with pytest.raises(StoreDamaged, match="is damaged"):
        DeliveryStore.open(path)


def test_a_large_file_is_not_checked_after_a_kill(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process damages nothing, so its successor spends no time on looking. Damage that
    is there all the same raises LayoutError with the way out once it is met."""
    monkeypatch.setattr(database, "LOOKED_THROUGH_BYTES", 0)
    killed_with_rows(path)
    overwrite_the_middle(path)
    with DeliveryStore.open(path) as store:
        assert store.pending == {0: 5000}
        with pytest.raises(LayoutError, match="is damaged"):
            store.lease(0, NOW, 5000)


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear line instead of a syntax error on the first transaction."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    with pytest.raises(StoreError, match=r"too old, 3\.35 is needed"):
        DeliveryStore.open(path)


# ---- failing disks -----------------------------------------------------------------------------


def test_a_full_disk_loses_nothing(store: DeliveryStore, add: Add) -> None:
    """If the disk is full, a commit changes nothing; with room again it succeeds as it is."""
    add(n=10)
    assert len(store.lease(0, NOW, 10)) == 10
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    transaction = store.transaction()
    for id in range(100, 200):
        event = EventHead(f"evt_{id}", "t")
        transaction.add(id, 0, event, bytes(5000), accepted_ns=NOW, due_ns=NOW)
    first = transaction.find(1)
    assert first is not None
    transaction.delivered(first, NOW)
    transaction.position(b"ring", 7)
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            transaction.commit()
        assert (store.pending[0], store.leased(0), store.positions()) == (10, 10, {})
        assert store.lease(0, NOW, 10) == []
    store.db.execute("PRAGMA max_page_count = 1000000")
    transaction.commit()
    assert (store.pending[0], store.leased(0), store.positions()) == (109, 9, {b"ring": 7})
    transaction.commit()
    assert store.pending[0] == 109


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    """The error is what the system says, with the path."""
    with pytest.raises(StoreError, match=r"nowhere/store\.db: No such file or directory"):
        DeliveryStore.open(tmp_path / "nowhere" / "store.db")


def test_a_locked_file_is_one_line(
    store: DeliveryStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's write lock delays a commit, and then fails it as a bad disk does."""
    store.db.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with store.transaction() as transaction:
        transaction.count(0, "x")
        with pytest.raises(StoreError, match="locked"):
            transaction.commit()
        other.execute("ROLLBACK")
    other.close()
    assert store.counters() == {0: {"x": 1}}


_ABSURD = ("'x'", "x'ff'", "1e300", "-1")


@pytest.mark.parametrize("value", _ABSURD)
@pytest.mark.parametrize("column", COLUMNS[1:])
def test_a_damaged_row_is_lost_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """A store hands out deliveries only; of a row that is none any more the log and the counts tell,
    and a reader gets the others."""
    path = tmp_path / "store.db"
    with DeliveryStore.open(path) as store:
        (endpoint,) = store.ensure_endpoints(["a"]).values()
        with store.transaction() as transaction:
            for id in (1, 2):
                head = EventHead(f"evt_{id}", "a.b")
                transaction.add(id, endpoint, head, b"{}", accepted_ns=NOW, due_ns=NOW)
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE deliveries SET {column} = {value} WHERE id = 1")
        found = db.execute(f"SELECT typeof({column}) FROM deliveries WHERE id = 1").fetchone()
    db.close()
    with DeliveryStore.open(path) as store:
        rows = store_rows.deliveries(store)
        assert store.pending == {endpoint: len(rows)}
        assert {row.id for row in rows} in ({2}, {1, 2})
        assert ("1 deliveries in it are lost" in caplog.text) == (len(rows) == 1)
        for row in rows:
            assert msgspec.convert(msgspec.structs.asdict(row), DeliveryRow) == row
    if found != ("integer",) and found != ("text",):
        assert len(rows) == 1


@pytest.mark.parametrize("value", _ABSURD)
@pytest.mark.parametrize("column", ["endpoints.pending", "endpoints.dead", "ring_positions.seq"])
def test_a_damaged_count_is_made_anew(tmp_path: Path, column: str, value: str) -> None:
    """Of deliveries from their rows; a position that is none is forgotten, and reports are repeated."""
    path, (table, name) = tmp_path / "store.db", column.split(".")
    with DeliveryStore.open(path) as store:
        (endpoint,) = store.ensure_endpoints(["a"]).values()
        with store.transaction() as transaction:
            transaction.add(1, endpoint, EventHead("1", "a.b"), b"{}", accepted_ns=NOW, due_ns=NOW)
            transaction.position(b"uid", 7)
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE {table} SET {name} = {value}")
    db.close()
    with DeliveryStore.open(path) as store:
        assert store.pending == {endpoint: 1}
        assert [row.dead for row in store.endpoints()] == [0]
        kept = {"endpoints": {b"uid": 7}, "ring_positions": {b"uid": -1} if value == "-1" else {}}
        assert store.positions() == kept[table]


def test_a_file_of_before_gets_the_table_of_traces(path: Path) -> None:
    """A process that only reads has an empty one in its place."""
    with DeliveryStore.open(path) as store:
        store.ensure_endpoints(["zero"])
        with store.transaction() as transaction:
            transaction.add(1, 0, EventHead("a", "x.y"), b"", accepted_ns=NOW, due_ns=NOW)
        store.db.execute("DROP TABLE traces")
    with ReadStore.open(path) as reader:
        (row,) = store_rows.deliveries(reader)
        assert row.event.trace is None
    head = EventHead("b", "x.y", "", "", "00-1-2-03", "k=v")
    with DeliveryStore.open(path) as store:
        with store.transaction() as transaction:
            transaction.add(2, 0, head, b"", accepted_ns=NOW, due_ns=NOW)
        leased = {due.delivery.id: due.delivery.event for due in store.lease(0, NOW, 10)}
        assert leased == {1: EventHead("a", "x.y"), 2: head}
    with ReadStore.open(path) as reader:
        assert [row.event.traceparent for row in store_rows.deliveries(reader)] == ["00-1-2-03", ""]


def test_a_damaged_trace_is_a_text_all_the_same(store: DeliveryStore, add: Add) -> None:
    """A changed byte makes a blob of a text, which no head of an event could hold."""
    id = add()
    store.db.execute("INSERT INTO traces VALUES (?, CAST('00-x' AS BLOB), 7)", (id,))
    (row,) = store_rows.deliveries(store)
    assert (row.traceparent, row.tracestate) == ("00-x", "7")
