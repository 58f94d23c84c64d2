"""Text from outside: bytes until they are decoded here, with one handler.

What is no UTF-8 becomes U+FFFD, so that whatever is made of the text can be encoded again. The bytes
may have been cut within a character.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["decoded", "one_line", "repaired", "without_secrets"]

#: of a URL within a text: what stands before its host, and its query
_USERINFO: Final = re.compile(r"://(?:[^\s/@]*:[^\s@]*|[^\s/]*)@")
_QUERY: Final = re.compile(r"(://[^\s?\"'<>]*\?)[^\s\"'<>]+")


def decoded(raw: bytes) -> str:
    """Return the text that the bytes hold."""
    return raw.decode("utf-8", "replace")


def repaired(text: str) -> str:
    """Return the text without surrogates, which cannot be encoded. pycurl and the interpreter put one
    for each byte that they cannot decode (PEP 383)."""
    try:
        raw = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = text.encode("utf-8", "replace")
    return decoded(raw)


def one_line(text: str, limit: int = 1000) -> str:
    """Return the text on one line, cut to `limit` characters: what could end the line or steer a
    terminal is spelled out.

    >>> one_line("a\\nb\\x1b[31m")
    'a\\\\nb\\\\x1b[31m'
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def without_secrets(text: str) -> str:
    """Return the text without what can be a secret in a URL: user name, password and query.

    >>> without_secrets("via http://me:pw@proxy:3128 to https://h/x?token=1")
    'via http://***@proxy:3128 to https://h/x?***'
    """
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1***", _USERINFO.sub("://***@", text))
