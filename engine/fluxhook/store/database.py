"""Opening the database file, and what its errors mean to a caller."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from fluxhook.errors import EngineError, EngineNotRunning, LayoutError

__all__ = [
    "LAYOUT",
    "Insert",
    "StoreError",
    "open_reader",
    "open_writer",
    "transaction",
    "translated",
]

#: schema.sql's version; raise it with any change there
LAYOUT = 3

#: UPDATE ... RETURNING
_OLDEST_SQLITE = (3, 35)
#: rows in one INSERT; with more of them little is gained
_ROWS = 32
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreError(EngineError):
    """The disk is full, read-only or failing: nothing of the transaction was kept. Try it again."""


class Insert:
    """An INSERT of as many rows as there are, in whatever order their columns have in the table.

    Each statement begins with a search for where its rows belong, and ends with a check of the
    transaction. Shared by 32 rows, that is a quarter less CPU than a statement for each of them.
    """

    def __init__(self, table: str, columns: int, on_conflict: str = "") -> None:
        row = f"({', '.join('?' * columns)})"
        self._one = f"INSERT INTO {table} VALUES {row} {on_conflict}"
        self._many = f"INSERT INTO {table} VALUES {', '.join([row] * _ROWS)} {on_conflict}"

    def write(self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        together = len(rows) // _ROWS * _ROWS
        for i in range(0, together, _ROWS):
            db.execute(self._many, tuple(chain.from_iterable(rows[i : i + _ROWS])))
        db.executemany(self._one, rows[together:])


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns sqlite3's errors into `StoreError`, or `LayoutError` where the file itself is bad."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise  # ours, not the disk's
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        ):
            raise damaged(path, str(error)) from error
        raise StoreError(f"{path}: {error}") from error


def damaged(path: Path, detail: str) -> LayoutError:
    return LayoutError(
        f"{path} is damaged ({detail}); stop the engine, move {path.name}, {path.name}-wal and "
        f"{path.name}-shm aside and start again: what waits in them is then not delivered, but "
        f"`sqlite3 {path.name} .recover` may save it"
    )


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):  # the error on its way up says more
                db.execute("ROLLBACK")
        raise


def open_writer(path: Path, *, full_sync: bool) -> sqlite3.Connection:
    """Opens the database for its only writer, and creates it where there is none."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old, 3.35 is needed; use a Python that brings "
            f"a newer one"
        )
    with translated(path):
        _create(path)
        unclean = Path(f"{path}-wal").exists()
        db = sqlite3.connect(path, isolation_level=None)
        try:
            _configure(db, full_sync)
            if _is_empty(db):
                schema = resources.files("fluxhook.store").joinpath("schema.sql").read_text()
                db.executescript(f"BEGIN; {schema}; PRAGMA user_version = {LAYOUT}; COMMIT")
            _check_layout(db, path)
            _check_after_power_loss(db, path, unclean)
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Opens the database read-only, beside a writer or without one."""
    none = EngineNotRunning(f"{path} does not exist: no engine was ever started on this data_dir")
    if not path.exists():
        raise none
    with translated(path):
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            db.execute("PRAGMA busy_timeout = 5000")
            if _is_empty(db):  # about to be created
                raise none
            _check_layout(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _create(path: Path) -> None:
    """Creates the file as its owner's alone, if there is none.

    An existing one is not opened here: closing it would drop the locks of every other connection
    that this process has to it (POSIX advisory locks).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _configure(db: sqlite3.Connection, full_sync: bool) -> None:
    for pragma in (
        "busy_timeout = 5000",  # a reader that recovers the log holds a lock for a moment
        "journal_mode = WAL",
        # NORMAL loses no commit to a killed process, FULL none to a power loss either
        f"synchronous = {'FULL' if full_sync else 'NORMAL'}",
        # 32 MiB between checkpoints: a fifth faster than SQLite's 4 MiB on retries, which rewrite
        # the same pages again and again; above that little is gained and each pause grows
        "wal_autocheckpoint = 8192",
        "journal_size_limit = 67108864",
        "cache_size = -16384",  # 32 MiB measured no better
        "temp_store = MEMORY",
        # Debian's build zeroes whatever is deleted; FAST does so where that writes no more pages
        "secure_delete = FAST",
        # mmap stays off: lookups gain a quarter, but a failing disk would be a SIGBUS
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()


def _is_empty(db: sqlite3.Connection) -> bool:
    tables: int = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return tables == 0


def _check_layout(db: sqlite3.Connection, path: Path) -> None:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    if found != LAYOUT:
        raise LayoutError(
            f"{path} has layout {found}, this version of Fluxhook uses {LAYOUT}; run the version "
            f"that wrote it until nothing is pending, then move the file aside"
        )


def _check_after_power_loss(db: sqlite3.Connection, path: Path, unclean: bool) -> None:
    """Reads the whole file if the machine, not only the engine, went down while it was open.

    A killed process leaves the page cache as it was, and the log makes the rest whole. Reading
    takes seconds for a million rows, from a cold disk more.
    """
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    last = db.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
    if last == (boot,):
        return
    if unclean and last is not None:
        verdict: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise damaged(path, verdict)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot,))
