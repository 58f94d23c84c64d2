"""The receiver: what it reads is HTTP/1.1 and nothing else, and it fails exactly as it is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.schema import SignatureProfile
from fluxhook.errors import ConfigError
from fluxhook.policy.compression import make_compressor
from fluxhook.policy.signature import make_profile
from fluxhook.receiver import Behaviour, Received, Receiver
from fluxhook.receiver.requests import BadRequest, Requests
from support.receiver import ReceiverProcess

DEADLINE_S = 10


def request(body: bytes = b"{}", *fields: str, path: str = "/", line: str = "") -> bytes:
    head = [line or f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Peer:
    """The client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send, and read one answer."""
        self.writer.write(data)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:-2])
        body = await self.reader.readexactly(int(fields.get("Content-Length", 0)))
        return int(head[0].split(" ")[1]), fields, body

    async def rest(self) -> bytes:
        """All up to the end of the connection."""
        return await self.reader.read()


@asynccontextmanager
async def connected(receiver: Receiver) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection(receiver.host, receiver.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


def run(
    test: Callable[[Receiver, Peer], Awaitable[Any]],
    behaviour: Behaviour | None = None,
    **options: Any,
) -> Any:
    """Run `test` against a receiver, with one connection to it."""

    async def main() -> Any:
        receiver = Receiver(behaviour=behaviour or Behaviour(), **options)
        await receiver.start()
        try:
            async with asyncio.timeout(DEADLINE_S), connected(receiver) as peer:
                return await test(receiver, peer)
        finally:
            await receiver.stop()

    return asyncio.run(main())


# ---- reading -------------------------------------------------------------------------------

bodies = st.binary(max_size=300)


@given(st.lists(st.tuples(bodies, st.booleans()), min_size=1, max_size=5), st.data())
def test_requests_come_out_whole_however_the_bytes_come_in(
    requests: list[tuple[bytes, bool]], data: st.DataObject
) -> None:
    """Pipelined requests, chunked or with a length, are the same in any division into pieces."""
    stream = b""
    for body, chunked in requests:
        if chunked:
            stream += b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            middle = data.draw(st.integers(0, len(body)))
            for part in (body[:middle], body[middle:]):
                if part:
                    stream += b"%x;ext=1\r\n%b\r\n" % (len(part), part)
            stream += b"0\r\nTrailer: t\r\n\r\n"
        else:
            stream += request(body, path="/x")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = Requests(1000), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        while (one := reader.next()) is not None:
            found.append(one)
    assert [r.body for r in found] == [body for body, _ in requests]
    assert all(r.target == "/x" and r.keep_alive for r in found)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    """No input gets anything but a request, a wait for more, or a refusal out of the reader."""
    reader = Requests(1000)
    reader.feed(data)
    status = 400
    try:
        while reader.next() is not None:
            pass
    except BadRequest as e:
        status = e.status
    assert 400 <= status <= 501


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/2.0\r\nHost: h\r\n\r\n", 400),
        (b"POST  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nX: a\r\n folded\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nX: a\nY: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nX: a\0\r\n\r\n", 400),
        (request(b"", "Content-Length: 1"), 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", 400),
        (request(b"", "Transfer-Encoding: chunked"), 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz", 400),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 70_000, 431),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
    ],
)
def test_what_is_malformed_or_too_much_is_refused_and_the_connection_ends(
    data: bytes, status: int
) -> None:
    """400, or the status for the reason; then the end, so that nothing is taken for a request."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        got, fields, _ = await peer.ask(data)
        assert (got, fields["Connection"]) == (status, "close")
        assert await peer.rest() == b""

    seen: list[Received] = []
    run(test, max_body_bytes=1000, on_delivery=seen.append)
    assert seen == []


def test_answers_follow_the_order_of_pipelined_requests() -> None:
    """A slow answer holds back those behind it, and none gets lost."""
    behaviours = {"/slow": Behaviour(status=201, delay_s=0.02), "/fast": Behaviour(status=202)}

    async def test(receiver: Receiver, peer: Peer) -> Any:
        peer.writer.write(b"".join(request(path=p) for p in ("/slow", "/fast", "/slow", "/else")))
        return [(await peer.answer())[0] for _ in range(4)]

    assert run(test, paths=behaviours) == [201, 202, 201, 204]


def test_the_callback_gets_the_request_as_it_was_sent() -> None:
    """Path with query, fields in lower case and joined, body bytes, time and verdict."""
    seen: list[Received] = []
    body = bytes(range(256))
    before = time.time_ns()
    run(
        lambda _, peer: peer.ask(request(body, "X-A: 1", "x-a:  2 ", path="/p?q=1")),
        on_delivery=seen.append,
    )
    (received,) = seen
    assert received.headers == {"host": "h", "content-length": "256", "x-a": "1, 2"}
    assert (received.path, received.body, received.status) == ("/p?q=1", body, 204)
    assert received.verified is None
    assert before <= received.at_ns <= time.time_ns()


def test_a_callback_that_raises_costs_its_request_a_500_and_nothing_else() -> None:
    """The receiver lives on, and says what happened through the loop's exception handler."""
    reports: list[Any] = []

    def on_delivery(received: Received) -> None:
        if received.path == "/bad":
            raise RuntimeError("boom")

    async def test(receiver: Receiver, peer: Peer) -> Any:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, c: reports.append(c["exception"])
        )
        return [(await peer.ask(request(path=p)))[0] for p in ("/bad", "/good")]

    assert run(test, on_delivery=on_delivery) == [500, 204]
    assert [str(e) for e in reports] == ["boom"]


def test_a_sender_that_expects_to_be_told_to_continue_is_told_so() -> None:
    """100 Continue goes out when the head is there and the body is not, and only then."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        data = request(b"12345", "Expect: 100-continue")
        peer.writer.write(data[:-5])
        assert (await peer.answer())[0] == 100
        assert (await peer.ask(data[-5:]))[0] == 204
        assert (await peer.ask(data))[0] == 204

    run(test)


def test_connections_end_when_either_side_wants_it() -> None:
    """`Connection: close`, HTTP/1.0, and a connection without a request for too long."""

    async def ends(receiver: Receiver, peer: Peer, data: bytes) -> None:
        assert (await peer.ask(data))[0] == 204
        assert await peer.rest() == b""

    run(lambda r, p: ends(r, p, request(b"", "Connection: close")))
    run(lambda r, p: ends(r, p, request(b"", line="POST / HTTP/1.0")))
    run(lambda r, p: ends(r, p, request(b"")), idle_timeout_s=0.02)


def test_a_busy_connection_is_not_idle() -> None:
    """An answer that takes longer than the idle timeout still comes."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        assert (await peer.ask(request()))[0] == 204

    run(test, Behaviour(delay_s=0.05), idle_timeout_s=0.01)


# ---- signatures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "secret"),
    [
        ("fluxgate", "s3cret"),
        ("standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("stripe", "s3cret"),
        ("github", "s3cret"),
    ],
)
def test_only_signed_requests_pass_where_there_are_secrets(
    profile: SignatureProfile, secret: str
) -> None:
    """Signed: the behaviour's answer. Unsigned or altered: 401, and the callback learns why."""
    seen: list[Received] = []
    body = b'{"id":"evt_1"}'
    signer = make_profile(profile, [secret])
    fields = [h.decode() for h in signer.headers("evt_1", int(time.time()), body)]

    async def test(receiver: Receiver, peer: Peer) -> Any:
        return [
            (await peer.ask(data))[0]
            for data in (request(body, *fields), request(body), request(b"{}", *fields))
        ]

    statuses = run(test, secrets=[secret], profile=profile, on_delivery=seen.append)
    assert statuses == [204, 401, 401]
    assert [r.verified for r in seen] == [True, False, False]
    assert [bool(r.reason) for r in seen] == [False, True, True]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_compressed_bodies_are_verified_first_and_decompressed_then(
    coding: Literal["gzip", "zstd"],
) -> None:
    """The callback gets both forms. What is not signed stays as it came, and what is damaged, unknown
    or would grow too large is refused by its own status."""
    seen: list[Received] = []
    body = b'{"id":"evt_1","data":"' + b"x" * 5000 + b'"}'
    compress, signer = make_compressor(coding), make_profile("fluxgate", ["s3cret"])
    assert compress is not None

    def signed(sent: bytes, coding: str = coding) -> bytes:
        headers = signer.headers("", int(time.time()), sent)
        return request(sent, f"Content-Encoding: {coding}", *(h.decode() for h in headers))

    async def test(receiver: Receiver, peer: Peer) -> Any:
        packed = compress(body)
        requests = (
            signed(packed),
            request(packed, f"Content-Encoding: {coding}"),
            signed(packed[:-3]),
            signed(packed, "br"),
            signed(compress(bytes(1_000_000))),
        )
        return [(await peer.ask(data))[0] for data in requests]

    statuses = run(test, secrets=["s3cret"], max_body_bytes=10_000, on_delivery=seen.append)
    assert statuses == [204, 401, 400, 415, 413]
    assert (seen[0].body, seen[0].encoded, seen[0].verified) == (body, compress(body), True)
    assert (seen[1].body, seen[1].encoded, seen[1].verified) == (compress(body), None, False)
    assert all(received.reason and received.encoded is None for received in seen[2:])


def test_an_unusable_secret_is_refused_before_anything_listens() -> None:
    """At once, not by a 500 for each delivery; likewise a profile that signs nothing."""
    with pytest.raises(ConfigError):
        Receiver(secrets=["whsec_?"], profile="standard")
    with pytest.raises(ValueError, match="no signature"):
        Receiver(secrets=["s3cret"], profile="none")


# ---- behaviour -----------------------------------------------------------------------------


def test_failing_requests_are_the_first_ones_or_chosen_by_a_seed() -> None:
    """fail_first counts; fail_rate draws the same lots for the same seed."""

    async def statuses(receiver: Receiver, peer: Peer) -> list[int]:
        return [(await peer.ask(request()))[0] for _ in range(40)]

    first = run(statuses, Behaviour(fail_first=2, fail_status=500))
    assert first == [500] * 2 + [204] * 38
    by_chance = Behaviour(fail_rate=0.5, seed=1)
    assert run(statuses, by_chance) == run(statuses, by_chance)
    assert run(statuses, by_chance) != run(statuses, Behaviour(fail_rate=0.5, seed=2))
    assert 8 <= run(statuses, by_chance).count(503) <= 32


def test_retry_after_goes_with_failures_and_headers_with_every_answer() -> None:
    """Retry-After on the 503 only; configured headers and the body on both."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        return [await peer.ask(request()) for _ in range(2)]

    behaviour = Behaviour(
        status=200, body=b"b", headers={"X-A": "1"}, fail_first=1, retry_after="9"
    )
    assert run(test, behaviour) == [
        (503, {"X-A": "1", "Retry-After": "9", "Content-Length": "1"}, b"b"),
        (200, {"X-A": "1", "Content-Length": "1"}, b"b"),
    ]


def test_behaviour_changes_while_it_runs() -> None:
    """Of all paths, of one, and of one back to that of all."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        async def ask() -> Any:
            return [(await peer.ask(request(path=p)))[0] for p in ("/a?x", "/b")]

        assert await ask() == [204, 204]
        receiver.behave(Behaviour(status=500))
        receiver.behave(Behaviour(status=410), "/a")
        assert await ask() == [410, 500]
        receiver.behave(None, "/a")
        assert await ask() == [500, 500]

    run(test)


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        ("close", b""),
        ("garbage", b"\x16\x03 no HTTP here\n"),
        ("partial_head", b"HTTP/1.1 503"),
        (
            "partial_body",
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000\r\n\r\ntorn",
        ),
    ],
)
def test_faults_that_end_the_connection(fault: str, sent: bytes) -> None:
    """Exactly what the fault says is sent, then the end."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        peer.writer.write(request() + request())
        assert await peer.rest() == sent

    seen: list[Received] = []
    run(test, Behaviour(fault=fault), on_delivery=seen.append)
    assert [(r.status, r.reason) for r in seen] == [(503 if b"\r" in sent else 0, fault)]


def test_reset_is_an_rst_and_not_an_end() -> None:
    """The client's read fails; it does not just find the end."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        peer.writer.write(request())
        with pytest.raises(ConnectionResetError):
            await peer.rest()

    run(test, Behaviour(fault="reset"))


def test_big_header_is_a_whole_answer_with_a_field_of_1_mib() -> None:
    """Its size is all that is wrong with it."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        peer.writer.write(request())
        return await peer.rest()

    answer = run(test, Behaviour(fault="big_header"))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"x\r\n\r\n")
    assert len(answer) > 1_048_576


@pytest.mark.parametrize(("fault", "at_least"), [("endless", 10_000_000), ("slow_body", 3)])
def test_bodies_without_an_end_go_on_and_keep_the_rest_of_the_receiver_alive(
    fault: str, at_least: int
) -> None:
    """Others are served meanwhile, and the stream ends with its connection."""

    async def test(receiver: Receiver, peer: Peer) -> Any:
        peer.writer.write(request(path="/bad"))
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.reader.readexactly(at_least)
        async with connected(receiver) as other:
            assert (await other.ask(request()))[0] == 204
        peer.writer.transport.abort()
        while receiver.connections:
            await asyncio.sleep(0.001)

    run(test, paths={"/bad": Behaviour(fault=fault)})


def test_hanging_requests_hold_nothing_but_their_connection() -> None:
    """No answer to it or to what is pipelined behind it; other connections are served; when the
    client leaves, the connection is gone."""
    seen: list[Received] = []

    async def test(receiver: Receiver, peer: Peer) -> Any:
        peer.writer.write(request(path="/bad") * 3)
        async with connected(receiver) as other:
            while not seen:
                await asyncio.sleep(0.001)
            assert (await other.ask(request()))[0] == 204
        assert len(seen) == 2
        peer.writer.transport.abort()
        while receiver.connections:
            await asyncio.sleep(0.001)

    run(test, paths={"/bad": Behaviour(fault="hang")}, on_delivery=seen.append)


@pytest.mark.parametrize(
    "wrong",
    [{"status": 100}, {"fail_rate": 1.5}, {"delay_s": -1.0}, {"headers": {"X": "a\r\nB: c"}}],
)
def test_a_behaviour_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """ValueError when it is made, or at the latest when it is set."""
    with pytest.raises(ValueError, match=r"status|fail_rate|delay_s|CR"):
        Receiver(behaviour=Behaviour(**wrong))


def test_behaviours_survive_the_way_through_json() -> None:
    """`listen` and the tests' control connection send them as text."""
    behaviour = Behaviour(body=b"\0\xff", headers={"A": "b"}, fault="reset", fail_rate=0.5)
    assert msgspec.json.decode(msgspec.json.encode(behaviour), type=Behaviour) == behaviour


# ---- the process that tests use ------------------------------------------------------------


def test_the_receiver_process_counts_each_id_and_keeps_the_first_requests() -> None:
    """Accepted ids by path, duplicates counted; refused requests are kept but not counted."""

    async def post(port: int, *requests: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        peer = Peer(reader, writer)
        for one in requests:
            await peer.ask(one)
        writer.transport.abort()

    def event(number: int) -> bytes:
        return json.dumps({"id": f"evt_{number}", "data": {"id": "x"}}).encode()

    with ReceiverProcess(paths={"/bad": Behaviour(status=500)}, keep=2) as receiver:
        assert receiver.ids("/a") == {}
        asyncio.run(post(receiver.port, *(request(event(i % 3), path="/a") for i in range(4))))
        asyncio.run(post(receiver.port, request(event(7), path="/bad")))
        receiver.wait_for(3, "/a")
        assert receiver.ids("/a") == {"evt_0": 2, "evt_1": 1, "evt_2": 1}
        assert (receiver.total("/a"), receiver.distinct("/a")) == (4, 3)
        assert [r.body for r in receiver.requests("/a")] == [event(0), event(1)]
        assert receiver.ids("/bad") == {}
        assert receiver.requests("/bad")[0].status == 500
        receiver.behave(None, "/bad")
        asyncio.run(post(receiver.port, request(b'{"event_id": "e-1"}', path="/bad")))
        receiver.wait_for(1, "/bad")
        assert receiver.state().accepted == 3
        with pytest.raises(AssertionError, match="1 of 2 events"):
            receiver.wait_for(2, "/bad", deadline_s=0.01)
