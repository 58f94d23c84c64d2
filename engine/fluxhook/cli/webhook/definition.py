"""The options of `webhook create` and `update`: a webhook's fields, as words of a command line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, Final, get_args

import click
import msgspec

from fluxhook.cli.complete import complete_pattern
from fluxhook.cli.failure import Failure
from fluxhook.cli.options import read_text
from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import Problem
from fluxhook.events.envelope import EnvelopeStyle
from fluxhook.events.nesting import TooDeep, decode_json

__all__ = ["assign", "definition", "explained", "read_json", "secret_options"]

#: each field that has an option here
_OPTIONS: Final = {
    "url": "--url",
    "events": "--type",
    "topic_filters": "--topic-filter",
    "where": "--where",
    "sample": "--sample",
    "threshold": "--threshold",
    "headers": "--header",
    "signature": "--signature",
    "envelope": "--envelope",
    "timeout": "--timeout",
    "retry.max_attempts": "--max-attempts",
    "retry.schedule": "--retry-schedule",
    "concurrency": "--concurrency",
    "rate_limit": "--rate-limit",
    "max_payload": "--max-payload",
    "ttl": "--ttl",
    "ordered": "--ordered",
    "order_key": "--order-key",
    "aggregate.window": "--aggregate-window",
    "aggregate.types": "--aggregate-type",
    "disable_on_gone": "--disable-on-gone",
    "disable_after": "--disable-after",
    "record": "--record",
}
#: and those that single commands have
_FURTHER: Final = {
    "name": "--name",
    "secret": "--secret",
    "secrets": "--secret",
    "generate_secret": "--generate-secret",
    "overlap": "--overlap",
    "paused": "--paused",
}


def _option(field: str, *, metavar: str | None = None, help: str, **more: Any) -> Any:
    """Return an option whose parameter is the field's path, with __ for dots."""
    flags = (_OPTIONS[field], field.replace(".", "__"))
    return click.option(*flags, metavar=metavar, help=help, **more)


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


_DECORATORS: Final = (
    _option(
        "events",
        metavar="TYPE",
        multiple=True,
        shell_complete=complete_pattern,
        help='An event type, a namespace such as "route.*", or "*"; repeatable.',
    ),
    _option("url", metavar="URL", help="Where deliveries are sent."),
    _option("timeout", metavar="DURATION", help="How long an attempt may take, as 3s."),
    _option(
        "topic_filters",
        metavar="FILTER",
        multiple=True,
        help="An MQTT topic filter, for events that have a topic; repeatable.",
    ),
    _option(
        "where",
        metavar="CONDITION",
        multiple=True,
        help='On the data, such as "status_code >= 500"; repeatable, all must hold.',
    ),
    _option(
        "sample",
        metavar="SHARE",
        callback=_json,
        help="Forward this share of the events, such as 0.1.",
    ),
    _option("threshold", metavar="RATE", help='Forward only what exceeds a rate, as "100/s".'),
    _option(
        "headers",
        metavar='"NAME: VALUE"',
        multiple=True,
        callback=_headers,
        help="A header to send; repeatable. Others can see it here (ps).",
    ),
    _option(
        "signature",
        metavar="PROFILE",
        type=click.Choice(get_args(SignatureProfile)),
        help=f"One of {', '.join(get_args(SignatureProfile))}.",
    ),
    _option(
        "envelope",
        metavar="STYLE",
        type=click.Choice(get_args(EnvelopeStyle)),
        help=f"One of {', '.join(get_args(EnvelopeStyle))}.",
    ),
    _option("retry.max_attempts", metavar="N", type=int, help="Attempts, the first included."),
    _option(
        "retry.schedule",
        metavar="DELAYS",
        callback=_split,
        help="When to try again after the first failure, as 15s,2m,10m,1h.",
    ),
    _option("concurrency", metavar="N", type=int, help="At most N requests at a time."),
    _option("rate_limit", metavar="RATE", help='At most so many requests, as "100/s".'),
    _option("max_payload", metavar="SIZE", help='Never send larger bodies, as "64KiB".'),
    _option("ttl", metavar="DURATION", help="Drop older events."),
    click.option(
        "--ordered/--no-ordered", "ordered", default=None, help="Keep the order of events."
    ),
    _option("order_key", metavar="FIELD", help="Keep it only within values of this data field."),
    _option(
        "aggregate.window",
        metavar="DURATION",
        help="Make one notification of the failures in it; 0s: send each.",
    ),
    _option(
        "aggregate.types",
        metavar="TYPE",
        multiple=True,
        shell_complete=complete_pattern,
        help="What counts as a failure; repeatable.",
    ),
    _option(
        "disable_on_gone",
        is_flag=True,
        default=None,
        help="Disable it when it answers 410, instead of trying again.",
    ),
    _option("disable_after", metavar="DURATION", help="Disable it after nothing but failure."),
    _option(
        "record",
        metavar="WHICH",
        type=click.Choice(("failures", "all")),
        help="Deliveries to look at later: failures, which is the default, or all.",
    ),
    click.option(
        "--set",
        "assignments",
        metavar="KEY=JSON",
        multiple=True,
        help="Any field, as circuit_breaker.failure_threshold=10 or tls.ca=/etc/ca.pem; repeatable.",
    ),
)


def definition(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as `layer`, plain JSON with the fields given."""

    @functools.wraps(function)
    def call(*arguments: Any, assignments: tuple[str, ...], **values: Any) -> Any:
        layer: dict[str, Any] = {}
        for field in _OPTIONS:
            value = values.pop(field.replace(".", "__"), None)
            if value is not None and value != ():
                assign(layer, field, list(value) if isinstance(value, tuple) else value)
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals or not all(key.split(".")):
                raise click.UsageError("--set wants KEY=JSON, such as retry.jitter=0.2.")
            assign(layer, key, read_json(text))
        return function(*arguments, layer=layer, **values)

    for decorate in reversed(_DECORATORS):
        call = decorate(call)
    return call


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
    options = {**_OPTIONS, **_FURTHER}
    for problem in problems:
        field = problem.path.partition("[")[0]
        while field and field not in options:
            field = field.rpartition(".")[0]
        option = options.get(field)
        yield problem._replace(path=f"{problem.path} ({option})") if option else problem


def assign(layer: dict[str, Any], path: str, value: Any) -> None:
    """Set the field of a dotted path. Raise UsageError where something else stands in its way."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = layer.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise click.UsageError(f"{path}: {parent} was given as a whole before.")
        layer = inner
    layer[last] = value
