"""Texts that are no Unicode: a Python str may hold surrogates, which no encoding has."""

from __future__ import annotations

import msgspec

from fluxhook.config.codec import encode_hook
from fluxhook.config.findings import Findings

__all__ = ["check_unicode"]


def check_unicode(value: msgspec.Struct, path: str, findings: Findings) -> None:
    """Report the fields with a text in them that no other process could get.

    Python puts surrogates where an environment variable or a file name is not UTF-8 (PEP 383).
    """
    for name in value.__struct_fields__:
        try:
            msgspec.json.encode(getattr(value, name), enc_hook=encode_hook)
        except UnicodeEncodeError:
            findings.problem(
                path + name,
                "holds bytes that are not UTF-8, or half of a surrogate pair",
                "write it in UTF-8; if it comes from an environment variable, look there",
            )
