from collections.abc import Sequence

class Signer:
    """HMAC-SHA256 under one key whose schedule is prepared once (OpenSSL's libcrypto).

    The message is `prefix + body`, so that a caller never joins them: `prefix` is `b"<t>."` or
    `b"<id>.<t>."`. Instances are immutable and may be shared by threads.
    """

    def __init__(self, key: bytes) -> None: ...
    def hex(self, prefix: bytes, body: bytes) -> bytes:
        """The MAC as 64 lower-case hexadecimal digits."""

    def base64(self, prefix: bytes, body: bytes) -> bytes:
        """The MAC as 44 characters of padded base64."""

    def digest(self, prefix: bytes, body: bytes) -> bytes:
        """The MAC as 32 raw bytes."""

    def hex_many(self, messages: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """`hex` of each (prefix, body); the GIL is released while the MACs are computed."""
