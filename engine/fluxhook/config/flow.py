"""How deep the brackets of a YAML text nest, found out before the library scans it.

PyYAML's scanner runs ahead of its events, over up to a line and 1024 characters (YAML 1.2 section
7.4.2: where an implicit key may end). Some releases stop it at a depth of their own, with words of
their own. So a line that has many brackets is read here first.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["too_deep"]

#: a text that does not end takes the rest
_QUOTED: Final = r""""(?:[^"\\]++|\\.)*+(?:"|\Z)|'(?:[^']++|'')*+(?:'|\Z)"""
_COMMENT: Final = r"(?:^|(?<=[ \t]))\#[^\n]*"
#: In block context a quote or a bracket means something only where a node begins, after its tag and
#: anchor; elsewhere it is a part of a plain scalar.
_BLOCK: Final = re.compile(
    rf"(?:^[ ]*+|[-?:][ \t]++)(?:[!&]\S*+[ \t]++)*+"
    rf"(?:(?P<quoted>{_QUOTED})|(?P<open>[\[{{])|(?P<literal>[|>][-+1-9]*+[ \t]*+(?:\#[^\n]*+)?$))"
    rf"|{_COMMENT}",
    re.MULTILINE | re.DOTALL,
)
_FLOW: Final = re.compile(
    rf"(?<![^\s\[\]{{}},:])(?:{_QUOTED})|{_COMMENT}|(?P<bracket>[\[\]{{}}])",
    re.MULTILINE | re.DOTALL,
)
#: the indentation of a line's last key or entry
_PARENT: Final = re.compile(r"[ ]*(?:[-?][ \t]+(?=[^|>]))*")
_OPEN: Final = re.compile(r"[\[{]")


def too_deep(text: str, levels: int) -> int:
    """Return where in the text the first bracket is that is more than `levels` deep, or -1.

    Brackets in quoted texts, comments and block scalars do not count.
    """
    if not any(len(_OPEN.findall(line)) > levels for line in text.split("\n")):
        return -1
    at = depth = 0
    while match := (_FLOW if depth else _BLOCK).search(text, at):
        at = match.end()
        if depth:
            if bracket := match["bracket"]:
                depth += 1 if bracket in "[{" else -1
        elif match["open"]:
            depth = 1
        elif match["literal"]:
            at = _after_literal(text, match.start("literal"), at)
        if depth > levels:
            return at - 1
    return -1


def _after_literal(text: str, indicator: int, at: int) -> int:
    """Return where the block scalar ends whose indicator stands there, and whose header ends `at`.

    It has all lines that are empty or further in than its parent (YAML 1.2 section 8.1).
    """
    line = text.rfind("\n", 0, indicator) + 1
    head = _PARENT.match(text, line, indicator)
    parent = head.end() - line if head else 0
    ending = re.compile(rf"^[ ]{{0,{parent}}}[^ \n]", re.MULTILINE)
    match = ending.search(text, at + 1)
    return match.start() if match else len(text)
