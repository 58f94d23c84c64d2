"""Texts that must not be shown."""

from __future__ import annotations

__all__ = ["Secret"]


class Secret(str):
    """A text whose `repr` hides it, so that no struct, traceback or `{value!r}` shows it.

    It stays a str in everything else: formatting, `str()` and encoding give the text.

    >>> Secret("sk_live_9x8m2p")
    Secret('***')
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret('***')"
