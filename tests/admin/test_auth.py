"""Who may do what: tokens and scopes, and what a browser must not be tricked into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from admin.conftest import ALL, EMIT, READ, TOKENS, WRITE, ApiSite, client_of, config, problem
from fluxhook.admin.auth import Access, judge_browser
from fluxhook.admin.problem_details import RequestError
from fluxhook.config.schema import Admin, Token
from fluxhook.supervisor.supervisor import Supervisor

#: one route for each scope, with the status of an allowed request while no engine runs
ROUTES = {
    "read": ("GET", "/v1/webhooks", 200),
    "write": ("POST", "/v1/webhooks/ops/pause", 503),
    "emit": ("POST", "/v1/events", 400),
}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("token", "has"), [(READ, "read"), (WRITE, "write"), (EMIT, "emit")])
@pytest.mark.parametrize("needs", list(ROUTES))
def test_a_scope_opens_its_routes_and_no_others(
    guarded: TestClient[Any], token: str, has: str, needs: str
) -> None:
    """A token without the scope is refused by 403, which names the missing one."""
    method, path, status = ROUTES[needs]
    answer = guarded.request(method, path, headers=bearer(token))
    if has == needs:
        assert answer.status_code == status
        return
    body = problem(answer, 403, "insufficient-scope")
    assert repr(needs) in body["detail"]
    assert f'scope="{needs}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("token", [ALL, "own-token-0123456789"])
@pytest.mark.parametrize("needs", list(ROUTES))
def test_a_token_of_all_scopes_opens_everything(
    guarded: TestClient[Any], token: str, needs: str
) -> None:
    """So does the process's own."""
    method, path, status = ROUTES[needs]
    assert guarded.request(method, path, headers=bearer(token)).status_code == status


@pytest.mark.parametrize(
    "header",
    [None, "Bearer wrong", "Bearer ", "Bearer", f"Basic {ALL}", f"Bearer {ALL}x", "Bearer \xff"],
)
@pytest.mark.parametrize("path", ["/v1/webhooks", "/metrics", "/v1/audit"])
def test_without_a_token_nothing_is_shown(
    guarded: TestClient[Any], path: str, header: str | None
) -> None:
    """401 with a challenge (RFC 6750), for a wrong token as for none."""
    headers = {} if header is None else {b"Authorization": header.encode("latin-1")}
    answer = guarded.get(path, headers=headers)
    problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith('Bearer realm="fluxhook"')


@pytest.mark.parametrize("path", ["/healthz", "/schema/openapi.json", "/schema"])
def test_what_is_no_secret_needs_no_token(guarded: TestClient[Any], path: str) -> None:
    """Health for those who watch, and the description of the API."""
    assert guarded.get(path).status_code == 200


def test_every_route_has_a_rule(guarded: TestClient[Any]) -> None:
    """Every operation but those of health refuses a request without a token."""
    document = guarded.get("/schema/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            status = guarded.request(method, path.format(ref="ops", delivery_id="x")).status_code
            assert (status == 401) == (path not in ("/healthz", "/readyz")), (method, path)


def test_new_tokens_count_at_once(tmp_path: Path) -> None:
    """A reload of the configuration takes effect with the next request."""
    data_dir = tmp_path / "data"
    supervisor = Supervisor(data_dir, config(admin=Admin(tokens=TOKENS)))
    try:
        with client_of(data_dir) as client:
            assert client.get("/v1/webhooks", headers=bearer(READ)).status_code == 200
            fresh = Token(token="fresh-token-0123456789")
            supervisor.live.load(config(admin=Admin(tokens=(fresh,))))
            assert client.get("/v1/webhooks", headers=bearer(READ)).status_code == 401
            assert client.get("/v1/webhooks", headers=bearer(fresh.token)).status_code == 200
    finally:
        supervisor.close()


def test_an_open_api_takes_no_wrong_token(site: ApiSite) -> None:
    """A client that sends one believes it to be needed, so it is told."""
    problem(site.client.get("/v1/webhooks", headers=bearer("wrong")), 401, "unauthorized")


def test_only_loopback_is_open() -> None:
    """Without a token, beyond this machine, nobody but the process's own token gets in."""
    outside = Access(lambda: (), loopback=False, own_token="own")
    assert not outside.open
    with pytest.raises(RequestError):
        outside.require("read", None)
    outside.require("write", "Bearer own")
    assert Access(lambda: (), loopback=True).open
    assert not Access(lambda: TOKENS, loopback=True).open


def test_no_own_token_is_no_token() -> None:
    """An empty one must not match an empty header."""
    assert Access(lambda: (), loopback=True).scopes_of("") == frozenset()


# ---- browsers --------------------------------------------------------------------------------

HOST = {"host": "127.0.0.1:8090"}
FOLLOWED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8090", "localhost", "LOCALHOST:1", "[::1]:8090", "[::1]", "127.0.0.2"],
)
def test_loopback_hosts_are_answered(host: str) -> None:
    """By whatever name of this machine."""
    assert judge_browser({"host": host}, "GET") is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8090",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "localhost.evil",
    ],
)
def test_foreign_hosts_are_refused(host: str) -> None:
    """DNS rebinding: a foreign name that leads to 127.0.0.1 is still in the Host header."""
    refusal = judge_browser({"host": host}, "GET")
    assert refusal is not None
    assert refusal.kind == "foreign-host"


@pytest.mark.parametrize(
    ("headers", "method", "allowed"),
    [
        ({}, "POST", True),
        ({"origin": "http://127.0.0.1:8090"}, "POST", True),
        ({"sec-fetch-site": "same-origin"}, "POST", True),
        ({"sec-fetch-site": "none"}, "GET", True),
        ({"origin": "http://evil.example"}, "POST", False),
        ({"origin": "http://evil.example"}, "WEBSOCKET", False),
        ({"origin": "http://127.0.0.1:9999"}, "POST", False),
        ({"origin": "null"}, "POST", False),
        ({"origin": "http://["}, "POST", False),
        ({"origin": "http://[::1"}, "GET", False),
        ({"origin": "://"}, "WEBSOCKET", False),
        ({"origin": ""}, "POST", False),
        ({"origin": "http://127.0.0.1:8090@evil.example"}, "POST", False),
        ({"origin": "http://evil.example\\@127.0.0.1:8090"}, "POST", False),
        ({"origin": "http://127.0.0.1:8090/x"}, "POST", False),
        ({"origin": "HTTP://127.0.0.1:8090"}, "POST", True),
        ({"sec-fetch-site": "cross-site"}, "POST", False),
        ({"sec-fetch-site": "same-site"}, "GET", False),
        (FOLLOWED | {"sec-fetch-dest": "document"}, "GET", True),
        (FOLLOWED | {"sec-fetch-dest": "document"}, "POST", False),
        (FOLLOWED | {"sec-fetch-dest": "iframe"}, "GET", False),
    ],
)
def test_pages_of_others_are_refused(headers: dict[str, str], method: str, allowed: bool) -> None:
    """A link to us may be followed; nothing else of another site's page arrives."""
    refusal = judge_browser(HOST | headers, method)
    assert (refusal is None) == allowed
    assert refusal is None or refusal.kind == "cross-origin"


def test_the_guard_stands_before_every_path(site: ApiSite) -> None:
    """Also where there is nothing, and where no token is needed."""
    for path in ("/v1/webhooks", "/healthz", "/", "/schema"):
        problem(site.client.get(path, headers={"Host": "evil.example"}), 403, "foreign-host")
        answer = site.client.get(path, headers={"Origin": "http://evil.example"})
        problem(answer, 403, "cross-origin")


def test_with_tokens_any_host_is_answered(guarded: TestClient[Any]) -> None:
    """Behind a reverse proxy the Host is its name; a page of another site has no token."""
    headers = bearer(READ) | {"Host": "hooks.example.com", "Origin": "https://hooks.example.com"}
    assert guarded.get("/v1/webhooks", headers=headers).status_code == 200


# ---- a token on loopback too -----------------------------------------------------------------


def test_loopback_can_need_a_token(tmp_path: Path) -> None:
    """`admin.require_token` closes the door without any token: only the process's own one opens it. It
    takes effect with the next request."""
    data_dir = tmp_path / "data"
    supervisor = Supervisor(data_dir, config())
    try:
        with client_of(data_dir, own_token="own-token-0123456789") as client:
            assert client.get("/v1/webhooks").status_code == 200
            supervisor.live.load(config(admin=Admin(require_token=True)))
            for path in ("/v1/webhooks", "/metrics", "/v1/audit"):
                problem(client.get(path), 401, "unauthorized")
            own = bearer("own-token-0123456789")
            assert client.get("/v1/webhooks", headers=own).status_code == 200
            assert client.get("/healthz").status_code == 200
    finally:
        supervisor.close()


def test_a_client_has_a_name_that_tells_nothing() -> None:
    """Each token its own, whatever its scopes; nobody in particular has none."""
    access = Access(lambda: TOKENS, loopback=False, own_token="own-token-0123456789")
    names = {access.client(f"Bearer {token.token}") for token in TOKENS}
    assert len(names) == len(TOKENS)
    assert not any(token.token in "".join(names) for token in TOKENS)
    assert access.client("bearer  own-token-0123456789 ") == "own"
    for nobody in (None, "", "Bearer wrong", f"Basic {ALL}"):
        assert access.client(nobody) == ""
        assert access.is_unknown(nobody) == (nobody is not None)


def test_two_tokens_with_one_key_do_not_meet(guarded: TestClient[Any]) -> None:
    """Each has its own answer and its own ids for what it sends under an Idempotency-Key."""
    event = {"type": "nobody.subscribed"}
    ids = []
    for token in (ALL, EMIT, ALL):
        headers = bearer(token) | {"Idempotency-Key": "the-same"}
        answer = guarded.post("/v1/events", json=event, headers=headers)
        assert answer.status_code == 202, answer.text
        ids.append(answer.json()["events"][0]["id"])
    assert ids[0] == ids[2] != ids[1]
    other = guarded.post("/v1/events", json={"type": "nobody.else"}, headers=headers)
    problem(other, 422, "idempotency-key-reused")
