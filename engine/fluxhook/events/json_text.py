"""JSON text from outside: what is wrong with one that cannot be read."""

from __future__ import annotations

import re
from typing import Final

from fluxhook.events.nesting import TooDeep

__all__ = ["json_fault"]

#: Each escape, so that a backslash that is escaped itself begins none; pairs of surrogates are one.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: how what is no JSON begins
_MARKS: Final = (
    (b"\x1f\x8b", "it begins as gzip does; send it uncompressed"),
    (b"\x28\xb5\x2f\xfd", "it begins as zstd does; send it uncompressed"),
    (b"\xef\xbb\xbf", "it begins with a byte order mark; leave that out"),
    (b"\xff\xfe", "it begins as UTF-16 does; send UTF-8"),
    (b"\xfe\xff", "it begins as UTF-16 does; send UTF-8"),
)


def json_fault(text: bytes | str, error: Exception) -> str:
    """Say what the decoder meant: `error` is what msgspec raised on the text."""
    if isinstance(error, TooDeep):
        return str(error)
    encoded = text if isinstance(text, bytes) else text.encode(errors="replace")
    if not encoded.strip():
        return "it is empty"
    for mark, what in _MARKS:
        if encoded.startswith(mark):
            return what
    try:
        encoded.decode()
    except UnicodeDecodeError as fault:
        return f"byte {fault.start} is not UTF-8"
    for escape in _ESCAPE.finditer(encoded):
        if _SURROGATE.fullmatch(escape[0]):
            name = escape[0].decode()
            return f"{name} at byte {escape.start()} is half of a pair, a lone surrogate"
    return str(error)
