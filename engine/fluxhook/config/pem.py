"""PEM text (RFC 7468), which may stand where a file is named."""

from __future__ import annotations

__all__ = ["has_private_key", "is_pem"]


def is_pem(value: str) -> bool:
    """Return whether the value is PEM text and no path.

    >>> is_pem("-----BEGIN CERTIFICATE-----\\nMIIB..."), is_pem("/etc/ssl/ca.pem")
    (True, False)
    """
    return "-----BEGIN " in value


def has_private_key(value: str) -> bool:
    """Return whether the value must not be shown."""
    return is_pem(value) and "PRIVATE KEY" in value
