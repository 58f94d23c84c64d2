"""CRC-32C as RFC 3720 section 12.1 defines it: reflected, polynomial 0x1EDC6F41, one bit at a time."""

from __future__ import annotations

from functools import lru_cache

REFLECTED_POLYNOMIAL = 0x82F63B78


def _bits(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (REFLECTED_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_bits(byte) for byte in range(256)]


@lru_cache(maxsize=4096)  # readers of ring files meet the same records again and again
def crc32c(data: bytes) -> int:
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFF_FFFF
