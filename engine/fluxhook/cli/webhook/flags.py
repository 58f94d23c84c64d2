"""The flags of `webhook create` and `update`: a webhook's options, as words of a command line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Final, get_args, get_origin

import click
import msgspec

from fluxhook.cli.complete import complete_pattern
from fluxhook.cli.failure import Failure
from fluxhook.cli.options import read_text
from fluxhook.config.option import Option, choices_of, options
from fluxhook.config.schema import Endpoint
from fluxhook.config.units import Duration, Rate, Size, Threshold
from fluxhook.errors import Problem
from fluxhook.events.nesting import TooDeep, decode_json

__all__ = ["assign", "explained", "read_json", "secret_options", "webhook_flags"]

#: each field that has a flag here
_FLAGGED: Final = {option.path: option for option in options(Endpoint) if option.flag}
#: and those that single commands have
_FURTHER: Final = {
    "name": "--name",
    "secret": "--secret",
    "secrets": "--secret",
    "generate_secret": "--generate-secret",
    "overlap": "--overlap",
    "paused": "--paused",
}


def _json(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    return None if text is None else read_json(text)


def _split(ctx: click.Context, param: click.Parameter, text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _headers(
    ctx: click.Context, param: click.Parameter, lines: tuple[str, ...]
) -> dict[str, str] | None:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter("write NAME: VALUE.")  # the line may hold a secret
        headers[name.strip()] = value.strip()
    return headers or None


#: the names of values in the help, and how a word becomes one where click need not know
_METAVARS: Final = {Duration: "DURATION", Size: "SIZE", Rate: "RATE", Threshold: "RATE", int: "N"}
_SET: Final = click.option(
    "--set",
    "assignments",
    metavar="KEY=JSON",
    multiple=True,
    help="Any field, as circuit_breaker.failure_threshold=10 or tls.ca=/etc/ca.pem; repeatable.",
)


def flag(option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator that gives a command the flag of an option, as the schema declares it.

    Its parameter is the option's path, with __ for dots.
    """
    names = (option.flag, option.path.replace(".", "__"))
    if option.kind is bool:
        return click.option(*names, is_flag=True, default=None, help=option.description)
    metavar = option.metavar or _METAVARS.get(option.kind)
    more: dict[str, Any] = {}
    said = option.description
    if choices := choices_of(option.kind):
        more["type"] = click.Choice(choices)
        said += f" One of {', '.join(choices)}."
    elif option.kind is int:
        more["type"] = int
    elif option.kind is float:
        more["callback"] = _json
    elif get_origin(option.kind) is dict:
        more |= {"multiple": True, "callback": _headers}
        said += " Repeatable. Others can see it here (ps)."
    elif get_args(option.kind)[:1] == (str,):
        more["multiple"] = True
        said += " Repeatable."
    elif get_origin(option.kind) is tuple:
        more["callback"] = _split
    if metavar == "TYPE":
        more["shell_complete"] = complete_pattern
    if "type" not in more and "multiple" not in more:
        said += f" Example: {_word(option.example)}."
    return click.option(*names, metavar=metavar, help=said, **more)


def _word(example: Any) -> str:
    """Return an example as a word of a command line."""
    return ",".join(example) if isinstance(example, list) else str(example)


def webhook_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of a webhook's options; the command gets as `layer` those that are given."""

    @functools.wraps(function)
    def call(*arguments: Any, assignments: tuple[str, ...], **values: Any) -> Any:
        layer: dict[str, Any] = {}
        for field in _FLAGGED:
            value = values.pop(field.replace(".", "__"), None)
            if value is not None and value != ():
                assign(layer, field, list(value) if isinstance(value, tuple) else value)
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals or not all(key.split(".")):
                raise click.UsageError("--set wants KEY=JSON, such as retry.jitter=0.2.")
            assign(layer, key, read_json(text))
        return function(*arguments, layer=layer, **values)

    command: Callable[..., Any] = _SET(call)
    for option in reversed(_FLAGGED.values()):
        command = flag(option)(command)
    return command


def secret_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--secret` and `--secret-file`; the command gets the one as `secret`."""

    @click.option(
        "--secret",
        metavar="SECRET",
        help="The signing secret. On a command line others can see it (ps, the shell's history): "
        "better use --secret-file, or have one generated.",
    )
    @click.option(
        "--secret-file",
        type=click.File("rb", lazy=False),
        metavar="FILE",
        help="Read it from FILE; - is standard input.",
    )
    @functools.wraps(function)
    def call(
        *arguments: Any, secret: str | None, secret_file: BinaryIO | None, **values: Any
    ) -> Any:
        if secret_file is not None:
            if secret is not None:
                raise click.UsageError("Give --secret or --secret-file, not both.")
            secret = read_text(secret_file)
        return function(*arguments, secret=secret, **values)

    return call


def read_json(text: str) -> Any:
    """Return JSON if it can be read as such, otherwise the text itself."""
    try:
        return decode_json(text)
    except TooDeep as error:
        raise click.UsageError(f"{text!r:.40}...: {error}.") from None
    except (msgspec.MsgspecError, UnicodeError):
        return text


def explained(failure: Failure) -> Failure:
    """Return the failure with the option of each field that is wrong."""
    failure.problems = list(_with_options(failure.problems))
    return failure


def _with_options(problems: Iterable[Problem]) -> Iterable[Problem]:
    flags = {path: option.flag.partition("/")[0] for path, option in _FLAGGED.items()} | _FURTHER
    for problem in problems:
        field = problem.path.partition("[")[0]
        while field and field not in flags:
            field = field.rpartition(".")[0]
        name = flags.get(field)
        yield problem._replace(path=f"{problem.path} ({name})") if name else problem


def assign(layer: dict[str, Any], path: str, value: Any) -> None:
    """Set the field of a dotted path. Raise UsageError where something else stands in its way."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = layer.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise click.UsageError(f"{path}: {parent} was given as a whole before.")
        layer = inner
    layer[last] = value
