"""Structs with our units and secrets, to and from plain data and JSON."""

from __future__ import annotations

import functools
from typing import Any, Final, TypeVar

import msgspec

from fluxhook.config.secret import Secret
from fluxhook.config.units import Duration, Rate, Size, Threshold

__all__ = [
    "UNITS",
    "decode",
    "decode_hook",
    "encode",
    "encode_hook",
    "plain",
    "to_plain",
]

S = TypeVar("S", bound=msgspec.Struct)

#: The types that are written as text and read with their `parse`.
UNITS: Final = (Duration, Size, Rate, Threshold)


def encode_hook(value: object) -> str:
    """Encode our types, as msgspec's `enc_hook`. Secrets come out in the clear."""
    if isinstance(value, (*UNITS, Secret)):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no plain form")


def decode_hook(kind: Any, value: object) -> Any:
    """Decode our types, as msgspec's `dec_hook`."""
    if kind in UNITS:
        return _parsed(kind, value) if isinstance(value, str) else kind.parse(value)
    raise NotImplementedError(f"{kind.__name__} has no plain form")


@functools.lru_cache(maxsize=1024)
def _parsed(kind: Any, text: str) -> Any:
    """Return a value that was parsed before: thousands of endpoints have the same few durations."""
    return kind.parse(text)


def encode(struct: msgspec.Struct) -> bytes:
    """Return the struct as JSON, **secrets in the clear**; `decode` gives an equal one back."""
    return msgspec.json.encode(struct, enc_hook=encode_hook)


def decode(data: bytes, kind: type[S]) -> S:
    """Return what `encode` wrote. Raise msgspec.ValidationError; judge nothing but types and units."""
    return msgspec.json.decode(data, type=kind, dec_hook=decode_hook)


def to_plain(struct: msgspec.Struct) -> Any:
    """Return the struct as dicts, lists and texts, **secrets in the clear**."""
    return plain(struct)


def plain(value: Any) -> Any:
    """Return the same for anything that holds our units and secrets."""
    return msgspec.to_builtins(value, enc_hook=encode_hook)
