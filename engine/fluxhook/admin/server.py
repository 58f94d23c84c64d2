"""The admin process: one uvicorn server over one port, beside the engine and below it in priority."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from msgspec.structs import replace

from fluxhook.admin.announced import AdminFile
from fluxhook.admin.app import AdminApp, create_app
from fluxhook.admin.background import GivingSelector, give_way
from fluxhook.admin.connections import Connection, Connections
from fluxhook.config.listen_address import Listen, parse_listen
from fluxhook.config.schema import Admin, Config, Tls
from fluxhook.errors import ConfigError, EngineError, FluxhookError, Problem
from fluxhook.logs import setup
from fluxhook.logs.log import Log, described
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.heartbeat import Heartbeat
from fluxhook.transport.readiness import tell
from fluxhook.transport.snapshot import Snapshot
from fluxhook.transport.tls import MemoryFile, read_tls

__all__ = ["bind", "serve"]

log = Log("admin")

#: connections that are no websockets; arbitrary, far above MAX_REQUESTS (load.py)
MAX_CONNECTIONS: Final = 1024
#: connections that the kernel keeps until they are taken, and that are taken at a time
BACKLOG: Final = 512
#: descriptors: for the connections, those that are being taken, websockets, and the engine's files
MAX_FILES: Final = 4096
#: for the handshake of TLS; asyncio's own is a minute
HANDSHAKE_S: Final = 15.0
#: in which calls that block are made; arbitrary
THREADS: Final = 32
#: how long requests under way may go on once it is told to end; below the engine's own patience
GRACE_S: Final = 5
#: how often the certificate's files are looked at; arbitrary, far below a minute
RENEW_S: Final = 2.0
#: where the options stand
_ADMIN: Final = "webhook.admin"
#: between beats of its heart; a stuck event loop is noticed within STUCK_LOOKS (transport/heartbeat.py)
BEAT_S: Final = 1.0


def bind(listen: Listen) -> socket.socket:
    """Return a listening socket. Raise ConfigError if the address cannot be had."""
    try:
        infos = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = infos[0]
        bound = socket.create_server(address[:2], family=family, backlog=512)
        # Accepted sockets inherit it. asyncio sets it only where the socket was made with IPPROTO_TCP,
        # which create_server does not, and then each answer waits 40 ms for an acknowledgement.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        resolved = error.errno is not None and error.errno > 0  # getaddrinfo has numbers of its own
        said = os.strerror(error.errno or 0) if resolved else error.strerror or error
        raise ConfigError(
            Problem(
                "webhook.admin.listen",
                f"{listen.authority} cannot be listened on: {said}",
                "stop what listens there, or choose another address or port",
            )
        ) from None
    return bound


def serve(
    data_dir: str,
    alive_fd: int,
    *,
    listen: str | None = None,
    heartbeat: Heartbeat | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `alive_fd` can be read, whatever it says, or SIGTERM. `listen` stands for the
    configuration's `admin.listen`; a parent that watches whether the process goes on has given a
    `heartbeat`; `on_ready` is called once it serves.

    Raises ConfigError if it may not or cannot listen, EngineNotRunning where no engine was started,
    EngineError where the application does not start.
    """
    give_way()
    datadir = DataDir(data_dir)
    config = Snapshot.load(datadir).config
    setup.choose(config.log.format, config.log.level)
    if listen is not None:
        config = replace(config, admin=replace(config.admin, listen=listen))
    address = _allowed(config)
    certificate = _Certificate(config.admin) if config.admin.cert else None
    with bind(address) as bound:
        url = f"{'https' if config.admin.cert else 'http'}://{_reached(address, bound)}"
        own = AdminFile(url, secrets.token_urlsafe(32), os.getpid())
        admin = create_app(data_dir, loopback=address.loopback, own_token=own.token)
        if config.admin.dashboard:
            mount_dashboard(admin)
        proxies = config.admin.trusted_proxies
        server = _Server(admin, certificate, datadir.admin_file, own, on_ready, proxies)
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(_run(server, bound, alive_fd, heartbeat))
    if not server.started:
        raise EngineError("the application did not start; the log says why")


def make_loop() -> asyncio.AbstractEventLoop:
    return _Loop(GivingSelector())


class _Loop(asyncio.SelectorEventLoop):
    """uvicorn has no option for the time that a TLS handshake may take, and asyncio tells a protocol of
    its connection only once that has ended."""

    async def create_server(self, *given: Any, ssl: Any = None, **more: Any) -> asyncio.Server:
        if ssl is not None:
            more["ssl_handshake_timeout"] = HANDSHAKE_S
        return await super().create_server(*given, ssl=ssl, **more)

    def _make_ssl_transport(
        self, rawsock: socket.socket, protocol: Any, *given: Any, waiter: Any, **more: Any
    ) -> Any:
        """Have a `Connection` know that it was accepted."""
        made: Any = super()
        transport = made._make_ssl_transport(rawsock, protocol, *given, waiter=waiter, **more)
        if isinstance(protocol, Connection):
            with contextlib.suppress(OSError):  # it has gone
                client = rawsock.getpeername()
                self.call_soon(protocol.begin_handshake, transport, client, waiter)
        return transport


def _raise_files() -> int:
    """Raise this process's limit of open files up to MAX_FILES, where it may; return how many that
    are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= MAX_FILES:
        return soft
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


async def _run(
    server: _Server, bound: socket.socket, alive_fd: int, heartbeat: Heartbeat | None
) -> None:
    loop = asyncio.get_running_loop()

    def beat(heartbeat: Heartbeat) -> None:
        heartbeat.beat()
        loop.call_later(BEAT_S, beat, heartbeat)

    if heartbeat is not None:
        beat(heartbeat)
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "admin"))
    loop.add_reader(alive_fd, server.stop)
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    try:
        await server.serve(sockets=[bound])
    finally:
        loop.remove_reader(alive_fd)


class _Server(uvicorn.Server):
    """Announces itself in admin.json while it serves."""

    def __init__(
        self,
        admin: AdminApp,
        certificate: _Certificate | None,
        path: Path,
        own: AdminFile,
        on_ready: Callable[[], None],
        proxies: Sequence[str],
    ) -> None:
        self._connections = Connections(min(MAX_CONNECTIONS, _raise_files() // 2))
        self._certificate = certificate
        self._path = path
        self._own = own
        self._on_ready = on_ready
        super().__init__(
            uvicorn.Config(
                admin,
                lifespan="on",
                log_config=None,
                log_level="error",  # a warning for each request that is no HTTP would fill the log
                access_log=False,
                server_header=False,
                http=self._connections.protocol,  # type: ignore[arg-type]
                backlog=BACKLOG,
                # Who asks is who has connected: anybody on this machine can write X-Forwarded-For.
                proxy_headers=bool(proxies),
                forwarded_allow_ips=list(proxies),
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self.config.load()
        if certificate is not None:
            self.config.ssl = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.load(context)

    def stop(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_run`: uvicorn would raise them again at the end, and so not end
        cleanly."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._sweeping = asyncio.create_task(self._connections.keep_sweeping())
        if self._certificate is not None and self.config.ssl is not None:
            self._renewing = asyncio.create_task(self._certificate.renew(self.config.ssl))
        if self.started:
            try:
                self._own.save(self._path)
            except (
                OSError
            ) as e:  # it serves all the same, for those who know where and have a token
                log.warning("%s cannot be written: %s", self._path, e.strerror)
            log.info("the admin API listens on %s", self._own.url, event="admin_listens")
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Not what another one has written over it, nor what somebody has damaged.
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            if AdminFile.load(self._path) == self._own:
                self._path.unlink()
        await super().shutdown(sockets)


def _allowed(config: Config) -> Listen:
    """Return where to listen. `config.check` refuses the same; what is open must not depend on it
    alone."""
    try:
        listen = parse_listen(config.admin.listen)
    except ValueError as error:
        raise ConfigError(
            Problem(
                "webhook.admin.listen",
                str(error),
                'write an address and a port, such as "127.0.0.1:8090"',
            )
        ) from None
    if not listen.loopback and not config.admin.tokens:
        raise ConfigError(
            Problem(
                "webhook.admin.listen",
                f"{config.admin.listen} can be reached from other machines, and there is no token",
                "add admin.tokens, or listen on 127.0.0.1",
            )
        )
    return listen


class _Certificate:
    """The API's own certificate and key, read as those of endpoints are: without waiting for anything,
    and without asking a terminal for a password."""

    def __init__(self, admin: Admin) -> None:
        """Load the certificate. Raise ConfigError if the files cannot be used."""
        self._files = Tls(cert=admin.cert, key=admin.key)
        self._present = read_tls(self._files, _ADMIN)
        self._said = ""

    def load(self, context: ssl.SSLContext) -> None:
        """Make new connections use the files."""
        assert self._present.cert is not None
        assert self._present.key is not None
        with MemoryFile(self._present.cert) as cert, MemoryFile(self._present.key) as key:
            context.load_cert_chain(cert, key)

    async def renew(self, context: ssl.SSLContext) -> None:
        """Load them again whenever the files were replaced by others that can be used."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                found = read_tls(self._files, _ADMIN)
            except ConfigError as error:
                if str(error) != self._said:
                    self._said = str(error)
                    log.warning("the certificate that was read before stays in force: %s", error)
                continue
            self._said = ""
            if found != self._present:
                self._present = found
                self.load(context)
                log.info("the admin API's certificate was read again")


def _reached(listen: Listen, bound: socket.socket) -> str:
    """Return the authority by which a client on this machine reaches it."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = everywhere.get(listen.host, listen.host)
    return Listen(host, bound.getsockname()[1]).authority


def mount_dashboard(admin: AdminApp) -> None:
    """Mount the dashboard, which needs packages of its own. Without them, or whatever else is wrong
    with it, there is the API alone: an operator needs that all the more then."""
    try:
        from fluxhook.admin.dashboard import create_dashboard

        admin.mount(create_dashboard(admin))
    except Exception as error:
        log.error("there is no dashboard, the API serves without it: %s", described(error))


def main(data_dir: str, alive_fd: int, report_fd: int = -1, beat_fd: int = -1) -> None:
    """Run the process; an error at its start is told to the supervisor, or is one line in the log,
    and status 1."""
    # Ctrl-C reaches a terminal's whole process group; the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = report_fd < 0

    def report(error: FluxhookError | None = None) -> None:
        nonlocal told
        if not told:
            told = True
            tell(report_fd, error)
        elif error is not None:
            log.error("the admin API does not start: %s", error)

    try:
        serve(data_dir, alive_fd, heartbeat=Heartbeat(beat_fd), on_ready=report)
    except FluxhookError as error:
        report(error)
        raise SystemExit(1) from None
    except Exception as error:
        if not told:
            report(EngineError(described(error)))
        log.error("the admin API ended", exc_info=error)
        raise SystemExit(1) from None
