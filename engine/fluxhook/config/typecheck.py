"""Whether the fields of a configuration built in Python hold what their struct declares.

msgspec checks types where it decodes, not where a struct is constructed.
"""

from __future__ import annotations

import msgspec

from fluxhook.config.findings import Findings
from fluxhook.config.limits import too_many
from fluxhook.config.schema import Endpoint
from fluxhook.config.typed_values import BAD, HIDDEN, fields_of, is_struct, read_value

__all__ = ["check_types"]


def check_types(struct: msgspec.Struct, path: str, findings: Findings) -> None:
    """Report each field of another type than declared; `path` ends in a dot or is empty."""
    for name, kind in fields_of(type(struct)).items():
        value = getattr(struct, name)
        where = path + name
        if too_many(type(struct), name, value, where, findings):
            continue
        if is_struct(kind):
            _check_struct(kind, value, where, findings)
        elif name == "endpoints" and isinstance(value, tuple):
            for i, endpoint in enumerate(value):
                _check_struct(Endpoint, endpoint, f"{where}[{i}]", findings)
        elif name == "endpoints":
            findings.problem(
                where, f"is a {type(value).__name__}", "write a tuple of Endpoint(...)"
            )
        else:
            hidden = name in HIDDEN
            read = read_value(kind, value, where, findings, hidden=hidden)
            if read is not BAD and read != value:
                # It can be read, as "3s" or a list can, but nobody will read it again.
                shown = f"is a {type(value).__name__}" if hidden else f"is {value!r:.80}"
                right = "a tuple" if isinstance(read, tuple) else repr(read)
                findings.problem(where, shown, f"write {right}")


def _check_struct(kind: type[msgspec.Struct], value: object, path: str, findings: Findings) -> None:
    if isinstance(value, kind):
        check_types(value, path + ".", findings)
    else:
        findings.problem(
            path, f"is a {type(value).__name__}, not {kind.__name__}", f"write {kind.__name__}(...)"
        )
