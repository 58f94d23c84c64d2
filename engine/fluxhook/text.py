"""Text from outside: bytes until they are decoded here, with one handler.

What is no UTF-8 becomes U+FFFD, so that whatever is made of the text can be encoded again. The bytes
may have been cut within a character.
"""

from __future__ import annotations

__all__ = ["decoded", "repaired"]


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
