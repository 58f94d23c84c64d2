"""The checksum of the ring's records, in both of its versions: instruction and table."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.rings import compile_c
from oracles.crc32c import crc32c

SOURCE = """
#include "crc32c.h"
uint32_t chosen(const uint8_t *p, size_t n) { return fx_crc32c(p, n); }
uint32_t table(const uint8_t *p, size_t n) { return ~fx_crc32c_bytewise(~0u, p, n); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("crc32c")
    (folder / "crc32c.c").write_text(SOURCE)
    return ctypes.CDLL(str(compile_c(folder, "crc32c.so", "-O2", "-shared", "-fPIC", "crc32c.c")))


@pytest.mark.parametrize("version", ["chosen", "table"])
class TestBothVersions:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytes(reversed(range(32))), 0x113FDB5C),
            (b"123456789", 0xE3069283),
            (b"", 0),
        ],
    )
    def test_known_answers(
        self, library: ctypes.CDLL, version: str, data: bytes, expected: int
    ) -> None:
        """RFC 3720 appendix B.4, and the check value that every catalogue of CRCs gives."""
        assert crc32c(data) == expected
        assert getattr(library, version)(data, len(data)) & 0xFFFF_FFFF == expected

    @given(data=st.binary(max_size=300), skip=st.integers(0, 9))
    def test_agrees_with_the_oracle(
        self, library: ctypes.CDLL, version: str, data: bytes, skip: int
    ) -> None:
        """For every length and alignment."""
        buffer = ctypes.create_string_buffer(b"x" * skip + data)
        at = ctypes.c_void_p(ctypes.addressof(buffer) + skip)
        assert getattr(library, version)(at, len(data)) & 0xFFFF_FFFF == crc32c(data)
