"""The little HTTP/2 that the receiver reads."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fluxhook.receiver import Behaviour, Received, Receiver, http2


def request(stream: int, *parts: bytes) -> bytes:
    """A request whose body comes in these parts."""
    frames = [http2.frame(http2.HEADERS, http2.END_HEADERS, stream, b"\x83")]
    frames += [http2.frame(0, 0, stream, part) for part in parts]
    return b"".join(frames) + http2.frame(0, http2.END_STREAM, stream)


@given(
    st.lists(st.lists(st.binary(max_size=50), max_size=3), min_size=1, max_size=4),
    st.lists(st.integers(0, 400), max_size=10),
)
def test_requests_come_out_whole_however_the_bytes_come_in(
    bodies: list[list[bytes]], cuts: list[int]
) -> None:
    sent = http2.PREFACE + b"".join(request(2 * n + 1, *parts) for n, parts in enumerate(bodies))
    requests, found = http2.Requests(), []
    edges = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in pairwise(edges):
        found += [r for r in requests.feed(sent[start:end]) if isinstance(r, http2.Request)]
    assert found == [http2.Request(2 * n + 1, b"".join(parts)) for n, parts in enumerate(bodies)]
    assert requests.size == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    for _ in http2.Requests().feed(http2.PREFACE + data):
        pass


def test_a_good_request_is_answered_and_its_body_is_seen() -> None:
    """Its fields are not read."""
    seen: list[Received] = []

    async def main() -> bytes:
        receiver = Receiver(behaviour=Behaviour(status=200), on_delivery=seen.append)
        await receiver.start()
        reader, writer = await asyncio.open_connection(receiver.host, receiver.port)
        writer.write(http2.PREFACE + request(1, b"{}"))
        said = b""
        async with asyncio.timeout(10):
            while http2.answer(200, 1) not in said:
                said += await reader.read(1000)
        writer.close()
        await receiver.stop()
        return said

    assert asyncio.run(main()).startswith(http2.frame(4, 0, 0))
    assert [(r.path, r.body, r.status) for r in seen] == [("(HTTP/2)", b"{}", 200)]
