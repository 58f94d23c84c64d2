"""Compressed request bodies: `Content-Encoding: gzip` (RFC 1952) or `zstd` (RFC 8878).

What is signed is what is sent, so a receiver verifies first and decompresses then, and nothing that a
stranger made reaches its decompressor. Equal bodies give equal bytes: no file name, no time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

from fluxhook.config.schema import Compression
from fluxhook.errors import ConfigError, Problem

__all__ = ["MIN_BYTES", "BadEncoding", "decompress", "make_compressor"]

#: Below it a body fits one packet as it is, and what compressing saves is not worth its time.
MIN_BYTES: Final = 1024
#: what each library takes for a good compromise
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3
#: wbits of zlib: 15 of window, and 16 for the gzip format
_GZIP_WBITS: Final = 31


class BadEncoding(ValueError):
    """A body that cannot be decompressed. `status` is what a receiver answers."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def make_compressor(name: Compression) -> Callable[[bytes], bytes] | None:
    """Return a function that compresses one body at a time; None for "none". Not thread-safe.

    Raises ConfigError at `compression` where the library is missing.
    """
    if name == "none":
        return None
    if name == "gzip":
        return _gzip
    try:
        import zstandard
    except ImportError:
        raise _no_zstd() from None
    compress: Callable[[bytes], bytes] = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress
    return compress


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the body behind a `Content-Encoding`, which may name several, in the order in which they
    were applied.

    Raises BadEncoding for an unknown encoding (415), damaged data (400), and for what would become
    more than `max_bytes` (413); it never makes more than that.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    for name in reversed([name for name in names if name not in ("", "identity")]):
        if name in ("gzip", "x-gzip"):
            body = _gunzip(body, max_bytes)
        elif name == "zstd":
            body = _unzstd(body, max_bytes)
        else:
            raise BadEncoding(f"the Content-Encoding {name!r:.40} is not known", 415)
    return body


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, _GZIP_LEVEL, _GZIP_WBITS)  # its header has no time


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    reader = zlib.decompressobj(_GZIP_WBITS)
    try:
        plain = reader.decompress(body, max_bytes + 1)
    except zlib.error as e:
        raise BadEncoding(f"the gzip body is damaged: {e}", 400) from None
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    if not reader.eof or reader.unused_data:
        raise BadEncoding("the gzip body is cut off, or has something behind it", 400)
    return plain


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise BadEncoding(
            "the Content-Encoding 'zstd' needs the package 'zstandard'", 415
        ) from None
    reader = zstandard.ZstdDecompressor()
    try:
        if len(reader.stream_reader(body).read(max_bytes + 1)) > max_bytes:
            raise _too_large(max_bytes)
        # Once more, now that it is known to be small: a stream's reader takes what is cut off.
        plain: bytes = reader.decompress(body, max_bytes + 1, allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise BadEncoding(f"the zstd body is damaged: {e}", 400) from None
    return plain


def _too_large(max_bytes: int) -> BadEncoding:
    return BadEncoding(f"the body is over {max_bytes} bytes once it is decompressed", 413)


def _no_zstd() -> ConfigError:
    return ConfigError(
        Problem(
            "compression", "'zstd' needs the package 'zstandard'", "pip install 'fluxhook[zstd]'"
        )
    )
