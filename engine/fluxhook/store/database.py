"""Opening the database file, and what its errors mean to a caller."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from fluxhook._native.shared import is_own, open_own
from fluxhook.errors import EngineNotRunning, LayoutError
from fluxhook.logs.log import Log
from fluxhook.store.interface import StoreError

__all__ = [
    "LAYOUT",
    "Insert",
    "StoreDamaged",
    "open_reader",
    "open_writer",
    "transaction",
    "translated",
]

log = Log("store")

#: schema.sql's version; raise it with any change there
LAYOUT = 3

#: a higher number is none that we will ever give
_LAST_LAYOUT = 99
#: a file up to this size is looked through at every start, which takes a tenth of a second; a larger
#: one only after the machine went down
LOOKED_THROUGH_BYTES = 64 << 20
#: UPDATE ... RETURNING
_OLDEST_SQLITE = (3, 35)
#: rows in one INSERT; with more of them little is gained
_ROWS = 32
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreDamaged(LayoutError):
    """The file cannot be used, or is gone: what was in it is lost unless a copy is put back."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            f"{what}; put a copy of it back, or try `sqlite3 store.db .recover`, or start once with "
            "`fluxhook serve -c FILE --accept-loss`, which moves it aside and goes on without what is "
            "in it"
        )


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
    """Turn sqlite3's errors into `StoreError`, or `LayoutError` where the file itself is bad."""
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


def damaged(path: Path, detail: str) -> StoreDamaged:
    return StoreDamaged(f"{path} is damaged ({detail})")


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


def open_writer(path: Path, *, full_sync: bool, create: bool) -> sqlite3.Connection:
    """Open the database for its only writer. Where there is none, or one without any tables, it is
    created, or StoreDamaged raised."""
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old, 3.35 is needed; use a Python that brings "
            f"a newer one"
        )
    with translated(path):
        if create:
            _create(path)
        elif not path.exists():
            raise StoreDamaged(f"{path} is missing")
        unclean = _size(Path(f"{path}-wal")) > 0
        _check_own(path)
        db = sqlite3.connect(path, isolation_level=None)
        try:
            db.text_factory = _text
            _configure(db, full_sync)
            if _is_empty(db):
                if not create:
                    raise StoreDamaged(f"{path} is empty")
                schema = resources.files("fluxhook.store").joinpath("schema.sql").read_text()
                db.executescript(f"BEGIN; {schema}; PRAGMA user_version = {LAYOUT}; COMMIT")
            _check_layout(db, path)
            with suppress(sqlite3.OperationalError):  # of a full disk
                db.execute(_TRACES)
            _stand_in(db)
            _check_after_power_loss(db, path, unclean)
        except BaseException:
            db.close()
            raise
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database read-only, beside a writer or without one."""
    none = EngineNotRunning(f"{path} does not exist: no engine was ever started on this data_dir")
    if not path.exists():
        raise none
    with translated(path):
        _check_own(path)
        db = _connect_reader(path)
        try:
            db.execute("PRAGMA busy_timeout = 5000")
            db.text_factory = _text
            if _is_empty(db):  # about to be created
                raise none
            _check_layout(db, path)
            _stand_in(db)
        except BaseException:
            db.close()
            raise
    return db


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _check_own(path: Path) -> None:
    """Raise StoreError where a link, or a file of another user, stands for one of SQLite's: it would
    follow it. They are not opened here: see `_create`."""
    for file in (
        path,
        *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm", "journal")),
    ):
        with suppress(FileNotFoundError):
            found = file.lstat()
            if not (stat.S_ISREG(found.st_mode) and is_own(found, file.parent)):
                raise StoreError(f"{file} is not a regular file of this user's; move it away")


def _connect_reader(path: Path) -> sqlite3.Connection:
    """Connect for reading. SQLite shares its log with the writer by a file beside it. Where the
    directory may only be read and there is no log, there is no writer, and nothing to share."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    db = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        db.close()
        is_damaged = not isinstance(error, sqlite3.OperationalError)
        if is_damaged or os.access(path.parent, os.W_OK) or _size(Path(f"{path}-wal")):
            raise
        db = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return db


def _text(value: bytes) -> str:
    """Decode a text; a damaged one is shown as far as it can be read, and does not hold up the
    others."""
    return value.decode("utf-8", "replace")


def _create(path: Path) -> None:
    """Create the file as its owner's alone, if there is none.

    An existing one is not opened here: closing it would drop the locks of every other connection
    that this process has to it (POSIX advisory locks).
    """
    try:
        os.close(open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
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
    if not 0 < found <= _LAST_LAYOUT:
        raise damaged(path, f"its layout has the number {found}")
    if found != LAYOUT:
        raise LayoutError(
            f"{path} has layout {found}, this version of Fluxhook uses {LAYOUT}; run the version "
            f"that wrote it until nothing is pending, then move the file aside"
        )


def _stand_in(db: sqlite3.Connection) -> None:
    """Have an empty table for one that files of earlier versions lack, where nothing can be made in
    them."""
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'traces'").fetchone():
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(_TRACES.replace("TABLE", "TEMP TABLE", 1))


def _check_after_power_loss(db: sqlite3.Connection, path: Path, unclean: bool) -> None:
    """Read the whole file if it is small, or if the machine, not only the engine, went down while it
    was open.

    A killed process leaves the page cache as it was, and the log makes the rest whole. Reading
    takes seconds for a million rows, from a cold disk more.
    """
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    last = db.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
    same_boot = last == (boot,)
    if _size(path) <= LOOKED_THROUGH_BYTES or (unclean and last is not None and not same_boot):
        verdict: str = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise damaged(path, " ".join(verdict.split()))
        _weed(db, path)
    if not same_boot:
        with suppress(sqlite3.OperationalError):  # of a full disk: the next start looks once more
            db.execute("INSERT OR REPLACE INTO meta VALUES ('boot_id', ?)", (boot,))


def _weed(db: sqlite3.Connection, path: Path) -> None:
    """Remove rows that hold what no engine can work with: SQLite has no checksums, and a changed
    byte may make a text of a time. Counts of them are made again, so that the books tell of what is
    lost."""
    ids = [row[:1] for row in db.execute(_MALFORMED)]
    positions = db.execute(_MALFORMED_POSITIONS).fetchall()
    if not (ids or positions or db.execute(_MISCOUNTED).fetchall()):
        return
    with transaction(db):
        db.executemany("DELETE FROM deliveries WHERE id = ?", ids)
        db.executemany("DELETE FROM bodies WHERE id = ?", ids)
        db.executemany("DELETE FROM traces WHERE id = ?", ids)
        db.executemany("DELETE FROM ring_positions WHERE ring_uid = ?", positions)
        db.execute(_COUNT)
    log.error(
        "%s is damaged: %d deliveries in it are lost%s",
        path, len(ids), ", and some may be repeated" if positions else "",
    )  # fmt: skip


#: what schema.sql has for new files
_TRACES = """
CREATE TABLE IF NOT EXISTS traces (
    id INTEGER PRIMARY KEY, traceparent TEXT NOT NULL, tracestate TEXT NOT NULL)
"""
_MALFORMED_POSITIONS = "SELECT ring_uid FROM ring_positions WHERE typeof(seq) <> 'integer'"
_MISCOUNTED = """
SELECT 1 FROM endpoints
WHERE typeof(pending) <> 'integer' OR typeof(dead) <> 'integer' OR min(pending, dead) < 0
"""
_INTEGERS = ("endpoint", "state", "ordered", "due_ns", "attempts", "accepted_ns")
_INTEGERS_OR_NULL = ("first_failed_ns", "ended_ns", "last_attempt")
_TEXTS = ("cause", "error", "event_id", "type", "topic", "order_key")
_MALFORMED = " OR ".join(
    (
        "SELECT id FROM deliveries WHERE state NOT BETWEEN 0 AND 4",
        "(state < 2) <> (ended_ns IS NULL)",
        "endpoint NOT IN (SELECT id FROM endpoints)",
        *(f"typeof({column}) <> 'integer'" for column in _INTEGERS),
        *(f"typeof({column}) NOT IN ('integer', 'null')" for column in _INTEGERS_OR_NULL),
        *(f"typeof({column}) <> 'text'" for column in _TEXTS),
    )
)
_COUNT = """
UPDATE endpoints SET
    pending = (SELECT count(*) FROM deliveries WHERE endpoint = endpoints.id AND state IN (0, 1)),
    dead = (SELECT count(*) FROM deliveries WHERE endpoint = endpoints.id AND state = 3)
"""
