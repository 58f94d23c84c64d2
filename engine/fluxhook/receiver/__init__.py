"""A receiver of deliveries: `fluxhook listen`, the demo's endpoints, and the faults of the tests.

HTTP/1.1 (RFC 9112) as far as a webhook needs it, on one asyncio loop: POST, keep-alive, pipelining,
bodies with Content-Length or chunked. What it answers, a `Behaviour` says, which may change at run
time and may differ by path; it can fail in most of the ways in which real endpoints, and proxies before
them, do (`FAULTS`). Of HTTP/2 without TLS it reads what it takes to fail there: the requests' bodies,
not their fields.

    request line and fields -> Requests -> signature -> decompression -> Behaviour -> on_delivery
    -> answer or fault

`requests` reads HTTP/1.1 and `http2` HTTP/2; `behaviours` decides, with the library in `faults`;
`connection` does the I/O; `receiver` puts them together.
"""

from fluxhook.receiver.behaviours import Behaviour
from fluxhook.receiver.faults import FAULTS
from fluxhook.receiver.receiver import Received, Receiver

__all__ = ["FAULTS", "Behaviour", "Received", "Receiver"]
