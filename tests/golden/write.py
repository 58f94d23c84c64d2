"""Writes the golden files anew: `PYTHONPATH=tests .venv/bin/python -m golden.write`.

One line is one envelope, byte for byte. A changed line is a change that receivers see: it belongs
into the release notes. `schemas.json` has the fields of each type's data, with their version. What
would break a receiver within a major version is refused, with a word about what to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from events.samples import DATA, ENVELOPES, sample
from fluxhook.events.envelope import EnvelopeStyle
from golden.schemas import envelope_faults, faults, recorded

HERE = Path(__file__).parent
STYLES: tuple[EnvelopeStyle, ...] = ("gateway", "broker", "cloudevents", "standard")


def golden() -> dict[str, list[bytes]]:
    """Each golden file's name and lines."""
    files = {"native.ndjson": [ENVELOPES.encode("native", sample(name)) for name in DATA]}
    files["native.ndjson"].append(
        ENVELOPES.encode("native", sample("message.published", payload=b"\x00\xff21.5"))
    )
    for style in STYLES:
        files[f"{style}.ndjson"] = [
            ENVELOPES.encode(style, sample("route.error")),
            ENVELOPES.encode(style, sample("message.published")),
            ENVELOPES.encode(style, sample("order.created", topic="orders/17")),
        ]
    return files


def found() -> list[str]:
    """Return what must not be as it is now."""
    before = msgspec.json.decode((HERE / "schemas.json").read_bytes())
    now = recorded()
    broken = faults(before, now)
    if before["major"] == now["major"]:
        for name, lines in golden().items():
            broken += envelope_faults(name, (HERE / name).read_bytes().splitlines(), lines)
    return broken


if __name__ == "__main__":
    if broken := found():
        sys.exit("\n".join(broken))
    for name, lines in golden().items():
        (HERE / name).write_bytes(b"".join(line + b"\n" for line in lines))
    written = msgspec.json.format(msgspec.json.encode(recorded()), indent=1)
    (HERE / "schemas.json").write_bytes(written + b"\n")
