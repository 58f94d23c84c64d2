"""An option, as it is declared: its type, default, limits, and what is said of it.

Each field of the configuration's structs is declared once, in `config/schema.py` or
`config/endpoint_schema.py`, as `Annotated[type, option(...)]`. The limits, the OpenAPI document, the
flags of the command line, the form of the dashboard and docs/configuration.md are made from that. To
add an option is to add the field and the code that obeys it.

Bounds stand in `Meta.extra`, not in msgspec's own `ge` and `max_length`: msgspec would enforce these
wherever a stored configuration is read, with messages that name no path and no remedy. And an endpoint
in force may hold more than its owner may write, such as the former secrets of a rotation.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin

import msgspec

from fluxhook.config.units import Duration, Size

__all__ = [
    "Limit",
    "Option",
    "choices_of",
    "fields_of",
    "is_struct",
    "option",
    "options",
    "plain_type",
    "size_limit",
    "span_limit",
    "value_at",
    "written",
]

Number = int | float | Duration | Size
_UNIONS: Final = (Union, types.UnionType)


class Limit(NamedTuple):
    """The least and the most that a number may be; both belong to the range.

    Upper bounds without a source are arbitrary: they refuse slips of the unit. With `or_off` the
    number may be zero too, which turns off what it bounds.
    """

    low: Number
    high: Number
    or_off: bool = False

    def __str__(self) -> str:
        return f"{'0s, or ' * self.or_off}{self.low} to {self.high}"


def span_limit(low: str, high: str, *, or_off: bool = False) -> Limit:
    """Return the limit of a duration."""
    return Limit(Duration.parse(low), Duration.parse(high), or_off)


def size_limit(low: str, high: str) -> Limit:
    """Return the limit of a size."""
    return Limit(Size.parse(low), Size.parse(high))


def option(
    description: str,
    *,
    example: Any = None,
    title: str | None = None,
    limit: Limit | None = None,
    entries: int | None = None,
    flag: str = "",
    metavar: str = "",
    choices: Mapping[str, str] | None = None,
    tick: object = True,
    hidden: bool = False,
    one_a_line: bool = False,
) -> msgspec.Meta:
    """Return what is said of an option, for its annotation.

    `description` says in plain sentences what the option does; it is shown to every user. `example`
    is a value as the YAML file writes it, and `title` the label of a form, by default the name.

    `limit` bounds a number, `entries` a list or a mapping. `choices` says what each value of a Literal
    means. `hidden` values are secrets, and never shown.

    An option with a `flag` has one in `fluxhook webhook create` and `update`, and stands among the
    first in the dashboard's form; `metavar` names its value in the help. All others are reached by
    `--set`, and stand in the form's second part. In the form `tick` is the value for which a box is
    ticked, of an option with two values; texts of a list that hold commas stand `one_a_line`.
    """
    extra = {
        "limit": limit,
        "entries": entries,
        "flag": flag,
        "metavar": metavar,
        "choices": dict(choices or {}),
        "tick": tick,
        "hidden": hidden,
        "one_a_line": one_a_line,
    }
    examples = None if example is None else [example]
    return msgspec.Meta(title=title, description=description, examples=examples, extra=extra)


class Option(NamedTuple):
    """One option of a struct. `path` is dotted from the struct on: `retry.max_attempts`."""

    path: str
    #: of the struct that declares it
    owner: type[msgspec.Struct]
    #: without what is said of it, and without None
    kind: Any
    required: bool
    default: Any
    title: str
    description: str
    example: Any
    limit: Limit | None
    entries: int | None
    flag: str
    metavar: str
    choices: Mapping[str, str]
    tick: object
    hidden: bool
    one_a_line: bool

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


_NOTHING_SAID: Final = option("")


@functools.cache
def options(kind: type[msgspec.Struct]) -> tuple[Option, ...]:
    """Return all options of a struct and of those that are nested in it, as they are declared."""
    return tuple(_options(kind, "", None))


def _options(kind: type[msgspec.Struct], prefix: str, base: Any) -> Iterator[Option]:
    """Yield the options; `base` is an instance that holds the defaults, None where those of the
    fields hold."""
    for field in msgspec.structs.fields(kind):
        default = field.default if base is None else getattr(base, field.name)
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        plain = plain_type(field.type)
        if is_struct(plain):
            yield from _options(plain, f"{prefix}{field.name}.", default)
            continue
        meta = _meta(field.type)
        extra: Mapping[str, Any] = meta.extra or {}
        yield Option(
            path=prefix + field.name,
            owner=kind,
            kind=_not_none(plain),
            required=field.required,
            default=None if field.required else default,
            title=meta.title or field.name.replace("_", " ").capitalize(),
            description=meta.description or "",
            example=meta.examples[0] if meta.examples else None,
            **extra,
        )


@functools.cache  # msgspec resolves the annotations anew each time
def fields_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the types of a struct's fields, without what is said of them."""
    return {field.name: plain_type(field.type) for field in msgspec.structs.fields(kind)}


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def plain_type(annotation: Any) -> Any:
    """Return a type without what is said of it."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return the values of a Literal; nothing of any other type."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def value_at(struct: msgspec.Struct, path: str) -> Any:
    """Return the value of an option; `path` is dotted."""
    return functools.reduce(getattr, path.split("."), struct)


def written(value: Any) -> str:
    """Return a value as a line of the YAML file has it; empty for None and for what is empty.

    >>> written(Duration.parse("90s")), written(("a", "b")), written(False), written(0.5)
    ('1m30s', 'a, b', 'false', '0.5')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ", ".join(map(written, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {written(one)}" for key, one in value.items())
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _meta(annotation: Any) -> msgspec.Meta:
    said = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((one for one in said if isinstance(one, msgspec.Meta)), _NOTHING_SAID)


def _not_none(kind: Any) -> Any:
    """Return the type of a value that is there."""
    if get_origin(kind) in _UNIONS:
        return next(one for one in get_args(kind) if one is not type(None))
    return kind
