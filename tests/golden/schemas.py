"""What the golden files promise: what may change within a major version, and what may not.

Pure: what was recorded and what there is now in, the faults out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fluxhook import __version__
from fluxhook.events.catalog import TYPES
from fluxhook.events.schemas import VERSIONS, schema

__all__ = ["ADVICE", "envelope_faults", "faults", "recorded"]

ADVICE = "the golden files are not as the code is; run `PYTHONPATH=tests python -m golden.write`"
#: of a field, but not of its meaning to a program
_PROSE = {"title", "description"}


def recorded() -> dict[str, Any]:
    """Fluxhook's major version, and of each type the version and the fields of its data."""
    return {
        "major": _major(__version__),
        "types": {
            name: {"version": VERSIONS[name], "fields": _fields(schema(name))} for name in TYPES
        },
    }


def _fields(whole: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Each field with its JSON schema and whether it is always there; None: any JSON object."""
    if whole is None:
        return None
    definitions = whole["$defs"]
    body = definitions[whole["$ref"].rpartition("/")[2]]
    return {
        name: {"schema": _bare(field, definitions), "required": name in body["required"]}
        for name, field in body["properties"].items()
    }


def _bare(field: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(field, list):
        return [_bare(one, definitions) for one in field]
    if not isinstance(field, dict):
        return field
    if "$ref" in field:
        return _bare(definitions[field["$ref"].rpartition("/")[2]], definitions)
    return {key: _bare(one, definitions) for key, one in field.items() if key not in _PROSE}


def faults(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Everything about the data that must not be as it is now, and what to do about it."""
    found = []
    new_major = now["major"] > before["major"]
    for name, old in before["types"].items():
        new = now["types"].get(name)
        if new == old:
            continue
        broken = ["the type is gone"] if new is None else _broken(old["fields"], new["fields"])
        raised = new is not None and _major(new["version"]) > _major(old["version"])
        if (broken or raised) and not new_major:
            found.append(
                f"{name}: {'; '.join(broken) or 'it has a new major version'}. Receivers of version "
                f"{old['version']} rely on it: keep it as it was. Only a release with a new major "
                "version of Fluxhook may change it, under a new major version in events/schemas.py."
            )
        elif broken and new is not None and not raised:
            found.append(
                f"{name}: {'; '.join(broken)}. Raise its major version in events/schemas.py."
            )
        elif new is not None and new["version"] == old["version"]:
            found.append(
                f"{name}: its data has another field than version {old['version']}. Raise its minor "
                "version in events/schemas.py."
            )
    return found


def _broken(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Return what a receiver could stumble over."""
    if old is None:
        return []
    found = []
    for name, field in old.items():
        now = (new or {}).get(name)
        if now is None:
            found.append(f"the field {name} is gone")
        elif now["schema"] != field["schema"]:
            found.append(f"the field {name} has another type")
        elif field["required"] and not now["required"]:
            found.append(f"the field {name} may be missing")
    return found


def envelope_faults(name: str, before: Iterable[bytes], now: Iterable[bytes]) -> list[str]:
    """The same for a file of envelopes: an envelope keeps its members. To those of CloudEvents and
    Standard Webhooks others may come; a native one has exactly those of the two documents."""
    closed = name.partition(".")[0] in ("native", "gateway", "broker")
    lines: list[dict[str, Any]] = [json.loads(line) for line in now]
    found = []
    for line in before:
        old: dict[str, Any] = json.loads(line)
        if not any(new == old if closed else old.items() <= new.items() for new in lines):
            found.append(
                f"{name}: no envelope is what this one was: {line.decode()}. Receivers rely on it: "
                "keep it until a release with a new major version of Fluxhook. (If only the sample was "
                "changed, take its line out of the file first.)"
            )
    return found


def _major(version: str) -> int:
    return int(version.partition(".")[0])
