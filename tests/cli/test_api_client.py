"""The client of the admin API: whatever a server does is an answer or one clear failure."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fluxhook.admin.problem_details import KINDS
from fluxhook.cli.api_client import Api, segment
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.failure import Failure
from support.tls import Authority, self_signed, server_context

TOKEN = "a-token-that-nobody-sees"


class Fake:
    """A server that gives one answer, and keeps what it was asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"{}"
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                fake.asked.append((self.command, self.path, dict(self.headers), body))
                self.send_response(fake.status)
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(fake.body)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def problem(self, status: int, kind: str, detail: str, errors: object = ()) -> None:
        self.status = status
        self.body = json.dumps(
            {
                "type": f"urn:fluxhook:problem:{kind}",
                "title": "t",
                "status": status,
                "detail": detail,
                "instance": "/",
                "errors": errors,
            }
        ).encode()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.close()


def failure(api: Api) -> Failure:
    with pytest.raises(Failure) as caught:
        api.get("/v1/webhooks", dict[str, Any])
    shown = f"{caught.value} {caught.value.remedy} {caught.value.problems}"
    assert TOKEN not in shown
    assert str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, "unauthorized", ExitCode.DENIED),
        (403, "insufficient-scope", ExitCode.DENIED),
        (404, "unknown-webhook", ExitCode.NOT_FOUND),
        (404, "unknown-delivery", ExitCode.NOT_FOUND),
        (409, "conflict", ExitCode.CONFLICT),
        (413, "event-too-large", ExitCode.REFUSED),
        (422, "invalid-event", ExitCode.REFUSED),
        (429, "queue-full", ExitCode.QUEUE_FULL),
        (503, "engine-not-running", ExitCode.NOT_RUNNING),
        (503, "engine-unavailable", ExitCode.UNREACHABLE),
        (503, "store-failing", ExitCode.UNREACHABLE),
        (503, "overloaded", ExitCode.UNREACHABLE),
        (500, "internal-error", ExitCode.FAILURE),
        (418, "one-that-is-not-known-yet", ExitCode.FAILURE),
    ],
)
def test_every_kind_of_problem_has_its_exit_code(
    fake: Fake, status: int, kind: str, code: ExitCode
) -> None:
    """And the API's own words, unless these are of HTTP."""
    fake.problem(status, kind, "what happened")
    error = failure(Api(fake.url, TOKEN))
    words = "wants a token" if kind == "unauthorized" else "what happened"
    assert words in str(error)
    assert error.code == code


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_has_to_know_http(fake: Fake, kind: str) -> None:
    """Whatever the API refuses: no status, no header and no method in the message or the remedy."""
    foreign = ((code, "") for code in (401, 404, 429, 502, 503))
    for status, problem in ((KINDS[kind].status, kind), *foreign):
        fake.problem(status, problem, KINDS[kind].title)
        if not problem:
            fake.body = b"<html>"
        error = failure(Api(fake.url, TOKEN))
        said = f"{error} {error.remedy}".replace(fake.url, "")
        assert not re.search(
            r"\b[1-5]\d\d\b(?!\.)|header|Bad Gateway|Not Found|Authorization", said
        ), said


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        ("invalid-configuration", ExitCode.CONFIG, "the webhook has 2 problems"),
        ("invalid-request", ExitCode.USAGE, "the request has 2 problems"),
    ],
)
def test_what_is_wrong_is_listed(fake: Fake, kind: str, code: ExitCode, words: str) -> None:
    """Each with its field, the message, and the remedy if there is one."""
    errors = [
        {"field": "url", "message": "is missing", "remedy": "add it"},
        {"field": "limit", "message": "is too high"},
    ]
    fake.problem(422, kind, "url: is missing; limit: is too high", errors)
    error = failure(Api(fake.url))
    assert (str(error), error.code) == (words, code)
    assert error.problems == [("url", "is missing", "add it"), ("limit", "is too high", "")]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "cannot be read"),
        (200, b'{"id": "\xff"}', "cannot be read"),
        (200, b"[1]", "cannot be read"),
        (200, b'{"id": ' + b"[" * 9000 + b"]" * 9000 + b"}", "nested too deeply"),
        (404, b"<html>", "there is no admin API below this path"),
        (404, b'{"x": ' + b"[" * 9000 + b"]" * 9000 + b"}", "no admin API below this path"),
        (502, b'{"error": "of a proxy"}', "the proxy before it does not reach it"),
        (418, b"", "what answers there is not the admin API"),
    ],
)
def test_another_server_is_told_apart(fake: Fake, status: int, body: bytes, words: str) -> None:
    fake.status, fake.body = status, body
    error = failure(Api(fake.url))
    assert error.code == ExitCode.UNREACHABLE
    assert "does not answer as fluxhook's admin API" in str(error)
    assert words in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(fake: Fake, status: int) -> None:
    """It would carry the token to whom it names."""
    fake.status, fake.headers = status, {"Location": f"{fake.url}/elsewhere?token=hidden"}
    error = failure(Api(fake.url, TOKEN))
    assert f"redirects to {fake.url}/elsewhere?***" in str(error)
    assert len(fake.asked) == 1


def test_a_request_says_who_asks_and_for_what(fake: Fake) -> None:
    api = Api(f"{fake.url}/", TOKEN)
    api.get("/v1/deliveries", dict[str, Any], endpoint="a&b", limit=5, cursor=None)
    api.post("/v1/webhooks/x/pause", dict[str, Any])
    api.patch("/v1/webhooks/x", dict[str, Any], {"timeout": None})
    got, posted, patched = fake.asked
    assert got[:2] == ("GET", "/v1/deliveries?endpoint=a%26b&limit=5")
    assert got[2]["Authorization"] == f"Bearer {TOKEN}"
    assert got[2]["User-Agent"].startswith("fluxhook/")
    assert posted[2]["Content-Type"] == "application/json"
    assert patched[2]["Content-Type"] == "application/merge-patch+json"
    assert patched[3] == b'{"timeout":null}'


def test_pages_follow_the_cursor_up_to_the_last(fake: Fake) -> None:
    fake.body = b'{"items": [1, 2, 3], "next_cursor": "more"}'
    assert list(Api(fake.url).pages("/v1/x", int, last=6)) == [1, 2, 3, 1, 2, 3]
    assert [path for _, path, _, _ in fake.asked] == ["/v1/x?limit=6", "/v1/x?limit=3&cursor=more"]


def test_what_is_on_this_machine_is_asked_through_no_proxy(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert Api(fake.url, TOKEN).get("/v1/x", dict[str, Any]) == {}


@pytest.mark.parametrize(("name", "path"), [("a/b", "a%2Fb"), ("..", "%2E%2E"), ("é", "%C3%A9")])
def test_a_name_is_one_segment_of_a_path(name: str, path: str) -> None:
    assert segment(name) == path


def test_an_empty_name_is_none() -> None:
    """It would ask for the list."""
    with pytest.raises(Failure):
        segment("")


# ---- no answer -------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    """Or, where it is known, why."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    error = failure(Api(url, TOKEN))
    assert error.code == ExitCode.UNREACHABLE
    assert str(error) == f"{url} cannot be reached: nobody listens there"
    absent = Failure("it ended", ExitCode.NOT_RUNNING)
    assert failure(Api(url, absent=lambda: absent)) is absent


def test_no_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        error = failure(Api(url, TOKEN, timeout_s=0.05))
    assert error.code == ExitCode.UNREACHABLE
    assert "no answer within 0.05 s" in str(error)


def test_a_name_that_nobody_has() -> None:
    error = failure(Api("http://nobody.invalid:1", TOKEN))
    assert error.code == ExitCode.UNREACHABLE
    assert "host name cannot be resolved" in str(error)


def test_http_where_tls_is_spoken_and_the_other_way_round(fake: Fake, tmp_path: Path) -> None:
    error = failure(Api(fake.url.replace("http:", "https:"), TOKEN))
    assert error.code == ExitCode.UNREACHABLE
    assert "http://" in error.remedy
    tls = Fake(server_context(Authority(tmp_path / "ca").issue("admin")))
    try:
        error = failure(Api(tls.url.replace("https:", "http:"), TOKEN))
    finally:
        tls.close()
    assert error.code == ExitCode.UNREACHABLE
    assert "https://" in error.remedy


def test_a_pinned_certificate_needs_no_key_usage(tmp_path: Path) -> None:
    """One that `openssl req -x509` made is pinned under every Python; 3.13 verifies strictly."""
    identity = self_signed(tmp_path, "admin")
    tls = Fake(server_context(identity))
    try:
        assert Api(tls.url, pinned=identity.cert).get("/v1/x", dict[str, Any]) == {}
    finally:
        tls.close()


def test_a_certificate_is_trusted_by_its_authority_or_because_it_is_pinned(tmp_path: Path) -> None:
    """A pinned one may name whom it likes; another one is refused all the same."""
    authority = Authority(tmp_path / "ca")
    other = authority.issue("other")
    identity = authority.issue("admin", san="DNS:gateway.example.com")
    tls = Fake(server_context(identity))
    try:
        error = failure(Api(tls.url, TOKEN))
        assert error.code == ExitCode.UNREACHABLE
        assert "certificate is not trusted" in str(error)
        assert "SSL_CERT_FILE" in error.remedy
        assert Api(tls.url, pinned=identity.cert).get("/v1/x", dict[str, Any]) == {}
        assert "not trusted" in str(failure(Api(tls.url, pinned=other.cert)))
    finally:
        tls.close()
    with pytest.raises(Failure, match=r"nowhere\.pem cannot be read"):
        Api(tls.url, pinned="nowhere.pem")
