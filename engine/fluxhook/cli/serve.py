"""`fluxhook serve`: the engine alone, in the foreground."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

import click

from fluxhook.cli import options
from fluxhook.cli.output import out, plural, print_notice, safe
from fluxhook.config.load import load
from fluxhook.config.schema import Config
from fluxhook.runtime.engine import DEFAULT_DATA_DIR
from fluxhook.runtime.process import log, name_process
from fluxhook.runtime.stats import read_stats
from fluxhook.runtime.supervisor import Supervisor

__all__ = ["command"]

#: names of endpoints in the line that says it serves; arbitrary
SHOWN = 8


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
    help=f"Where state is kept; by default the file's data_dir, or else {DEFAULT_DATA_DIR}.",
)
@options.allow_network
def command(path: str, data_dir: str | None, allow_networks: tuple[str, ...]) -> None:
    """Run an engine until it is told to stop.

    Programs on this host attach with fluxhook.connect(DIR), scripts with `fluxhook emit`. SIGTERM or
    Ctrl-C delivers what is in the rings, for up to shutdown_timeout; what is left stays in DIR for
    the next start. SIGHUP reads FILE again; where that fails, the old configuration stays.
    """
    loaded = load(path, allow_networks=allow_networks)
    for notice in loaded.notices:
        print_notice(notice)
    config = loaded.config
    directory = data_dir or config.data_dir or DEFAULT_DATA_DIR

    def reload() -> Config:
        again = load(path, allow_networks=allow_networks)
        for notice in again.notices:
            log.warning("%s", notice)
        if data_dir is None and again.config.data_dir != config.data_dir:
            log.warning("data_dir changes with the next start only")
        if not again.config.enabled:
            log.warning(_DISABLED)
        return again.config

    name_process("supervisor", directory)
    supervisor = Supervisor(directory, config, reload=reload)
    where = str(supervisor.datadir.path)
    if not config.enabled:
        print_notice(_DISABLED)
    serving = (
        f"fluxhook serves: pid {os.getpid()}, {plural(supervisor.snapshot.workers, 'worker')}, "
        f"{_endpoints(config)}, data in {where}"
    )

    def ready() -> None:
        _speak_when_told_to_stop(supervisor)
        out().print(serving, soft_wrap=True)

    supervisor.run(on_ready=ready)
    pending = read_stats(where).pending
    left = f"{plural(pending, 'delivery', 'deliveries')} left in {where} for the next start"
    out().print(f"fluxhook stopped: {left if pending else 'nothing is pending'}", soft_wrap=True)


def _endpoints(config: Config) -> str:
    """`2 endpoints (alerts, audit)`."""
    names = [safe(endpoint.name) for endpoint in config.endpoints]
    count = plural(len(names), "endpoint")
    names[SHOWN:] = ["..."] if names[SHOWN:] else []
    return f"{count} ({', '.join(names)})" if names else count


def _speak_when_told_to_stop(supervisor: Supervisor) -> None:
    """Says that the drain begins; another Ctrl-C ends it at once, as the files keep what is left."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        timeout = supervisor.snapshot.config.shutdown_timeout
        said = f"draining for up to {timeout}; Ctrl-C leaves at once, and loses nothing\n"
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(OSError):
            os.write(2, said.encode())  # print is not reentrant
        drain = handlers[signal.Signals(number)]
        assert callable(drain)
        drain(number, frame)

    for number, drain in handlers.items():
        if callable(drain):  # not if it is ignored, as under nohup
            signal.signal(number, stop)


_DISABLED = "enabled is false: events are ignored, nothing will be delivered"
