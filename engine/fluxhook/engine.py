"""The engine as a host program embeds it: its processes, and a publisher into them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fluxhook import errors
from fluxhook.config import codec
from fluxhook.config.check import validate
from fluxhook.config.load import load
from fluxhook.config.schema import Config
from fluxhook.control import Control
from fluxhook.errors import EngineError
from fluxhook.host_listener import HostListener
from fluxhook.logs.log import Log
from fluxhook.publisher.publisher import Publisher
from fluxhook.stats import Stats, read_stats
from fluxhook.transport.host_channel import DeadLetter, EndpointStateChange
from fluxhook.transport.process import Child
from fluxhook.transport.readiness import hear

__all__ = ["DEFAULT_DATA_DIR", "Engine", "connect"]

log = Log("engine")

#: where state goes if neither the caller nor the configuration says; relative to the host's folder
DEFAULT_DATA_DIR = "fluxhook-data"
START_TIMEOUT_S = 30.0
#: between the death of a supervisor and its successor; doubled while it keeps dying young
MIN_RESTART_BACKOFF_S, MAX_RESTART_BACKOFF_S = 0.05, 5.0
STEADY_S = 10.0
DRAIN_POLL_S = 0.01
#: beyond `shutdown_timeout`: the supervisor stores what its workers reported last
CLOSE_GRACE_S = 30.0


def connect(data_dir: str | os.PathLike[str]) -> Publisher:
    """Return a publisher into the engine of `data_dir`, from any process of the same host.

    Raise EngineNotRunning where no engine was ever started, TooManyPublishers, LayoutError.
    """
    return Publisher(data_dir)


class Engine:
    """Supervisor and workers as child processes, and a publisher into them.

        with Engine.from_yaml("webhook.yaml") as engine:
            engine.emit("route.error", {...})

    The processes are watched: killed workers are replaced by the supervisor, a killed supervisor by
    this object. If this process dies, they deliver what is in the rings, within `shutdown_timeout`,
    and leave. `start` and `close` belong to one thread; `emit` may be called by any.
    """

    def __init__(
        self,
        config: Config,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        on_dead_letter: Callable[[DeadLetter], object] | None = None,
        on_endpoint_state: Callable[[EndpointStateChange], object] | None = None,
    ) -> None:
        """Check the configuration and touch nothing; `start` makes the processes.

        `data_dir` holds all that the engine keeps; by default `config.data_dir`, otherwise
        `fluxhook-data` in the working directory.

        `on_dead_letter` is called with each event that is given up, once that is committed, and
        `on_endpoint_state` with each change of an endpoint's state; both on one thread of this
        object's, `fluxhook-callbacks`. What they raise is logged. While one does not return up to
        10,000 calls wait; more are left out and counted in the log. Raise ConfigError with every
        problem of `config`.
        """
        for notice in validate(config):
            log.warning("%s", notice)
        self.config = config
        self.data_dir = Path(data_dir or config.data_dir or DEFAULT_DATA_DIR).absolute()
        self._on_dead_letter = on_dead_letter
        self._on_endpoint_state = on_endpoint_state
        self._listener: HostListener | None = None
        self._child: Child | None = None
        self._publisher: Publisher | None = None
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()
        #: whose processes and threads they are: a forked child must not end them
        self._pid = -1

    @classmethod
    def from_yaml(
        cls,
        path: str | os.PathLike[str],
        data_dir: str | os.PathLike[str] | None = None,
        *,
        allow_networks: Iterable[str] = (),
        on_dead_letter: Callable[[DeadLetter], object] | None = None,
        on_endpoint_state: Callable[[EndpointStateChange], object] | None = None,
    ) -> Self:
        """Return an engine as the FluxMQ `webhook:` file at `path` describes it.

        `allow_networks` adds to the file's own. `data_dir`, `on_dead_letter` and `on_endpoint_state`
        are as in the constructor. Raise ConfigError with every problem of the file.
        """
        return cls(
            load(path, allow_networks=allow_networks).config,
            data_dir,
            on_dead_letter=on_dead_letter,
            on_endpoint_state=on_endpoint_state,
        )

    @classmethod
    def from_config(
        cls,
        config: Config,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        on_dead_letter: Callable[[DeadLetter], object] | None = None,
        on_endpoint_state: Callable[[EndpointStateChange], object] | None = None,
    ) -> Self:
        """Return an engine of a configuration; the same as the constructor, with its `config`,
        `data_dir`, `on_dead_letter`, `on_endpoint_state` and errors (it raises ConfigError)."""
        return cls(
            config,
            data_dir,
            on_dead_letter=on_dead_letter,
            on_endpoint_state=on_endpoint_state,
        )

    def start(self) -> Self:
        """Start the processes and return this engine when they serve.

        Raise EngineRunning if another engine has the data directory, EngineError or ConfigError if they
        cannot serve.
        """
        if self._child is not None:
            raise EngineError("this engine was started already")
        self._closing.clear()
        self._pid = os.getpid()
        self._listener = HostListener(
            self.config.log.format, self._on_dead_letter, self._on_endpoint_state
        )
        try:
            self._child = self._spawn()
        except BaseException:
            self._close_listener()
            raise
        try:
            self._publisher = Publisher(self.data_dir)
        except BaseException:
            self.close()
            raise
        self._watcher = threading.Thread(target=self._watch, name="fluxhook-watch", daemon=True)
        self._watcher.start()
        return self

    def emit(
        self,
        type: str,
        data: Any = None,
        *,
        topic: str | None = None,
        event_id: str | None = None,
        raise_on_full: bool = False,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> int:
        """See `Publisher.emit`."""
        return self.publisher.emit(
            type,
            data,
            topic=topic,
            event_id=event_id,
            raise_on_full=raise_on_full,
            traceparent=traceparent,
            tracestate=tracestate,
        )

    def emit_many(
        self,
        events: Iterable[tuple[str, Any] | tuple[str, Any, str | None]],
        *,
        traceparent: str | None = None,
        tracestate: str | None = None,
    ) -> int:
        """See `Publisher.emit_many`."""
        return self.publisher.emit_many(events, traceparent=traceparent, tracestate=tracestate)

    @property
    def publisher(self) -> Publisher:
        """The publisher of this process. Raises EngineError unless the engine is started."""
        if self._publisher is None:
            raise EngineError("this engine is not started; call start(), or use it in a with block")
        return self._publisher

    @property
    def control(self) -> Control:
        """The changes at run time: endpoints that come, change and go, replays."""
        return Control(self.data_dir)

    def stats(self) -> Stats:
        """Return what was accepted, delivered, given up and is pending, for each endpoint.

        It is read from files and stops nobody. Files that cannot be read are named in `problems`. Raise
        EngineNotRunning where no engine was ever started.
        """
        return read_stats(self.data_dir)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is pending, retries included; return whether that came about.

        `timeout` is in seconds, None waits for ever. What is emitted meanwhile is waited for too. Raise
        what `stats` raises.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.stats().pending:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(DRAIN_POLL_S)
        return True

    def close(self) -> None:
        """Stop the engine: deliver what is in the rings, for up to `shutdown_timeout`. May be called
        again.

        Retries, and what was not delivered in time, stay in the data directory for the next start. In a
        forked child the engine is its parent's, and goes on: only the child's publisher is closed.
        Raise nothing of its own: processes that do not end are killed, which loses nothing.
        """
        self._closing.set()
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None
        if self._child is None:
            return
        if self._pid != os.getpid():
            self._child.release()
            self._child = self._watcher = self._listener = None
            return
        self._end(self._child)
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        child, self._child = self._child, None  # the watcher may have started another meanwhile
        self._end(child)
        child.reap()
        self._close_listener()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _end(self, child: Child) -> None:
        """Send SIGTERM; SIGKILL to one that is stopped or stuck, which loses nothing."""
        child.process.terminate()
        timeout_s = self.config.shutdown_timeout.seconds + CLOSE_GRACE_S
        if not child.wait(timeout_s):
            log.error(
                "the supervisor (pid %d) does not end; it is killed", child.pid,
                event="supervisor_killed", child=child.pid,
            )  # fmt: skip
            child.process.kill()
            child.wait(CLOSE_GRACE_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spawn(self) -> Child:
        """Start a supervisor and wait until it serves."""
        child = Child(
            "supervisor",
            str(self.data_dir),
            stdin=codec.encode(self.config),
            reports=True,
            host_fd=-1 if self._listener is None else self._listener.fd,
        )
        try:
            said = hear(child.report_fd, START_TIMEOUT_S)
        except TimeoutError:
            child.process.kill()
            child.reap()
            raise EngineError(f"the engine did not start within {START_TIMEOUT_S:g} s") from None
        if said is True:
            return child
        child.process.kill()
        status = child.reap()
        if said is False:
            raise EngineError(
                f"the engine ended with status {status} while it started; see its log"
            )
        raise EngineError(str(said)) if isinstance(said, errors.ConfigError) else said

    def _watch(self) -> None:
        """Replace a supervisor that ended without being asked to."""
        backoff_s = MIN_RESTART_BACKOFF_S
        while not self._closing.is_set():
            child = self._child
            assert child is not None
            child.wait()
            if self._closing.is_set():
                return
            status = child.reap()
            log.error(
                "the supervisor (pid %d) ended; a new one starts", child.pid,
                event="supervisor_replaced", child=child.pid, status=status,
                for_s=time.monotonic() - child.started,
            )  # fmt: skip
            if time.monotonic() - child.started > STEADY_S:
                backoff_s = MIN_RESTART_BACKOFF_S
            while not self._closing.wait(backoff_s):
                try:
                    self._child = self._spawn()
                    backoff_s = min(2 * backoff_s, MAX_RESTART_BACKOFF_S)
                    break
                except errors.FluxhookError as e:
                    log.error("the supervisor cannot start: %s", e, event="supervisor_refused")
                    backoff_s = min(2 * backoff_s, MAX_RESTART_BACKOFF_S)
