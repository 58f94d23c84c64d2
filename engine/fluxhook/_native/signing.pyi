from typing import Self, final

@final
class Signer:
    """HMAC-SHA256 under one key whose schedule is prepared once (OpenSSL's libcrypto).

    The message is `prefix + body`, so that a caller never joins them: `prefix` is `b"<t>."` or
    `b"<id>.<t>."`. Instances are immutable and may be shared by threads; they cannot be pickled,
    and the key cannot be read back. Raises ValueError for an empty key.
    """

    def __new__(cls, key: bytes) -> Self: ...
    def hex(self, prefix: bytes, body: bytes) -> bytes:
        """Return the MAC as 64 lower-case hexadecimal digits."""

    def base64(self, prefix: bytes, body: bytes) -> bytes:
        """Return the MAC as 44 characters of padded base64."""

    def digest(self, prefix: bytes, body: bytes) -> bytes:
        """Return the MAC as 32 raw bytes."""
