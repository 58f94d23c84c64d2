"""Compressed bodies: equal bytes for equal bodies, and no bomb goes off."""

from __future__ import annotations

import contextlib
import gzip
import random
import sys
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.errors import ConfigError
from fluxhook.policy import compression
from fluxhook.policy.compression import BadEncoding, decompress, make_compressor

MEGABYTE = 2**20
names = st.sampled_from(["gzip", "zstd"])


@given(names, st.binary(max_size=5000))
def test_what_was_compressed_comes_back(name: str, body: bytes) -> None:
    """By our own decoder, and by others'; and equal bodies are equal bytes whenever they are made."""
    first, second = make_compressor(name), make_compressor(name)  # type: ignore[arg-type]
    assert first is not None
    assert second is not None
    packed = first(body)
    assert packed == first(body) == second(body)
    assert decompress(packed, name, MEGABYTE) == body
    foreign = gzip.decompress if name == "gzip" else zstandard.ZstdDecompressor().decompress
    assert foreign(packed) == body


def test_none_does_not_compress() -> None:
    """There is nothing to call."""
    assert make_compressor("none") is None


def test_a_missing_library_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the option and the package; a receiver refuses such bodies."""
    packed = zstandard.ZstdCompressor().compress(b"{}")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError, match=r"compression.*zstandard.*pip install"):
        make_compressor("zstd")
    with pytest.raises(BadEncoding) as caught:
        decompress(packed, "zstd", MEGABYTE)
    assert caught.value.status == 415


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_bomb_is_refused_before_it_takes_memory(name: str) -> None:
    """A body that would become 1 GiB is given up at the cap."""
    if name == "gzip":
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        bomb = b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(1024)) + packer.flush()
    else:
        zstd = zstandard.ZstdCompressor().compressobj()
        bomb = b"".join(zstd.compress(bytes(MEGABYTE)) for _ in range(1024)) + zstd.flush()
    with pytest.raises(BadEncoding, match="over 1048576 bytes") as caught:
        decompress(bomb, name, MEGABYTE)
    assert caught.value.status == 413


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_the_cap_is_exact(name: str) -> None:
    """As many bytes as allowed are; one more is not."""
    packed = make_compressor(name)(b"x" * 1000)  # type: ignore[arg-type, misc]
    assert decompress(packed, name, 1000) == b"x" * 1000
    with pytest.raises(BadEncoding):
        decompress(packed, name, 999)


def test_encodings_are_undone_in_their_order() -> None:
    """The last one named was applied last; `identity` is none, and case does not matter."""
    body = b"{}" * 1000
    inner = make_compressor("zstd")(body)  # type: ignore[misc]
    outer = make_compressor("gzip")(inner)  # type: ignore[misc]
    assert decompress(outer, "zstd, identity, GZIP", MEGABYTE) == body
    assert decompress(body, "identity", MEGABYTE) == body
    assert decompress(body, "", MEGABYTE) == body


@given(names, st.binary(max_size=300))
def test_damaged_bodies_are_refused(name: str, body: bytes) -> None:
    """With BadEncoding and no other error, whatever the bytes are."""
    with contextlib.suppress(BadEncoding):
        decompress(body, name, MEGABYTE)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_a_body_that_was_cut_off_is_refused(name: str) -> None:
    """So is one with something behind its end."""
    packed = make_compressor(name)(bytes(range(256)) * 20)  # type: ignore[arg-type, misc]
    for damaged in (packed[:-1], packed[: len(packed) // 2], packed + b"more", packed + packed):
        with pytest.raises(BadEncoding) as caught:
            decompress(damaged, name, MEGABYTE)
        assert caught.value.status == 400


def test_an_unknown_encoding_is_refused() -> None:
    """415 Unsupported Media Type (RFC 9110 section 15.5.16)."""
    with pytest.raises(BadEncoding, match="'br' is not known") as caught:
        decompress(b"", "br", MEGABYTE)
    assert caught.value.status == 415
    assert compression.MIN_BYTES == 1024


def test_an_error_says_where_and_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option's path for a configuration, a sentence for a sender."""
    with pytest.raises(BadEncoding) as refused:
        decompress(b"", "br", 10)
    assert str(refused.value) == "the Content-Encoding 'br' is not known"
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigError) as caught:
        make_compressor("zstd")
    assert [problem.path for problem in caught.value.problems] == ["compression"]


def test_what_others_compress_is_read() -> None:
    """gzip by its old name, and with the whole window of 32 KiB; zstd without the size of its content,
    up to the last byte that is allowed."""
    body = random.Random(1).randbytes(30_000) * 2
    for name in ("gzip", "x-gzip"):
        assert decompress(gzip.compress(body), name, len(body)) == body
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(body)
    assert decompress(sizeless, "zstd", len(body)) == body
