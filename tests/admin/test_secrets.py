"""No answer shows a secret, whatever was configured and whatever is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from admin.conftest import ALL, SECRETS, TOKENS, client_of, config, until
from fluxhook import Endpoint, Engine, Retry
from fluxhook.config.schema import Admin
from fluxhook.receiver import Behaviour
from support.receiver import ReceiverProcess

PLACES = {
    "secrets": ["sk_live_9x8m2p"],
    "signature": "stripe",
    "headers": {"Authorization": "Bearer-hidden-in-header"},
    "proxy": "http://user:hidden-in-proxy@127.0.0.1:9",
}


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[list[str]]:
    """Everything that can be asked of an engine that has secrets in every place, where receivers echo
    what they get and events failed."""
    echo = b"got Bearer-hidden-in-header and sk_live_9x8m2p"
    with ReceiverProcess(behaviour=Behaviour(status=500, body=echo)) as receiver:
        url = f"{receiver.url}/in?token=hidden-in-query"
        filed = Endpoint(
            name="filed",
            url=url,
            events=("x.*",),
            secrets=("sk_live_9x8m2p",),
            headers={"Authorization": "Bearer-hidden-in-header"},
            retry=Retry(max_attempts=1),
        )
        data_dir = tmp_path / "data"
        admin = Admin(tokens=TOKENS)
        with Engine(config(filed, admin=admin), data_dir), client_of(data_dir, token=ALL) as client:
            said: list[str] = []

            def ask(method: str, path: str, **options: Any) -> Any:
                answer = client.request(method, path, **options)
                said.append(f"{answer.text} {dict(answer.headers)}")
                return answer.json() if answer.content else None

            layer = {"name": "made", "url": url, "events": ["y.*"], "retry": {"max_attempts": 1}}
            ask("POST", "/v1/webhooks", json=layer | PLACES)
            ask("POST", "/v1/webhooks", json=layer | PLACES | {"timeout": "9"})
            ask("POST", "/v1/webhooks", json=layer | PLACES | {"secret": "sk_live_9x8m2p"})
            ask("PATCH", "/v1/webhooks/made", json=PLACES | {"url": url})
            ask("PATCH", "/v1/webhooks/made", json=PLACES | {"proxy": "ftp://hidden-in-proxy@x"})
            ask("PATCH", "/v1/webhooks/made", json={"secrets": "sk_live_9x8m2p"})
            ask("PATCH", "/v1/webhooks/made", json={"headers": {"A": "Bearer-hidden-in-header\n"}})
            ask("PATCH", "/v1/webhooks/filed", json=PLACES)
            ask("POST", "/v1/webhooks/made/rotate-secret", json={"secret": "sk_live_9x8m2p"})
            ask("POST", "/v1/webhooks/made/rotate-secret", json={"secret": " sk_live_9x8m2p"})
            ask("POST", "/v1/events", json=[{"type": "x.a"}, {"type": "y.a"}])
            until(lambda: len(client.get("/v1/dead-letters").json()["items"]) == 2)
            for path in sorted(client.get("/schema/openapi.json").json()["paths"]):
                if path.endswith("{ref}") or "{ref}/status" in path:
                    for name in ("made", "filed"):
                        ask("GET", path.format(ref=name))
                elif path == "/v1/deliveries/{delivery_id}":
                    for row in ask("GET", "/v1/deliveries")["items"]:
                        ask("GET", path.format(delivery_id=row["id"]))
                elif "{" not in path and path != "/metrics":
                    ask("GET", path)
            said.append(client.get("/metrics").text)
            said.append(client.get("/schema/openapi.json").text)
            yield said


def test_no_answer_shows_a_secret(answers: list[str]) -> None:
    """Neither those to questions nor those to changes, good or refused, nor their headers. (The
    documents' own example of a secret stands in the schema.)"""
    assert len(answers) > 25
    document = answers.pop()
    for secret in SECRETS:
        shown = [answer for answer in answers if secret in answer]
        assert not shown, secret
    for token in TOKENS:
        assert token.token not in document
