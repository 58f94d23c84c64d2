"""Changes to a running engine: what can be asked of its supervisor, and the asking of it.

The supervisor listens on a Unix socket in the data directory, and is the only one who changes
anything. A message is its length in four bytes, little-endian, and MessagePack: a request, by itself or
with its `Origin` (`Asked`). Each gets one reply.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from typing import Any, TypeVar

import msgspec

from fluxhook import errors
from fluxhook._native.shared import is_own
from fluxhook.config.codec import encode_hook
from fluxhook.config.definition import check_entries
from fluxhook.config.units import Duration
from fluxhook.errors import ConfigError, EngineError, EngineNotRunning, EventError, Problem
from fluxhook.events.names import hint
from fluxhook.events.nesting import MAX_TEXT_DEPTH, is_deeper
from fluxhook.store import ReadStore, StoreError
from fluxhook.store.audit import Via
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

__all__ = [
    "MAX_IDS",
    "MAX_MESSAGE",
    "Asked",
    "CloseBreaker",
    "Control",
    "Create",
    "Delete",
    "Failure",
    "Origin",
    "Pause",
    "Purge",
    "Replay",
    "Request",
    "Resend",
    "Resent",
    "Resume",
    "Retry",
    "RetryDelivery",
    "Rotate",
    "Rotated",
    "Selection",
    "Step",
    "Subscription",
    "Test",
    "TestSent",
    "Update",
    "Walk",
    "frame",
    "socket_path",
]

#: bytes; a test event has at most max_event_bytes, and those at most 256 MiB
MAX_MESSAGE = 300 << 20
#: the same for every other request; arbitrary, far above the certificates of a definition, which may be
#: written out (transport/tls.py)
MAX_DEFINITION = 8 << 20
#: deliveries that one request may name, so that none keeps the supervisor for long
MAX_IDS = 1000
#: SQLite's integers
MAX_ID = 2**63 - 1
#: between two attempts to connect while the socket's queue is full
CONNECT_POLL_S = 0.005
DAY = Duration.parse("24h")

R = TypeVar("R", bound=msgspec.Struct)


class Create(msgspec.Struct, frozen=True, tag=True):
    layer: dict[str, Any]


class Update(msgspec.Struct, frozen=True, tag=True):
    name: str
    patch: dict[str, Any]


class Delete(msgspec.Struct, frozen=True, tag=True):
    name: str


class Pause(msgspec.Struct, frozen=True, tag=True):
    name: str


class Resume(msgspec.Struct, frozen=True, tag=True):
    name: str


class Rotate(msgspec.Struct, frozen=True, tag=True):
    name: str
    secret: str | None
    overlap_ns: int


class Test(msgspec.Struct, frozen=True, tag=True):
    name: str
    event_type: str
    data: Any


class CloseBreaker(msgspec.Struct, frozen=True, tag=True):
    name: str


class Walk(msgspec.Struct, frozen=True):
    """What the deliveries of a request were chosen by. `after` is where the step before ended, 0 in the
    first step; `more` says that another step follows."""

    chosen: dict[str, Any]
    after: int = 0
    more: bool = False


class Replay(msgspec.Struct, frozen=True, tag=True):
    ids: list[int]
    walk: Walk | None = None


class Purge(msgspec.Struct, frozen=True, tag=True):
    ids: list[int]
    walk: Walk | None = None


class Retry(msgspec.Struct, frozen=True, tag=True):
    name: str
    ids: list[int]
    walk: Walk


class RetryDelivery(msgspec.Struct, frozen=True, tag=True):
    id: int


class Resend(msgspec.Struct, frozen=True, tag=True):
    id: int


Request = (
    Create | Update | Delete | Pause | Resume | Rotate | Test | CloseBreaker
    | Replay | Purge | Retry | RetryDelivery | Resend
)  # fmt: skip


class Origin(msgspec.Struct, frozen=True):
    """Who asks for a change, and by what way. Without an `actor` it is the user who has connected."""

    actor: str = ""
    via: Via = "embedding"


class Asked(msgspec.Struct, frozen=True, tag=True):
    """A request with its origin."""

    request: Request
    origin: Origin


class Subscription(msgspec.Struct, frozen=True, tag=True):
    """An endpoint after a change; `secret` only where it was made for the caller."""

    name: str
    id: int
    secret: str | None = None
    notices: list[str] = []


class Rotated(msgspec.Struct, frozen=True, tag=True):
    """The secret that signs first now; the former ones sign until `expires_ns`."""

    secret: str
    generated: bool
    expires_ns: int


class TestSent(msgspec.Struct, frozen=True, tag=True):
    """The delivery is in the store from its beginning, and stays there when it succeeds."""

    event_id: str
    delivery_id: int
    #: until when an open breaker lets nothing go, in wall time; None: it goes at once
    held_until_ns: int | None = None


class Resent(msgspec.Struct, frozen=True, tag=True):
    """None: there is no such delivery, or no longer."""

    sent: TestSent | None


class Done(msgspec.Struct, frozen=True, tag=True):
    """How many deliveries were changed."""

    count: int = 0


class Failure(msgspec.Struct, frozen=True, tag=True):
    """An error of `fluxhook.errors`, to be raised where the request was made."""

    error: str
    message: str
    problems: list[Problem] = []
    more: int = 0


Reply = Subscription | Rotated | TestSent | Resent | Done | Failure


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries: `ids`, or all that match. Times are when dead letters died. They are taken in steps
    of `limit`, by ascending id, above `after`."""

    ids: list[int] | None = None
    endpoint: str | None = None
    type: str | None = None
    cause: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    after: int = 0
    limit: int = 500


class Step(msgspec.Struct, frozen=True):
    """How many deliveries a step changed, and the `after` of the next; None if it was the last."""

    done: int
    after: int | None


class Control:
    """Asks the supervisor of a data directory; any thread of any process may.

    A change is in effect, for events that are emitted from then on, when its method returns. Every
    method raises EngineNotRunning where no engine runs, EngineError where it does not answer within
    `timeout_s`, and what the request says of its own.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        timeout_s: float = 10.0,
        origin: Origin | None = None,
    ) -> None:
        """Remember the data directory `data_dir`; nothing is opened before the first request.

        `timeout_s` bounds, in seconds, how long a request waits for its answer. `origin` is what the
        trail of changes says of who asks; by default the user of this process. Raise nothing: the first
        request says what is wrong.
        """
        self._datadir = DataDir(data_dir)
        self._timeout_s = timeout_s
        self._origin = origin or Origin()

    def create(self, layer: dict[str, Any]) -> Subscription:
        """Create an endpoint from a `layer`: the fields of `Endpoint`, written as in the YAML file.

        They lie over the configuration's `defaults`. `url` and `events` are needed (["*"]: all), a
        `name` is made of the URL's host where there is none, and `generate_secret: true` has a secret
        made. Return its name, its id, the secret that was made, and notices. Raise ConfigError,
        Conflict if the name is taken.
        """
        check_entries(layer)
        return self._ask(Create(layer), Subscription)

    def update(self, name: str, patch: dict[str, Any]) -> Subscription:
        """Change the endpoint `name` by a JSON merge `patch` (RFC 7396): null takes a field back to its
        default.

        A patch that moves it to another origin, proxy or `tls.ca` gives its headers, secrets and client
        key again. Return what `create` returns. Raise ConfigError, UnknownEndpoint, Conflict for an
        endpoint of the file.
        """
        check_entries(patch)
        return self._ask(Update(name, patch), Subscription)

    def delete(self, name: str) -> None:
        """Remove the endpoint `name`; what waits for it becomes dead letters.

        Raise UnknownEndpoint, Conflict for an endpoint of the file.
        """
        self._ask(Delete(name), Done)

    def pause(self, name: str) -> None:
        """Make the deliveries of the endpoint `name` wait in the store, over restarts too. Raise
        UnknownEndpoint."""
        self._ask(Pause(name), Done)

    def resume(self, name: str) -> None:
        """End a pause of the endpoint `name`, or its disabling; its breaker starts closed. Raise
        UnknownEndpoint."""
        self._ask(Resume(name), Done)

    def rotate_secret(
        self, name: str, secret: str | None = None, overlap: Duration = DAY
    ) -> Rotated:
        """Give the endpoint `name` a new `secret`, a random one if None.

        The former ones sign beside it for `overlap`. Return the secret, whether it was made, and when
        the former ones end, in nanoseconds since the epoch. Raise ConfigError, UnknownEndpoint,
        Conflict for an endpoint of the file.
        """
        return self._ask(Rotate(name, secret, overlap.ns), Rotated)

    def send_test(
        self, name: str, type: str = "webhook.test", data: dict[str, Any] | None = None
    ) -> TestSent:
        """Send one event of `type`, with `data`, to the endpoint `name` alone, whatever it subscribes
        to.

        Return the ids of the event and of its delivery, and until when an open breaker holds it.
        Raise EventError, UnknownEndpoint, Conflict if it is paused or disabled.
        """
        return self._ask(Test(name, type, data), TestSent)

    def close_breaker(self, name: str) -> None:
        """Close the breaker of the endpoint `name`, so that requests go at once; failures in a row open
        it as ever.

        What the breaker held back stays due when it is; `retry` sends it now. Raise UnknownEndpoint,
        Conflict where nothing is sent whatever the breaker says.
        """
        self._ask(CloseBreaker(name), Done)

    def retry(self, selection: Selection) -> Step:
        """Make what waits for its time due now, of the `selection`'s endpoint, which is needed; a
        `cause` leaves those that wait for another reason. Attempts count as ever.

        In steps, as `replay`. Raise UnknownEndpoint, Conflict where nothing can be sent now.
        """
        if selection.endpoint is None:
            raise ValueError("a retry needs the selection's endpoint")
        ids, walk = self._chosen(selection, waiting=True)
        done = self._ask(Retry(selection.endpoint, ids, walk), Done).count
        return Step(done, ids[-1] if walk.more else None)

    def retry_delivery(self, id: int) -> bool:
        """Make one delivery that waits for its time due now; False where there is none of this `id`.

        Raise Conflict where it does not wait, or nothing can be sent now.
        """
        return self._ask(RetryDelivery(id), Done).count > 0

    def resend(self, id: int) -> TestSent | None:
        """Deliver the event of a delivery that succeeded once more: a new delivery, of the same event
        id and body. None where there is none of this `id`, or no longer.

        Return the ids of the event and of the new delivery, and until when an open breaker holds it.
        Raise Conflict where it did not succeed, or nothing can be sent now.
        """
        return self._ask(Resend(id), Resent).sent

    def replay(self, selection: Selection) -> Step:
        """Make the dead letters of a `selection` wait again, due now, with all of their attempts before
        them.

        One call is one step of up to 1000: return how many it was, and the id after which the next step
        goes on, None when there is none. Raise UnknownEndpoint.
        """
        return self._step(Replay, selection)

    def purge(self, selection: Selection) -> Step:
        """Erase the dead letters of a `selection`, once each has a line in the audit trail.

        In steps, as `replay`. Raise UnknownEndpoint, EngineError if the trail cannot be written.
        """
        return self._step(Purge, selection)

    # ---- asking ----------------------------------------------------------------------------

    def _step(self, kind: type[Replay] | type[Purge], selection: Selection) -> Step:
        ids, walk = self._chosen(selection)
        done = self._ask(kind(ids, None if selection.ids is not None else walk), Done).count
        return Step(done, ids[-1] if walk.more else None)

    def _chosen(self, selection: Selection, *, waiting: bool = False) -> tuple[list[int], Walk]:
        """Look the ids of a step up here, so that the supervisor does not have to search: those of dead
        letters or, if `waiting`, of what waits for its time."""
        limit = max(1, min(selection.limit, MAX_IDS))
        if selection.ids is not None:
            above = {id for id in selection.ids if selection.after < id <= MAX_ID}
            ids = sorted(above)[:limit]
        else:
            ids = self._select(selection, limit, waiting=waiting)
        chosen = {
            name: getattr(selection, name)
            for name in ("endpoint", "type", "cause", "since_ns", "until_ns")
            if getattr(selection, name) is not None
        }
        return ids, Walk(chosen, selection.after, len(ids) == limit)

    def _select(self, selection: Selection, limit: int, *, waiting: bool) -> list[int]:
        with ReadStore.open(self._datadir.store) as store:
            endpoint = None
            if selection.endpoint is not None:
                known = {row.name: row.id for row in store.endpoints()}
                if selection.endpoint not in known:
                    raise errors.UnknownEndpoint(
                        f"there is no endpoint {selection.endpoint!r:.80}"
                        f"{hint(selection.endpoint, known)}"
                    )
                endpoint = known[selection.endpoint]
            if waiting:
                assert endpoint is not None
                return store.select_waiting(
                    endpoint, cause=selection.cause, after=selection.after, limit=limit
                )
            return store.select_dead(
                endpoint=endpoint,
                type=selection.type,
                cause=selection.cause,
                since_ns=selection.since_ns,
                until_ns=selection.until_ns,
                after=selection.after,
                limit=limit,
            )

    def _ask(self, request: Request, kind: type[R]) -> R:
        try:
            if is_deeper(request, MAX_TEXT_DEPTH):
                raise ValueError(f"it is nested over {MAX_TEXT_DEPTH} levels deep, or holds itself")
            asked = Asked(request, self._origin)
            message = msgspec.msgpack.encode(asked, enc_hook=encode_hook)
        except (TypeError, ValueError, NotImplementedError, OverflowError) as e:
            if isinstance(request, Test):
                raise EventError(f"data has no JSON form: {e}", field="data") from None
            raise ConfigError(
                Problem(
                    "request", f"has no JSON form: {e}", "write texts, numbers, lists and dicts"
                )
            ) from None
        if len(message) > MAX_DEFINITION and not isinstance(request, Test):
            raise ConfigError(
                Problem("request", f"is over {MAX_DEFINITION >> 20} MiB", "send less")
            )
        reply = self._exchange(message)
        if isinstance(reply, Failure):
            raise _raised(reply)
        assert isinstance(reply, kind)
        return reply

    def _exchange(self, request: bytes) -> Reply:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(self._timeout_s)
            try:
                with socket_path(self._datadir) as path:
                    if not is_own(os.lstat(path), self._datadir.path):
                        raise OSError(errno.EPERM, "its socket belongs to another user")
                    self._connect(connection, path)
            except (FileNotFoundError, ConnectionRefusedError):
                Snapshot.load(self._datadir)  # says it if none was ever started
                raise EngineNotRunning(f"no engine runs on {self._datadir.path}") from None
            except OSError as e:
                raise EngineError(f"the engine cannot be reached: {e.strerror or e}") from e
            try:
                connection.sendall(frame(request))
                (length,) = struct.unpack("<I", _receive(connection, 4))
                answer = _receive(connection, length)
            except TimeoutError:
                raise EngineError(
                    f"the engine did not answer within {self._timeout_s:g} s; the change may have "
                    "been made all the same"
                ) from None
            except OSError as e:
                raise EngineError(
                    "the engine ended before it answered; the change may have been made all the same"
                ) from e
        try:
            reply: Reply = msgspec.msgpack.decode(answer, type=Reply)
        except msgspec.MsgspecError as e:
            raise EngineError(f"the engine's answer is of another version: {e}") from None
        return reply

    def _connect(self, connection: socket.socket, path: str) -> None:
        end = time.monotonic() + self._timeout_s
        while True:
            try:
                connection.connect(path)
            except BlockingIOError:  # no timeout of the socket's: its queue is full (connect(2))
                if time.monotonic() >= end:
                    raise
                time.sleep(CONNECT_POLL_S)
            else:
                return


def frame(message: bytes) -> bytes:
    return struct.pack("<I", len(message)) + message


class socket_path(contextlib.AbstractContextManager[str]):
    """A path of the control socket that is short enough: one in `sun_path` has at most 107 bytes
    (unix(7)), so it goes through a descriptor of the data directory."""

    def __init__(self, datadir: DataDir) -> None:
        self._fd = os.open(datadir.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._fd}/control.sock"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        chunk = connection.recv(min(length - len(data), 1 << 20))
        if not chunk:
            raise ConnectionResetError
        data += chunk
    return bytes(data)


def _raised(failure: Failure) -> errors.FluxhookError:
    if failure.problems:
        return ConfigError([Problem(*problem) for problem in failure.problems], failure.more)
    kind = StoreError if failure.error == "StoreError" else getattr(errors, failure.error, None)
    return (kind or EngineError)(failure.message)
