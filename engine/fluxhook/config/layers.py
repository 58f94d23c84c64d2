"""What an endpoint says, over the file's `defaults`, over a preset, over the schema's own defaults.

A layer is a dict of the fields that it sets, nested structs as dicts of their own.
"""

from __future__ import annotations

import functools
from typing import Any, Final, Literal, TypeVar

import msgspec

from fluxhook.config.option import is_struct, plain_type
from fluxhook.config.units import Duration

__all__ = ["EXPONENTIAL", "PRESETS", "Layer", "Preset", "assemble", "overlay"]

S = TypeVar("S", bound=msgspec.Struct)
Layer = dict[str, Any]
Preset = Literal["fluxmq", "fluxgate"]

#: Each preset's (endpoint layer, config layer). `fluxgate` is the schema as it stands.
PRESETS: Final[dict[Preset, tuple[Layer, Layer]]] = {
    "fluxgate": ({}, {}),
    # The defaults of FluxMQ's `webhook` section; its wait has no jitter, and it aggregates nothing.
    "fluxmq": (
        {
            "aggregate": {"window": None},
            "timeout": Duration.parse("5s"),
            "retry": {
                "schedule": None,
                "max_attempts": 3,
                "initial_interval": Duration.parse("1s"),
                "max_interval": Duration.parse("30s"),
                "multiplier": 2.0,
                "jitter": 0.0,
            },
        },
        {"native_envelope": "broker"},
    ),
}

#: The settings of exponential backoff, which a schedule replaces.
EXPONENTIAL: Final = frozenset(("initial_interval", "max_interval", "multiplier"))


def overlay(base: Layer, over: Layer) -> Layer:
    """Return both layers, `over` first; nested layers and headers are merged, all else is replaced.

    The layer that chooses a way of retrying chooses all of it: a schedule drops the number of
    attempts below it, and exponential settings drop a schedule below them. Header names are
    compared without case (RFC 9110 section 5.1).
    """
    merged = base | over
    for name in base.keys() & over.keys():
        below, above = base[name], over[name]
        if name == "headers":
            lower = {header.lower() for header in above}
            kept = {header: text for header, text in below.items() if header.lower() not in lower}
            merged[name] = kept | above
        elif isinstance(below, dict) and isinstance(above, dict):
            if name == "retry":
                below = _without_rival(below, above)
            merged[name] = overlay(below, above)
    return merged


def _without_rival(below: Layer, above: Layer) -> Layer:
    dropped = set()
    if above.get("schedule") is not None:
        dropped.add("max_attempts")
    elif EXPONENTIAL & above.keys():
        dropped.add("schedule")
    # None is put there, not left out: the schema's own default would come through.
    return below | dict.fromkeys(dropped)


def assemble(kind: type[S], layer: Layer) -> S:
    """Return the struct, with the schema's defaults under the layer. Required fields must be in it."""
    values = dict(layer)
    for name, default in _nested(kind).items():
        base = {name: msgspec.structs.asdict(default)}
        values[name] = assemble(type(default), overlay(base, {name: layer.get(name, {})})[name])
    return kind(**values)


@functools.cache
def _nested(kind: type[msgspec.Struct]) -> dict[str, msgspec.Struct]:
    """Return the defaults of the fields that are structs themselves."""
    fields = msgspec.structs.fields(kind)
    return {field.name: field.default for field in fields if is_struct(plain_type(field.type))}
