"""config.flow: brackets that nest too deep are found without YAML's own parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.flow import too_deep

MANY = "[" * 80
#: where a bracket nests, at which `@` stands for many of them
DEEP = (
    "@",
    "a: @",
    "- - x\n- @",
    "? @",
    "a: !tag &anchor @",
    "a:\n  @",
    "a: it's\nb: 'x'\nc: @",
    "a: {b: it's, c: @",
    "a: b#c\nd: [x#y, @",
    "a: |\n  text\nb: @",
    "- a: |\n   text\n  b: @",
    "- - >-\n   text\n  - @",
    "- |\n text\n- @",
    "'a': @",
)
#: where it is a part of something else
SHALLOW = (
    "a: '@'",
    "a: 'it''s @'",
    'a: "\\"@"',
    "a: [x, '@', \"@\"]",
    '{"a": "@"}',
    "a: x # @",
    "# @",
    "[a, # @\nb]",
    "a: b@",
    "a: |\n  @\nb: 1",
    "a: >2-  # why\n\n    @\n\n  @\nc: 1",
    "- a:\n  - |\n   @\n  - b",
    "- a: |+\n   @\n  b: 1",
    "a: " + "[]," * 100,
    "[" + "{}," * 100 + "]",
)

DATA: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.text("[]{}'\"\\#:, -ab\n", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("[{a#", max_size=3), inner),
    max_leaves=15,
)


@pytest.mark.parametrize("text", DEEP)
def test_brackets_that_nest(text: str) -> None:
    """The place is that of the first bracket that is too deep."""
    at = too_deep(text.replace("@", MANY), 65)
    outer = 1 if "{b" in text or "[x#" in text else 0
    assert at == text.index("@") + 65 - outer


@pytest.mark.parametrize("text", SHALLOW)
def test_brackets_that_do_not(text: str) -> None:
    """In quotes, comments, block scalars and plain ones; and those that are closed again."""
    assert too_deep(text.replace("@", MANY), 65) == -1


@pytest.mark.parametrize("opening", ["[", "{a: ", '{"a":', "[ [x, ", "- ["])
def test_the_limit_is_exact(opening: str) -> None:
    """So many levels pass, one more does not."""
    text = opening * 90
    brackets = [i for i, c in enumerate(text) if c in "[{"]
    assert too_deep(text, 70) == brackets[70]
    assert too_deep(text, len(brackets)) == -1


@given(DATA)
def test_no_sound_text_is_refused(data: Any) -> None:
    """Whatever a library wrote: block and flow style, and JSON. A line of brackets has it all read."""
    top = {"pad": [[] for _ in range(100)], "data": data}
    for text in (
        yaml.safe_dump(top, default_flow_style=True, width=100_000),
        yaml.safe_dump(top, default_flow_style=None, width=20),
        yaml.safe_dump({"data": data}) + "pad: [" + "[], " * 100 + "]\n",
        json.dumps(top),
    ):
        assert too_deep(text, 65) == -1


@pytest.mark.parametrize("text", ["[" * 66 + '"\\"' * 200_000, "a: '" * 200_000 + "[" * 70])
def test_a_large_text_takes_no_longer_than_its_length(text: str) -> None:
    """Texts that do not end are read once, not once for each quote; else this would take hours."""
    too_deep(text, 65)
