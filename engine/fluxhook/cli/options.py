"""Options that several commands share."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click

from fluxhook.cli.complete import complete_endpoint, complete_type
from fluxhook.cli.remote import Remote
from fluxhook.engine import DEFAULT_DATA_DIR

__all__ = [
    "API_VARIABLE",
    "DATA_DIR_VARIABLE",
    "TOKEN_VARIABLE",
    "Seconds",
    "allow_network",
    "as_json",
    "as_json_lines",
    "data_dir",
    "endpoint",
    "engine_options",
    "event_type",
    "limit",
    "read_text",
    "remote",
    "span",
    "webhook",
    "yes",
]

F = TypeVar("F", bound=Callable[..., Any])
DATA_DIR_VARIABLE = "FLUXHOOK_DATA_DIR"
API_VARIABLE = "FLUXHOOK_API"
TOKEN_VARIABLE = "FLUXHOOK_TOKEN"


def data_dir(function: F) -> F:
    """Add the option for the data directory of an engine that was started before."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False),
        metavar="DIR",
        default=DEFAULT_DATA_DIR,
        show_default=True,
        envvar=DATA_DIR_VARIABLE,
        show_envvar=True,
        help="The engine's data directory.",
    )(function)


def remote(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which engine, by its admin API: the command gets a `Remote`. Stands
    nearest to the function."""

    @click.option(
        "--api",
        metavar="URL",
        envvar=API_VARIABLE,
        show_envvar=True,
        help="The admin API, such as https://gateway.example.com:8090; without it, that of the data "
        "directory's engine.",
    )
    @click.option(
        "--token",
        metavar="TOKEN",
        envvar=TOKEN_VARIABLE,
        show_envvar=True,
        help="A token for --api. On a command line others can see it (ps): better use the variable, "
        "or --token-file.",
    )
    @click.option(
        "--token-file",
        type=click.File("rb", lazy=False),
        metavar="FILE",
        help="Read the token from FILE; - is standard input.",
    )
    @data_dir
    @functools.wraps(function)
    def call(
        *arguments: Any,
        api: str | None,
        token: str | None,
        token_file: BinaryIO | None,
        data_dir: str,
        **options: Any,
    ) -> Any:
        ctx = click.get_current_context()
        if _given(ctx, "data_dir"):
            if _given(ctx, "api"):
                raise click.UsageError("Give --api or --data-dir, not both.")
            api = None  # a variable stands back behind what is written
        if api is None and (token_file or _given(ctx, "token")):
            raise click.UsageError("A token goes with --api; a data directory has its own.")
        if token_file is not None:
            if _given(ctx, "token"):
                raise click.UsageError("Give --token or --token-file, not both.")
            token = read_text(token_file).strip()
        if api is not None:
            _check(api, token or "")
        given = engine_options(ctx, "--api", "--data-dir")
        remote = Remote(api, token or "" if api is not None else "", data_dir, given)
        return function(*arguments, remote=remote, **options)

    return call


def engine_options(ctx: click.Context, *flags: str) -> str:
    """Return those of the options that were written, as another command has to have them."""
    names = {flag: flag.removeprefix("--").replace("-", "_") for flag in flags}
    written = {flag: ctx.params[name] for flag, name in names.items() if _given(ctx, name)}
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in written.items())


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _check(api: str, token: str) -> None:
    """Raise a usage error unless a request can be made with the URL and the token."""
    from fluxhook.cli.output import print_notice
    from fluxhook.config.listen_address import Listen
    from fluxhook.config.url import judge_url, url_hostname

    fault = judge_url(api)
    if fault is not None:
        raise click.UsageError(f"--api: {fault.message}; {fault.remedy}.")
    if "?" in api:
        raise click.UsageError(
            "--api has a query (?...); give the URL up to the port, or the path."
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise click.UsageError("The token has a character that no token has.")
    host = url_hostname(api).strip("[]")
    if token and api.lower().startswith("http:") and not Listen(host, 0).loopback:
        print_notice("the token travels unencrypted; an https:// URL would protect it")


def read_text(file: BinaryIO) -> str:
    """Return what a file holds, without the end of its last line. UsageError if it is empty or no
    text."""
    try:
        text = file.read().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError(f"The file {file.name} is not text in UTF-8.") from None
    if not text.strip():
        raise click.UsageError(f"The file {file.name} is empty.")
    return text


def webhook(function: F) -> F:
    """Add the argument for the name of a webhook, or its id."""
    return click.argument("name", metavar="NAME", shell_complete=complete_endpoint)(function)


def endpoint(function: F) -> F:
    return click.option(
        "--endpoint",
        metavar="NAME",
        shell_complete=complete_endpoint,
        help="Only this webhook's.",
    )(function)


def event_type(function: F) -> F:
    return click.option(
        "--type", "event_type", metavar="TYPE", shell_complete=complete_type, help="Only this type."
    )(function)


def span(of: str) -> Callable[[F], F]:
    """Add `--since` and `--until`; `of` says the time of what."""

    def decorate(function: F) -> F:
        function = click.option("--until", metavar="TIME", help=f"Only {of} before TIME.")(function)
        return click.option(
            "--since",
            metavar="TIME",
            help=f"Only {of} from TIME on, such as 2026-02-05T12:00:00Z, or 15m for that long ago.",
        )(function)

    return decorate


def limit(default: int | None, *, of: str = "the newest N", least: int = 1) -> Callable[[F], F]:
    """Add `--limit`, for a list; the command gets it as `last`. By default None shows all."""
    return click.option(
        *("-n", "--limit", "--last", "last"),
        type=click.IntRange(min=least),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=f"Only {of}.",
    )


class Seconds(click.FloatRange):
    """A finite number of seconds; what is none, `nan` say, lies in every range otherwise."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r:.80} is not a number of seconds.", param, ctx)
        return seconds


def yes(function: F) -> F:
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def allow_network(function: F) -> F:
    return click.option(
        "--allow-network",
        "allow_networks",
        metavar="CIDR",
        multiple=True,
        help="Let deliveries reach a private or special network, as 127.0.0.0/8; repeatable. "
        "Adds to the file's allow_networks.",
    )(function)


def as_json(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def as_json_lines(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")(function)
