"""The data directory is its owner's alone, and nothing in it leads elsewhere."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Config, Endpoint, Engine, EngineError, Publisher, Size
from fluxhook._native.shared import is_own, open_own
from fluxhook.control import Control
from fluxhook.store import ReadStore, StoreError
from fluxhook.store.audit import AuditTrail
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import datadir
from fluxhook.transport.datadir import DataDir, FileLock, is_locked, open_doorbell
from fluxhook.transport.files import make_folder, overwrite_file, read_file, replace_file
from fluxhook.transport.snapshot import Snapshot
from support import own_disk

CONFIG = Config(
    workers=1,
    ring_bytes=Size.parse("4MiB"),
    max_endpoints=16,
    endpoints=(Endpoint(name="ops", url="https://hooks.example.com/", signature="none"),),
)


def begin(path: Path) -> None:
    """An engine without workers, and a publisher of it."""
    supervisor = Supervisor(path, CONFIG)
    try:
        Publisher(path).close()
    finally:
        supervisor.close()


def begins(path: Path) -> str:
    """Return why it does not begin, or nothing."""
    try:
        begin(path)
    except EngineError as e:
        return str(e)
    return ""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# ---- whose it is ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o707, 0o770, 0o720, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """By an engine that starts there and by a publisher that attaches; nothing is left in it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(mode)
    with pytest.raises(EngineError, match=r"others may write to .*chmod go-w"):
        Supervisor(tmp_path / "data", CONFIG)
    assert list((tmp_path / "data").iterdir()) == []
    (tmp_path / "data").chmod(0o700)
    begin(tmp_path / "data")
    (tmp_path / "data").chmod(mode)
    with pytest.raises(EngineError, match="others may write to"):
        Publisher(tmp_path / "data")


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o2755])
def test_a_directory_that_others_may_only_read_is_taken(tmp_path: Path, mode: int) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(mode)
    begin(tmp_path / "data")


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by root: what it would write there the other could not use any more."""
    (tmp_path / "data").mkdir(mode=0o700)
    theirs = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: theirs + 1)
    with pytest.raises(EngineError, match=rf"belongs to another user \(uid {theirs}, not"):
        Supervisor(tmp_path / "data", CONFIG)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_link_to_the_directory_is_followed_if_it_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "data").symlink_to("disk")
    begin(tmp_path / "data")
    assert (tmp_path / "disk" / "words").exists()


def test_a_file_that_stands_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(EngineError, match="data cannot be used: Not a directory"):
        Supervisor(tmp_path / "data", CONFIG)


# ---- a mount point -------------------------------------------------------------------------


def test_a_mount_point_that_a_group_may_write_to_gets_a_folder_of_ours(tmp_path: Path) -> None:
    """As Kubernetes makes one for `fsGroup`. A process that is given the mount point finds it."""
    own_disk.run("transport.test_datadir", "_group_mount", tmp_path / "mount")


def _group_mount(mount: Path) -> None:
    mount.chmod(0o2775)
    begin(mount)
    assert [path.name for path in mount.iterdir()] == ["fluxhook"]
    assert mode_of(mount / "fluxhook") & 0o777 == 0o700
    assert DataDir(mount).path == DataDir(mount / "fluxhook").path == mount / "fluxhook"
    assert Snapshot.load(DataDir(mount)).ids == {"ops": 0}
    begin(mount)
    (mount / "fluxhook").chmod(0o770)
    with pytest.raises(EngineError, match="others may write to"):
        begin(mount)


def test_a_mount_point_that_has_a_data_directory_stays_one(tmp_path: Path) -> None:
    """An earlier version made it there."""
    own_disk.run("transport.test_datadir", "_used_mount", tmp_path / "mount")


def _used_mount(mount: Path) -> None:
    mount.chmod(0o700)
    begin(mount)
    mount.chmod(0o2775)
    begin(mount)
    assert not (mount / "fluxhook").exists()
    (mount / "engine.lock").unlink()  # now it is another's, or none
    begin(mount)
    assert (mount / "fluxhook" / "words").exists()


def test_a_mount_point_that_all_may_write_to_is_refused(tmp_path: Path) -> None:
    own_disk.run("transport.test_datadir", "_open_mount", tmp_path / "mount")


def _open_mount(mount: Path) -> None:
    mount.chmod(0o2777)
    with pytest.raises(EngineError, match=r"others may write to .*such as .*mount/fluxhook"):
        begin(mount)


# ---- modes ---------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o027, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_modes_hold_under_any_umask(tmp_path: Path, umask: int) -> None:
    """Of every file and folder of a running engine, parents that it makes included."""
    data = tmp_path / "var" / "lib" / "data"
    with Engine(CONFIG, data) as engine:
        engine.emit("order.created", {"n": 1})
        AuditTrail(data / "audit", max_bytes=4096, files=1).append([])
        make_folder(data / "damaged")
        modes = {path: mode_of(path) for path in [data, *data.parents, *data.rglob("*")]}
    found = {str(path.relative_to(tmp_path)): mode for path, mode in modes.items()
             if tmp_path in path.parents}  # fmt: skip
    assert {"var", "var/lib", "var/lib/data/control.sock", "var/lib/data/keeper.bell"} <= set(found)
    assert {"var/lib/data/store.db-wal", "var/lib/data/audit/audit.jsonl"} <= set(found)
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode != (0o700 if (tmp_path / name).is_dir() else 0o600)
    }
    assert wrong == {}


# ---- links ---------------------------------------------------------------------------------


def files_of(data: Path) -> list[str]:
    return sorted(str(p.relative_to(data)) for p in data.rglob("*") if p.is_file())


def test_no_link_in_the_directory_is_followed(tmp_path: Path) -> None:
    """A link that stands for a file is moved aside, or the start is refused; what it leads to stays
    as it is."""
    begin(tmp_path / "model")
    names = files_of(tmp_path / "model")
    assert {"config.json", "engine.lock", "rings/0/0.ring", "store.db", "words"} <= set(names)
    for n, name in enumerate([*names, "admin.json", "engine.json", "store.db-wal"]):
        data, outside = tmp_path / f"data{n}", tmp_path / f"outside{n}"
        begin(data)
        if (data / name).exists():
            (data / name).replace(outside)
        else:
            outside.write_bytes(b"untouched")
        before = outside.read_bytes()
        (data / name).symlink_to(outside)
        refusal = begins(data)
        assert "store.db" in refusal if refusal else not (data / name).is_symlink(), name
        assert outside.read_bytes() == before, name


def test_no_link_is_followed_as_a_file_is_made(tmp_path: Path) -> None:
    """Of the name of a temporary file, which can be guessed."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    begin(tmp_path / "data")
    data = tmp_path / "data"
    planted = [data / f"{name}.new" for name in ("config", "engine", "admin", "thresholds")]
    for name in ("stages", "counters", "inbox.ring"):
        (data / "workers" / "0" / name).unlink()
        planted.append(data / "workers" / "0" / f"{name}.{os.getpid()}.new")
    for path in planted:
        path.symlink_to(outside)
    begin(data)
    assert outside.read_bytes() == b"untouched"
    assert not (data / "config.json").is_symlink()


@pytest.mark.parametrize("name", ["rings", "workers", "audit", "workers/0", "rings/0", "damaged"])
def test_no_link_to_a_folder_is_followed(tmp_path: Path, name: str) -> None:
    """Nothing is made or changed where it leads to."""
    data, outside = tmp_path / "data", tmp_path / "outside"
    begin(data)
    outside.mkdir()
    if (data / name).exists():
        (data / name).rename(tmp_path / "moved")
    (data / name).symlink_to(outside)
    (data / "engine.lock").unlink()
    (data / "engine.lock").mkdir()  # so that something has to be put into damaged/
    refusal = begins(data)
    assert not refusal or f"{name}" in refusal
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm", "store.db-journal"])
def test_sqlite_follows_no_link(tmp_path: Path, name: str) -> None:
    """A reader is refused one too."""
    begin(tmp_path / "data")
    path = tmp_path / "data" / name
    if path.exists():
        path.rename(tmp_path / "outside")
    else:
        (tmp_path / "outside").write_bytes(b"")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match=f"{name} is not a regular file of this user's"):
        ReadStore.open(tmp_path / "data" / "store.db")


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "device", "folder"])
def test_only_a_regular_file_is_opened(tmp_path: Path, kind: str) -> None:
    """Whatever it is opened for, and without waiting."""
    path = tmp_path / "words"
    match kind:
        case "link":
            (tmp_path / "outside").write_bytes(bytes(8192))
            path.symlink_to(tmp_path / "outside")
        case "dangling":
            path.symlink_to(tmp_path / "absent")
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")  # to make one takes a privilege
        case "folder":
            path.mkdir()
    for flags in (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match="words"):
            open_own(path, flags)
    with pytest.raises(FileExistsError):
        open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    assert not is_locked(path)
    for use in (read_file, FileLock, lambda path: overwrite_file(path, b"")):
        with pytest.raises(OSError, match="words"):
            use(path)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(OSError, match="it is not a regular file"):
        open_own(Path("/dev/zero"), os.O_RDONLY)


def test_a_hard_link_to_a_file_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks like any file, but for its owner. Root may look at what the folder's owner has."""
    begin(tmp_path / "data")
    data = DataDir(tmp_path / "data")
    theirs = os.geteuid()
    found = data.words.stat()
    assert is_own(found, data.path)
    monkeypatch.setattr(os, "geteuid", lambda: theirs + 1)
    assert not is_own(found, data.path)
    for use in (lambda: read_file(data.snapshot), lambda: FileLock(data.engine_lock),
                lambda: open_doorbell(data.scheduler_doorbell),
                lambda: make_folder(data.rings)):  # fmt: skip
        with pytest.raises(OSError, match="it belongs to another user"):
            use()
    with pytest.raises(StoreError, match="not a regular file of this user's"):
        ReadStore.open(data.store)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert is_own(found, data.path)
    assert is_own(found, "/") == (theirs == 0)


def test_a_bell_of_another_user_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any file that cannot be used: no traceback reaches a user."""

    def refused(path: Path) -> int:
        raise PermissionError(errno.EPERM, "it belongs to another user", str(path))

    monkeypatch.setattr(datadir, "open_doorbell", refused)
    assert "keeper.bell cannot be used: it belongs to another user" in begins(tmp_path / "data")


def test_another_users_socket_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change may hold secrets."""
    supervisor = Supervisor(tmp_path / "data", CONFIG)
    theirs = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: theirs + 1)
    try:
        with pytest.raises(EngineError, match="its socket belongs to another user"):
            Control(tmp_path / "data").pause("ops")
    finally:
        monkeypatch.undo()
        supervisor.close()


def test_a_file_is_replaced_also_where_a_link_stands(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"untouched")
    (tmp_path / "engine.json").symlink_to("outside")
    replace_file(tmp_path / "engine.json", b"new")
    assert (tmp_path / "outside").read_bytes() == b"untouched"
    assert read_file(tmp_path / "engine.json") == b"new"


def test_where_a_folder_became_a_file_nobody_holds_a_lock(tmp_path: Path) -> None:
    """It is no error: the process that asks finds out by other means what became of the folder."""
    (tmp_path / "file").write_bytes(b"")
    assert not is_locked(tmp_path / "file" / "lock")
