"""events.nesting: a depth that is ours, on every interpreter, before a library recurses."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook._native.event import nests_over
from fluxhook.events.nesting import MAX_TEXT_DEPTH, TooDeep, bounded, decode_json, is_deeper

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('[]{}"\\ab', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\'), inner, max_size=3)
    ),
    max_leaves=12,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(VALUES, st.integers(0, 6))
def test_levels_are_counted_as_a_parser_would(value: object, levels: int) -> None:
    """Brackets within texts and keys do not count, whatever is escaped there."""
    text = json.dumps(value).encode()
    assert (nests_over(text, levels) >= 0) == (depth(value) > levels)
    assert is_deeper(value, levels) == (depth(value) > levels)


@given(st.binary(max_size=200))
def test_any_bytes_can_be_counted(text: bytes) -> None:
    """Bytes that are no JSON are left to the decoder."""
    assert nests_over(text, 1000) == -1


@pytest.mark.parametrize("text", [b"[[1], [[2]]]", b'{"[[[": {"a": [0]}}'])
def test_the_place_is_that_of_the_bracket(text: bytes) -> None:
    """The offset is that of the first bracket that is one too many."""
    assert text[nests_over(text, 2) :][:1] in b"[{"
    assert nests_over(text, 3) == -1


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("levels", [MAX_TEXT_DEPTH + 1, 3000, 9000, 1_000_000])
def test_what_is_too_deep_is_one_error(opening: bytes, levels: int) -> None:
    """A DecodeError with our words, at any depth, be the text whole or not."""
    closing = {b"[": b"]"}.get(opening, b"}")
    inner = b"1" if opening != b"[" else b""
    for text in (opening * levels, opening * levels + inner + closing * levels):
        with pytest.raises(TooDeep, match=f"over {MAX_TEXT_DEPTH} levels, at byte") as caught:
            decode_json(text)
        assert isinstance(caught.value, msgspec.DecodeError)


def test_the_limit_is_reached_before_the_interpreters() -> None:
    """The decoder is not called at all for what is deeper, and can read all that is not."""
    called: list[bytes] = []
    decode = bounded(called.append)
    with pytest.raises(TooDeep):
        decode(b"[" * (MAX_TEXT_DEPTH + 1))
    assert not called
    assert depth(decode_json(b"[" * 400 + b"]" * 400)) == 400 < sys.getrecursionlimit()
    assert msgspec.json.decode(b"[" * MAX_TEXT_DEPTH + b"]" * MAX_TEXT_DEPTH)


def test_data_that_holds_itself_is_deeper_than_any_limit() -> None:
    """Even where it holds itself many times, in containers of all kinds."""
    data: dict[str, Any] = {}
    data["a"] = [(data, data), data, {"b": data}]
    assert is_deeper(data, 60)
    assert is_deeper(nested(100_000), 1000)
    assert not is_deeper(nested(50), 50)
