"""`fluxhook serve`: the engine alone, in the foreground."""

from __future__ import annotations

import os

import click

from fluxhook.cli import options
from fluxhook.cli.output import err, out, plural, print_notices, safe
from fluxhook.config.load import load
from fluxhook.config.schema import Config
from fluxhook.runtime.engine import DEFAULT_DATA_DIR
from fluxhook.runtime.process import log, name_process
from fluxhook.runtime.stats import read_stats
from fluxhook.runtime.supervisor import Supervisor

__all__ = ["command"]


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
    print_notices(loaded.notices)
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
        err().print(f"Notice: {_DISABLED}", style="bold yellow", soft_wrap=True)
    names = ", ".join(safe(endpoint.name) for endpoint in config.endpoints)
    serving = (
        f"fluxhook serves: pid {os.getpid()}, {plural(supervisor.snapshot.workers, 'worker')}, "
        f"{plural(len(config.endpoints), 'endpoint')}{names and f' ({names})'}, data in {where}"
    )
    supervisor.run(on_ready=lambda: out().print(serving, soft_wrap=True))
    pending = read_stats(where).pending
    left = f"{plural(pending, 'delivery', 'deliveries')} left in {where} for the next start"
    out().print(f"fluxhook stopped: {left if pending else 'nothing is pending'}", soft_wrap=True)


_DISABLED = "enabled is false: events are ignored, nothing will be delivered"
