"""A ring's file read by its drawn layout alone (`_native/ring.h`)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from oracles.crc32c import crc32c

PAGE = 4096
WAITING, TAKEN, DROPPED = range(3)
#: where each field of the file's first page is, and as what it is packed
FIELDS = {
    "magic": (0, "<8s"),
    "layout": (8, "<I"),
    "capacity": (16, "<Q"),
    "slot_count": (24, "<Q"),
    "queue_size": (32, "<Q"),
    "uid": (40, "<Q"),
    "boot_id": (48, "<16s"),
    "tail": (128, "<Q"),
    "cursor": (192, "<Q"),
    "epoch": (200, "<Q"),
    "asleep": (208, "<I"),
    "head": (256, "<Q"),
}


class Stored(NamedTuple):
    seq: int
    status: int
    unsettled: tuple[int, ...]
    head: bytes
    body: bytes


def get(image: bytes | bytearray, name: str) -> int | bytes:
    offset, kind = FIELDS[name]
    value: int | bytes = struct.unpack_from(kind, image, offset)[0]
    return value


def put(image: bytearray, name: str, value: int | bytes) -> None:
    offset, kind = FIELDS[name]
    struct.pack_into(kind, image, offset, value)


def geometry(image: bytes | bytearray) -> tuple[int, int, int]:
    """slot_count, capacity, and where the data begins."""
    (capacity, slot_count) = struct.unpack_from("<QQ", image, 16)
    return slot_count, capacity, PAGE + 16 * slot_count


def records(image: bytes | bytearray) -> list[Stored]:
    """Every record that a slot describes and whose checksum holds, whatever head and tail say."""
    image = bytes(image)
    slot_count, capacity, data = geometry(image)
    found = []
    for index in range(slot_count):
        position, state = struct.unpack_from("<QQ", image, PAGE + 16 * index)
        at = data + position % capacity
        if at + 32 > data + capacity:
            continue
        crc, length, seq, _, targets, head_length = struct.unpack_from("<IIQQII", image, at)
        head_at = at + 32 + 4 * targets
        if at + length > data + capacity or head_at + head_length > at + length:
            continue
        if seq % slot_count != index or state >> 34 != seq % (1 << 30):
            continue
        if crc != crc32c(image[at + 4 : at + length]):
            continue
        ids = struct.unpack_from(f"<{targets}I", image, at + 32)
        unsettled = tuple(id for i, id in enumerate(ids) if state >> i & 1)
        head = image[head_at : head_at + head_length]
        body = image[head_at + head_length : at + length]
        found.append(Stored(seq, state >> 32 & 3, unsettled, head, body))
    return sorted(found)
