"""`fluxhook serve`: the engine alone, in the foreground."""

from __future__ import annotations

import contextlib
import os
import signal
from importlib.util import find_spec
from types import FrameType

import click
from msgspec.structs import replace

from fluxhook.cli import options
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.output import out, plural, print_notice, safe
from fluxhook.cli.remote import announced
from fluxhook.cli.service_manager import ServiceManager
from fluxhook.config.check import validate
from fluxhook.config.load import Loaded, load
from fluxhook.config.option import choices_of
from fluxhook.config.option import options as options_of
from fluxhook.config.schema import Config
from fluxhook.engine import DEFAULT_DATA_DIR
from fluxhook.logs.log import Log
from fluxhook.stats import read_stats
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.process import name_process

__all__ = ["command"]

log = Log("config")

#: names of endpoints in the line that says it serves; arbitrary
SHOWN = 8
_LISTEN = "webhook.admin.listen"
_OPTIONS = {option.path: option for option in options_of(Config)}
_SAID = {path: option.description for path, option in _OPTIONS.items()}


def _choice(path: str) -> click.Choice[str]:
    return click.Choice(choices_of(_OPTIONS[path].kind))


@click.command()
@click.option(
    "-c", "--config", "path", required=True, metavar="FILE", help="YAML with a `webhook:` section."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    envvar=options.DATA_DIR_VARIABLE,
    show_envvar=True,
    help=f"{_SAID['data_dir']} By default the file's data_dir, or else {DEFAULT_DATA_DIR}.",
)
@options.allow_network
@click.option(
    "--admin",
    "listen",
    metavar="HOST:PORT",
    help=f"{_SAID['admin.listen']} It replaces the file's admin.listen.",
)
@click.option("--no-admin", is_flag=True, help="Run without the admin API.")
@click.option(
    "--log-format",
    type=_choice("log.format"),
    envvar="FLUXHOOK_LOG_FORMAT",
    show_envvar=True,
    help=f"{_SAID['log.format']} By default the file's log.format, or else text.",
)
@click.option(
    "--log-level",
    type=_choice("log.level"),
    envvar="FLUXHOOK_LOG_LEVEL",
    show_envvar=True,
    help=f"{_SAID['log.level']} By default the file's log.level, or else info.",
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Go on without a store.db that is missing or damaged: it is moved into damaged/, and what "
    "was in it is lost.",
)
@click.pass_context
def command(
    ctx: click.Context,
    path: str,
    data_dir: str | None,
    allow_networks: tuple[str, ...],
    listen: str | None,
    no_admin: bool,
    log_format: str | None,
    log_level: str | None,
    accept_loss: bool,
) -> None:
    """Run an engine until it is told to stop.

    Programs on this host attach with fluxhook.connect(DIR), scripts with `fluxhook emit`. The admin
    API and the dashboard are at http://127.0.0.1:8090, unless the file says otherwise. SIGTERM or
    Ctrl-C delivers what is in the rings, for up to shutdown_timeout; what is left stays in DIR for
    the next start. SIGHUP reads FILE again; where that fails, the old configuration stays.
    """

    def read() -> Loaded:
        loaded = _with_admin(load(path, allow_networks=allow_networks), listen, no_admin)
        config = loaded.config
        said = {"format": log_format or config.log.format, "level": log_level or config.log.level}
        return loaded._replace(config=replace(config, log=replace(config.log, **said)))

    loaded = read()
    for notice in loaded.notices:
        print_notice(notice)
    config = loaded.config
    directory = data_dir or config.data_dir or DEFAULT_DATA_DIR

    manager = ServiceManager(os.environ)

    def reload() -> Config:
        manager.reloading()
        again = read()
        for notice in again.notices:
            log.warning("%s", notice)
        if data_dir is None and again.config.data_dir != config.data_dir:
            log.warning("data_dir changes with the next start only")
        if not again.config.enabled:
            log.warning(_DISABLED)
        return again.config

    name_process("supervisor", directory)
    supervisor = Supervisor(
        directory,
        config,
        reload=reload,
        sidecar=_sidecar(config),
        accept_loss=accept_loss,
    )
    if not config.enabled:
        print_notice(_DISABLED)
    _run(supervisor, manager)
    where = supervisor.datadir.path
    pending = read_stats(where).pending
    left = f"{plural(pending, 'delivery', 'deliveries')} left in {where} for the next start"
    out().print(f"fluxhook stopped: {left if pending else 'nothing is pending'}", soft_wrap=True)
    ctx.exit(ExitCode.INTERRUPTED if supervisor.interrupted else ExitCode.OK)


def _run(supervisor: Supervisor, manager: ServiceManager) -> None:
    """Run the engine; say that it serves, and to the service manager whenever that line is another."""
    ready, told = False, supervisor.snapshot

    def start() -> None:
        _speak_when_told_to_stop(supervisor, manager)

    def say() -> None:
        nonlocal ready
        ready, line = True, _serving(supervisor)
        out().print(line, soft_wrap=True)
        manager.ready(line)

    def turn() -> None:
        nonlocal told
        if ready and told is not supervisor.snapshot:
            told = supervisor.snapshot
            manager.status(_serving(supervisor))
        manager.turn(busy=supervisor.reloading.under_way)

    supervisor.run(on_start=start, on_ready=say, on_turn=turn)


def _serving(supervisor: Supervisor) -> str:
    """Return the line that says what serves where."""
    datadir, snapshot = supervisor.datadir, supervisor.snapshot
    parts = [f"pid {os.getpid()}", plural(snapshot.workers, "worker"), _endpoints(snapshot.config)]
    if (file := announced(datadir)) is not None:
        parts.append(f"admin API at {file.url}")
    return f"fluxhook serves: {', '.join([*parts, f'data in {datadir.path}'])}"


def _with_admin(loaded: Loaded, listen: str | None, no_admin: bool) -> Loaded:
    """Return the configuration as the command line changes it. Raise ConfigError."""
    config = loaded.config
    admin = config.admin
    if listen is not None:
        admin = replace(admin, listen=listen)
    if no_admin:
        admin = replace(admin, enabled=False)
    if admin == config.admin:
        return loaded
    config = replace(config, admin=admin)
    notices = [n for n in loaded.notices if n.path != _LISTEN]
    found = (n._replace(path=f"webhook.{n.path}") for n in validate(config))
    notices += [n for n in found if n.path == _LISTEN]
    return loaded._replace(config=config, notices=notices)


def _sidecar(config: Config) -> str | None:
    """Return the module of the admin API, if it is to run and can."""
    if not config.admin.enabled:
        return None
    if find_spec("litestar") is None or find_spec("uvicorn") is None:
        print_notice("no admin API: it needs `pip install 'fluxhook[admin]'`")
        return None
    return "fluxhook.admin"


def _endpoints(config: Config) -> str:
    """Return a text such as `2 endpoints (alerts, audit)`."""
    names = [safe(endpoint.name) for endpoint in config.endpoints]
    count = plural(len(names), "endpoint")
    names[SHOWN:] = ["..."] if names[SHOWN:] else []
    return f"{count} ({', '.join(names)})" if names else count


def _speak_when_told_to_stop(supervisor: Supervisor, manager: ServiceManager) -> None:
    """Say that the drain begins; another Ctrl-C ends it at once, as the files keep what is left."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        timeout = supervisor.snapshot.config.shutdown_timeout
        said = f"draining for up to {timeout}; Ctrl-C leaves at once, and loses nothing\n"
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(OSError):
            os.write(2, said.encode())  # print is not reentrant
        manager.stopping(timeout.seconds)
        drain = handlers[signal.Signals(number)]
        assert callable(drain)
        drain(number, frame)

    for number, drain in handlers.items():
        if callable(drain):  # not if it is ignored, as under nohup
            signal.signal(number, stop)


_DISABLED = "enabled is false: events are ignored, nothing will be delivered"
