"""Several events in one POST: when a batch closes, how it is written, and what its answer says.

A batch that is refused for its content goes out again in two halves, and so on, until only the events
that are refused by themselves are left.

Any other answer counts for every event of the batch, unless it is a 207 (Multi-Status) with a JSON body
that tells them apart, a list of results or an object with one:

    [{"id": "evt_1", "status": 200}, {"id": "evt_2", "status": 503}]
    {"results": [...]}

An event that the answer does not name is tried again. Members beside these two are skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from fluxhook.config.schema import Batch, BatchFormat
from fluxhook.config.units import Size
from fluxhook.events.nesting import bounded

__all__ = [
    "batch_id",
    "cut",
    "halves",
    "is_due",
    "join",
    "read_answers",
    "smaller",
    "waits_until_ns",
]

#: The statuses for which the content may be to blame: RFC 9110 sections 15.5.1, 15.5.14, 15.5.21. The
#: other 4xx are about the URL, the credentials or the rate: a smaller request gets the same answer.
_REFUSES_CONTENT: Final = (400, 413, 422)


class _Frame(NamedTuple):
    opening: bytes
    separator: bytes
    ending: bytes


_ARRAY: Final = _Frame(b"[", b",", b"]")
_FRAMES: Final[dict[BatchFormat, _Frame]] = {
    "json": _ARRAY,
    "ndjson": _Frame(b"", b"\n", b"\n"),
    "cloudevents": _ARRAY,
}


def is_due(batch: Batch, events: int, n_bytes: int, oldest_ns: int, now_ns: int) -> bool:
    """Return whether what waits goes out now: `events` envelopes of `n_bytes` together, the first of
    which has waited since `oldest_ns`."""
    return events > 0 and (
        events >= (batch.max_events or 1)
        or n_bytes >= batch.max_bytes
        or now_ns >= waits_until_ns(batch, oldest_ns)
    )


def waits_until_ns(batch: Batch, oldest_ns: int) -> int:
    """Return when a batch whose oldest event has waited since then goes out at the latest."""
    return oldest_ns + batch.max_delay.ns


def cut(batch: Batch, sizes: Sequence[int]) -> int:
    """Return how many of the envelopes that wait, the first `max_events` of which have these sizes,
    go into the next batch: as many as fit, and one at least."""
    frame = _FRAMES[batch.format]
    total = len(frame.opening) + len(frame.ending) - len(frame.separator)
    if total + sum(sizes) + len(frame.separator) * len(sizes) <= batch.max_bytes:
        return len(sizes)
    count = 0
    while total <= batch.max_bytes:
        total += sizes[count] + len(frame.separator)
        count += 1
    return max(1, count - 1)


def halves(status: int, events: int) -> tuple[int, int] | None:
    """Return how many events of a refused batch go into each of two requests, in their order; None if
    the answer counts for the events."""
    if events < 2 or status not in _REFUSES_CONTENT:
        return None
    return (events + 1) // 2, events // 2


def smaller(batch: Batch, n_bytes: int) -> Batch:
    """Return the options for the batches that follow one of `n_bytes` that was too large."""
    return msgspec.structs.replace(
        batch, max_bytes=Size(max(1, min(batch.max_bytes, n_bytes // 2)))
    )


def join(batch: Batch, bodies: Sequence[bytes]) -> bytes:
    """Return the body of a batch. An envelope is JSON without line breaks, so lines need no care."""
    frame = _FRAMES[batch.format]
    return frame.opening + frame.separator.join(bodies) + frame.ending


def batch_id(event_ids: Iterable[str]) -> str:
    """Return the id of a batch (`webhook-id`): the same events in the same order have the same."""
    return "batch_" + hashlib.sha256("\0".join(event_ids).encode()).hexdigest()[:32]


class _Answer(msgspec.Struct):
    id: str
    status: int


class _Answers(msgspec.Struct):
    results: list[_Answer]


# Not strict, so that a status may be a text.
_decode_list = bounded(msgspec.json.Decoder(list[_Answer], strict=False).decode)
_decode_object = bounded(msgspec.json.Decoder(_Answers, strict=False).decode)


def read_answers(body: bytes) -> Mapping[str, int]:
    """Return the status of each event that a 207 names; of one that is named twice, the one that
    failed.

    Raises ValueError, with a sentence about what is wrong, if the body is none of the two forms.
    """
    found: dict[str, int] = {}
    try:
        listed = body.lstrip()[:1] == b"["
        answers = _decode_list(body) if listed else _decode_object(body).results
    except (msgspec.MsgspecError, UnicodeDecodeError) as e:
        raise ValueError(f"the 207 answer cannot be read: {e}") from None
    for answer in answers:
        if not 200 <= answer.status <= 599:
            raise ValueError(f"the 207 answer has the status {answer.status}, not 200 to 599")
        if 200 <= found.get(answer.id, 200) <= 299:
            found[answer.id] = answer.status
    return found
