"""Writes the golden files anew: `PYTHONPATH=tests .venv/bin/python -m golden.write`.

One line is one envelope, byte for byte. A changed line is a change that receivers see: it belongs
into the release notes.
"""

from __future__ import annotations

from pathlib import Path

from events.samples import DATA, ENVELOPES, sample
from fluxhook.events.envelope import EnvelopeStyle

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


if __name__ == "__main__":
    for name, lines in golden().items():
        (HERE / name).write_bytes(b"".join(line + b"\n" for line in lines))
