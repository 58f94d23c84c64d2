"""The data directory: where each file stands, and what each shared word and counter means.

    engine.lock                held by the running engine
    engine.json                pid and start time of the running engine
    control.sock               the supervisor listens here for changes (control.py)
    admin.json                 where the admin API listens, and a token for this host's users
    config.json                the routing snapshot: configuration, endpoint ids, version
    words                      one row per endpoint, and a last one for the engine
    thresholds                 the table of thresholds, anew with each start of an engine
    store.db                   retries, dead letters, attempts
    audit/                     what was given up and erased: JSON lines (store/audit.py)
    history/                   the last hour's figures, of the admin process (admin/history_file.py)
    damaged/                   what could not be read or used, if there ever was any
    keeper.bell                wakes the scheduler
    rings/<slot>/              one publisher: lock, counters, <worker>.ring for each worker; the slot
                               is a number, or `engine` for the engine's own
    workers/<worker>/          one worker: lock, serving (locked once it serves), counters,
                               stages, bell, inbox.ring, outbox.ring

A doorbell is a FIFO: its reader sleeps in epoll, and a process that publishes into a ring whose
consumer sleeps writes one byte. Unlike an eventfd it has a name, so that any process can ring it,
before and after its reader was replaced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import itertools
import os
import shlex
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from fluxhook._native import shared
from fluxhook.errors import EngineError, EngineNotRunning, LayoutError

__all__ = [
    "ACCEPTED",
    "BREAKER",
    "CONNECTED",
    "DELIVERED",
    "DIED",
    "DROPPED_EXPIRED",
    "DROPPED_OLDEST",
    "FAILED",
    "FAILED_REQUESTS",
    "FAILING",
    "FAILING_WRITES",
    "FAULTS",
    "FILTERED",
    "HISTOGRAM",
    "OUTAGES",
    "PUBLISHER_FIELDS",
    "RATE",
    "REFUSED",
    "RESENT",
    "RESTARTS",
    "RINGS",
    "SAMPLED_ONE_IN",
    "SIGNATURE_REJECTED",
    "SIZE_REJECTED",
    "SKIPPED",
    "STAGES",
    "STAGE_CONNECT",
    "STAGE_DNS",
    "STAGE_FIELDS",
    "STAGE_FIRST_BYTE",
    "STAGE_QUEUE",
    "STAGE_SIGN",
    "STAGE_TLS",
    "STORED",
    "TRACED",
    "TRACES",
    "UNBUILT",
    "UNMETERED",
    "UNTRACED",
    "VERSION",
    "WORD_FIELDS",
    "WORKER_FIELDS",
    "DataDir",
    "FileLock",
    "boot_id",
    "is_locked",
    "unusable",
]

#: of ours, in a mount point that others may write to
OWN_FOLDER = "fluxhook"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

# Counters of a publisher, per endpoint. The ring writes the first two itself (ring.pxd).
ACCEPTED, DROPPED_OLDEST, REFUSED, FILTERED = range(4)
PUBLISHER_FIELDS = 4

# Counters of a worker, per endpoint. The dropped ones name the policy that dropped. FAILED counts
# events, and FAILED_REQUESTS requests, which a batch has fewer of; CONNECTED those requests for which
# a connection was opened; FAULTS attempts that ended with the cause `internal`. The histogram is of
# requests that were answered with success.
(
    DELIVERED,
    DROPPED_EXPIRED,
    FAILED,
    SKIPPED,
    SIGNATURE_REJECTED,
    SIZE_REJECTED,
    RESENT,
    FAILED_REQUESTS,
    CONNECTED,
    FAULTS,
) = range(10)
HISTOGRAM = 16
WORKER_FIELDS = HISTOGRAM + shared.HISTOGRAM_BUCKETS

# Histograms of a worker, per endpoint, in a file of their own, as they are many and read seldom: how
# long each stage of a request took, in microseconds. Waiting, from when the event was accepted to its
# first attempt, and signing (encoding and compressing included) are measured for one request in
# SAMPLED_ONE_IN; the stages of a connection for each one that is opened; the wait for the first byte
# for both.
STAGES = ("queue", "sign", "dns", "connect", "tls", "first_byte")
(
    STAGE_QUEUE,
    STAGE_SIGN,
    STAGE_DNS,
    STAGE_CONNECT,
    STAGE_TLS,
    STAGE_FIRST_BYTE,
) = range(0, len(STAGES) * shared.HISTOGRAM_BUCKETS, shared.HISTOGRAM_BUCKETS)
STAGE_FIELDS = len(STAGES) * shared.HISTOGRAM_BUCKETS
SAMPLED_ONE_IN = 16

# Words of an endpoint: packed breaker state; rate limit's theoretical arrival time; deliveries that
# wait in the store; events that were forwarded because the table of thresholds was full; since when
# every attempt has failed, in nanoseconds (0: it has not); a worker could not build it (1); when an
# event of it died last, in nanoseconds (0: none did). Times are engine time (policy/clock.py).
BREAKER, RATE, STORED, UNMETERED, FAILING, UNBUILT, DIED = range(7)
WORD_FIELDS = 8
# Words of the engine's row: version of config.json; number of times that a ring was added; whether
# events may have a trace context (0: the engine is of a version that knows of none, UNTRACED, TRACED);
# what cannot be written now, a bit for each of OUTAGES; number of times that a worker was replaced.
VERSION, RINGS, TRACES, FAILING_WRITES, RESTARTS = range(5)
UNTRACED, TRACED = 1, 2
OUTAGES = ("store", "sync", "audit")


def boot_id() -> bytes:
    """Return 16 bytes that change with every boot (random(4), /proc/sys/kernel/random/boot_id)."""
    return uuid.UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes


class FileLock:
    """An exclusive flock on a file, held until `release` or the death of its holders.

    Children of fork() hold it too until they call `release`, or exec.
    """

    _file: io.FileIO | None = None

    def __init__(self, path: Path) -> None:
        self._file = io.FileIO(shared.open_own(path, os.O_RDWR | os.O_CREAT), "r+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self.release()
            raise

    def __del__(self) -> None:
        self.release()  # where an exception came before anybody could keep it

    def is_at(self, path: Path) -> bool:
        """Return whether the locked file still stands there: it was neither removed nor replaced."""
        try:
            there = path.stat()
        except OSError:
            return False
        return self._file is not None and os.path.samestat(there, os.fstat(self._file.fileno()))

    def release(self) -> None:
        """Close this process's hold. May be called again."""
        if self._file is not None:
            self._file.close()


def is_locked(path: Path) -> bool:
    """Return whether somebody holds a FileLock. Writes nothing, also where nothing may be written."""
    try:
        fd = shared.open_own(path, os.O_RDONLY)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP):
            return False  # what stands there is no lock, so nobody holds it
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class DataDir:
    """Paths and files of one data directory. Holds nothing open.

    It is the directory that was named or, where that is a mount point which a group may write to, as
    Kubernetes makes one for `fsGroup`, a folder in it that is its owner's alone.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        # Earlier versions kept its files in the mount point itself.
        if _is_shared_mount(self.path) and not os.path.lexists(self.path / "engine.lock"):
            self.path /= OWN_FOLDER
        self.engine_lock = self.path / "engine.lock"
        self.engine_file = self.path / "engine.json"
        self.snapshot = self.path / "config.json"
        self.words = self.path / "words"
        self.thresholds = self.path / "thresholds"
        self.store = self.path / "store.db"
        self.audit = self.path / "audit"
        self.history = self.path / "history"
        self.damaged = self.path / "damaged"
        self.store_logs = tuple(self.path / f"store.db-{end}" for end in ("wal", "shm"))
        self.control_socket = self.path / "control.sock"
        self.scheduler_doorbell = self.path / "keeper.bell"
        self.admin_file = self.path / "admin.json"
        self.rings = self.path / "rings"
        self.workers = self.path / "workers"

    @property
    def is_new(self) -> bool:
        """True if no engine has made anything there."""
        return not any(path.exists() for path in (self.words, self.snapshot, self.store))

    def make(self) -> None:
        """Make the directory unless it is there, and `check` it. Raises OSError."""
        absent = itertools.takewhile(
            lambda folder: not folder.exists(), (self.path, *self.path.parents)
        )
        for folder in reversed([*absent]):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                folder.chmod(0o700)  # under any umask
        self.check()

    def check(self) -> None:
        """Raise EngineError unless the directory is this user's, and nobody else may write to it.

        Anyone who could might have the engine send, or lose, anything. PostgreSQL asks for the same.
        Raises OSError where there is none.
        """
        found, uid = self.path.stat(), os.geteuid()
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))
        link = self.path.lstat()
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (uid, 0):
            raise EngineError(
                f"{self.path} is a link that another user (uid {link.st_uid}) has made; name the "
                "data directory itself"
            )
        if _is_shared_mount(self.path):  # with the files of an earlier version in it
            found = (self.path / "engine.lock").lstat()
        if found.st_uid != uid:
            raise EngineError(
                f"the data directory {self.path} belongs to another user (uid {found.st_uid}, not "
                f"{uid}); run as that user, give it to this one (chown), or choose another"
            )
        if found.st_mode & _OTHERS_WRITE:
            raise EngineError(
                f"others may write to the data directory {self.path} (its mode is "
                f"{stat.S_IMODE(found.st_mode):04o}); take that away (chmod go-w), or choose another, "
                f"such as {self.path / OWN_FOLDER}"
            )

    def worker(self, index: int) -> Path:
        return self.workers / str(index)

    def serving(self, worker: int) -> Path:
        """Return the file that is locked while the worker takes and sends events."""
        return self.worker(worker) / "serving"

    def doorbell(self, worker: int) -> Path:
        return self.worker(worker) / "bell"

    def open_words(self, *, writable: bool = True) -> shared.Words:
        """Open the shared words. Raise EngineNotRunning where no engine ever started, and
        EngineError where those who are to write may not trust the directory."""
        with self.usable():
            if not self.words.exists():
                raise EngineNotRunning(
                    f"no fluxhook engine was ever started on {self.path}; start one with "
                    f"`fluxhook serve -c FILE --data-dir {shlex.quote(str(self.path))}`"
                )
            if writable:
                self.check()
            return shared.Words(str(self.words), 0, WORD_FIELDS, writable=writable)

    def publisher_slots(self) -> list[Path]:
        """Return the folders of all publishers that ever attached."""
        if not self.rings.is_dir():
            return []
        return sorted(p for p in self.rings.iterdir() if _is_slot(p.name) and _is_folder(p))

    def worker_folders(self, workers: int = 0) -> list[Path]:
        """Return the folders of all workers that ever were, at their index, and of the first
        `workers`."""
        if not self.workers.is_dir():
            return []
        folders = (
            p
            for p in self.workers.iterdir()
            if p.name.isdecimal()
            and _is_folder(p)
            and (int(p.name) < workers or (p / "outbox.ring").exists())
        )
        return sorted(folders, key=lambda p: int(p.name))

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the compiled layer's complaint about a file into a LayoutError with the way out."""
        try:
            yield
        except shared.OtherVersion as e:
            raise LayoutError(
                f"{e}; drain it with the version that wrote it, or move {self.path} aside"
            ) from e
        except shared.LayoutMismatch as e:
            raise LayoutError(f"{e}; start the engine anew, which saves what can be saved") from e

    @contextlib.contextmanager
    def usable(self) -> Iterator[None]:
        """Do the same, and turn what the system says of a file into an EngineError with the remedy."""
        try:
            with self.translated():
                yield
        except OSError as e:
            raise EngineError(unusable(e, self.path)) from e


def _is_shared_mount(path: Path) -> bool:
    """Return whether something is mounted there that a group may write to, and nobody else."""
    try:
        if path.stat().st_mode & _OTHERS_WRITE != stat.S_IWGRP:
            return False
        folder = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            return _mount_of(folder) != _mount_of(above)
        finally:
            os.close(above)
    except OSError:
        return False
    finally:
        os.close(folder)


def _mount_of(fd: int) -> str:
    """Return the line with the id of the mount that a descriptor lies in (proc(5), fdinfo)."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def unusable(error: OSError, path: Path) -> str:
    """Return a line about a file that the system does not let us use, with the remedy."""
    remedy = _REMEDIES.get(error.errno or 0, "see to it, and try again")
    return f"{error.filename or path} cannot be used: {error.strerror or error}; {remedy}"


def _is_folder(path: Path) -> bool:
    """Return whether it is one itself; a link to one may lead anywhere."""
    return path.is_dir() and not path.is_symlink()


def _is_slot(name: str) -> bool:
    return name.isdecimal() or name == "engine"


#: what helps where the system says no
_REMEDIES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk, or raise the quota",
    errno.EMFILE: "raise this process's limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.ENOMEM: "give this process more memory, or lower ring_bytes",
    errno.EACCES: "let this user read and write it",
    errno.EPERM: "let this user read and write it",
    errno.EROFS: "let it be written to",
    errno.EIO: "check its disk",
    errno.ELOOP: "put the file itself there, not a link",
    errno.ENOTDIR: "name a folder, and one that lies in folders",
    errno.ENOENT: "the data directory is incomplete: start the engine again",
}


def make_doorbell(path: Path) -> None:
    """Create the FIFO unless it is there."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
        path.chmod(0o600)  # under any umask


def open_doorbell(path: Path) -> int:
    """Return a file descriptor that can ring and be read; opening both ends never blocks (fifo(7))."""
    return shared.open_own(path, os.O_RDWR, kind=stat.S_IFIFO)


def quiet_doorbell(fd: int) -> None:
    """Take all bytes out, so that epoll is quiet until it rings again."""
    with contextlib.suppress(BlockingIOError):
        while len(os.read(fd, 4096)) == 4096:
            pass
