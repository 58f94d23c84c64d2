"""Lines of a stream keep their numbers, and a huge one costs no more than its limit."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fluxhook.cli.lines import Lines


@given(st.binary(max_size=200).filter(lambda data: not data.startswith(b"\xef\xbb\xbf")))
def test_lines_are_those_of_the_stream(data: bytes) -> None:
    lines = Lines(io.BytesIO(data))
    assert list(lines) == io.BytesIO(data).readlines()
    assert lines.number == len(io.BytesIO(data).readlines())
    assert lines.bytes_read == len(data)


@given(st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")), max_size=8))
def test_of_a_longer_line_the_beginning_is_kept(parts: list[bytes]) -> None:
    """Its number and those of the lines behind it stay right."""
    data = b"\n".join(parts)
    lines = Lines(io.BytesIO(data), max_bytes=10)
    kept = list(lines)
    whole = io.BytesIO(data).readlines()
    assert [line[:11] for line in whole] == kept or data.startswith(b"\xef\xbb\xbf")
    assert lines.bytes_read == len(data)


def test_a_byte_order_mark_belongs_to_no_line() -> None:
    assert list(Lines(io.BytesIO(b"\xef\xbb\xbf{}\n{}"))) == [b"{}\n", b"{}"]


def test_only_a_file_has_a_size(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"{}\n")
    with path.open("rb") as file:
        assert Lines(file).size == 3
    assert Lines(io.BytesIO(b"{}\n")).size is None
