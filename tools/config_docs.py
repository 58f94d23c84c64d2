"""Writes the generated parts of docs/configuration.md and docs/limits.md from the schema.

python tools/config_docs.py          rewrites them
python tools/config_docs.py --check  exits 1 if they are out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import msgspec

from fluxhook.config.layers import PRESETS, assemble
from fluxhook.config.limits import ENTRIES, LIMITS
from fluxhook.config.option import Option, choices_of, is_struct, options, value_at, written
from fluxhook.config.schema import (
    Admin,
    Aggregate,
    Batch,
    Breaker,
    Config,
    Endpoint,
    LogOptions,
    Retry,
    Tls,
    Token,
)
from fluxhook.config.typed_values import wanted

DOCS: Final = Path(__file__).parents[1] / "docs"
_PART: Final = re.compile(r"(<!-- generated: ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)
#: each struct, and where it stands in the file
PLACES: Final[dict[type[msgspec.Struct], str]] = {
    Config: "",
    Admin: "admin.",
    LogOptions: "log.",
    Token: "admin.tokens[].",
    Endpoint: "endpoints[].",
    Retry: "endpoints[].retry.",
    Breaker: "endpoints[].circuit_breaker.",
    Aggregate: "endpoints[].aggregate.",
    Batch: "endpoints[].batch.",
    Tls: "endpoints[].tls.",
}
TOP: Final[dict[type[msgspec.Struct], type[msgspec.Struct]]] = {
    **dict.fromkeys((Config, Admin, LogOptions), Config),
    Token: Token,
}


def keys(kind: type[msgspec.Struct]) -> str:
    """Return the table of a struct's own keys."""
    top = TOP.get(kind, Endpoint)
    rows = [
        "| key | type | default | with `fluxmq` | example | effect |",
        "|---|---|---|---|---|---|",
    ]
    for option in options(top):
        if option.owner is kind:
            rows.append("| " + " | ".join(map(_cell, _row(top, option))) + " |")
    return "\n".join(rows)


def _row(top: type[msgspec.Struct], option: Option) -> Iterable[str]:
    default, in_fluxmqs = "needed" if option.required else _code(option.default), ""
    if top is not Token and not option.required:
        there = _code(value_at(preset(top), option.path))
        in_fluxmqs = there if there != default else ""
    effect = option.description
    if option.choices:
        means = (f"`{value}` ({said})" for value, said in option.choices.items())
        effect += f" {', '.join(means)}."
    return f"`{option.name}`", _type(option), default, in_fluxmqs, _yaml(option.example), effect


def preset(top: type[msgspec.Struct]) -> Any:
    """Return the defaults of a file without `preset`, or with `preset: fluxmq`."""
    of_endpoint, of_config = PRESETS["fluxmq"]
    if top is Config:
        return assemble(Config, of_config)
    return assemble(Endpoint, {**of_endpoint, "name": "", "url": ""})


def _type(option: Option) -> str:
    if choices := choices_of(option.kind):
        return " or ".join(f"`{choice}`" for choice in choices)
    said = _noun(option.kind)
    if option.limit is not None:
        said += f", {option.limit}"
    if option.entries is not None:
        said += f", at most {option.entries:,d}"
    return said


def _noun(kind: Any) -> str:
    if get_origin(kind) is tuple:
        (item, *_) = get_args(kind)
        if is_struct(item):
            return "list of mappings"
        if choices := choices_of(item):
            return "list of " + ", ".join(f"`{choice}`" for choice in choices)
        return f"list of {_noun(item)}s"
    if get_origin(kind) is dict:
        return "mapping"
    return wanted(kind)[0].removeprefix("a ")


def _code(value: Any) -> str:
    if value is None:
        return "none"
    return f"`{written(value) or {'': repr(''), '()': '[]'}.get(str(value), '{}')}`"


def _yaml(value: Any) -> str:
    """Return a value as YAML has it on one line."""
    return "" if value is None else f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(one)}' for key, one in value.items())}}}"
    if isinstance(value, str) and (not re.fullmatch(r"[\w/][\w .:/+-]*", value) or ": " in value):
        return f'"{value}"'
    return f'"{value}"' if value in ("2", "1.1") else written(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def entries() -> str:
    rows = [
        f"| `{PLACES[kind]}{name}` | {most:,d} |"
        for kind, names in ENTRIES.items()
        for name, most in names.items()
    ]
    return "\n".join(["| list or mapping | entries |", "|---|---|", *rows])


def numbers() -> str:
    rows = [
        f"| `{PLACES[kind]}{name}` | {'0s, or ' * or_off}{low} | {high} |"
        for kind, names in LIMITS.items()
        for name, (low, high, or_off) in names.items()
    ]
    return "\n".join(["| number | from | to |", "|---|---|---|", *rows])


PARTS: Final[dict[str, dict[str, Callable[[], str]]]] = {
    "configuration.md": {kind.__name__: lambda kind=kind: keys(kind) for kind in PLACES},  # type: ignore[misc]
    "limits.md": {"entries": entries, "numbers": numbers},
}


def render(page: str, text: str) -> str:
    """Return the page with every generated part made anew."""
    return _PART.sub(lambda m: f"{m[1]}\n{PARTS[page][m[2]]()}\n\n{m[3]}", text)


def main() -> int:
    stale = False
    for page in PARTS:
        path = DOCS / page
        old = path.read_text()
        new = render(page, old)
        stale |= old != new
        if "--check" not in sys.argv[1:]:
            path.write_text(new)
    return int(stale and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
