"""Text from outside can always be encoded again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.text import decoded, repaired


@given(st.binary())
def test_whatever_the_bytes_are_the_text_is_text(raw: bytes) -> None:
    """Decoded here or by pycurl, the result is the same, and it can be encoded."""
    text = decoded(raw)
    assert repaired(raw.decode("utf-8", "surrogateescape")) == text
    text.encode()


@given(st.text())
def test_text_stays_as_it_is(text: str) -> None:
    assert repaired(text) == text
    assert decoded(text.encode()) == text


@given(st.text(st.characters(categories=["Cs", "L"])))
def test_any_surrogate_is_replaced(text: str) -> None:
    """Also one that stands for no byte."""
    repaired(text).encode()


@pytest.mark.parametrize("end", range(1, 5))
def test_bytes_that_were_cut_within_a_character(end: int) -> None:
    """The part of the character becomes one mark."""
    assert decoded("ab😀".encode()[: 2 + end]) == ("ab😀" if end == 4 else "ab\ufffd")
