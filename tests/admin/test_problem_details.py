"""Errors: what each is answered with, and that none says too much."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.testing import TestClient

from admin.conftest import ALL, ApiSite, problem
from fluxhook import errors
from fluxhook.admin.problem_details import KINDS, RequestError, problem_of
from fluxhook.admin.service import Service
from fluxhook.store import StoreError


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/v1", "/v1/nothing", "/schema/nothing", "/v2/x"]
)
def test_nothing_at_a_path_is_a_problem(site: ApiSite, path: str) -> None:
    """404 in the one form."""
    problem(site.client.get(path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/v1/events"), ("GET", "/v1/events"), ("DELETE", "/v1/audit"), ("POST", "/healthz")],
)
def test_a_wrong_method_is_a_problem(site: ApiSite, method: str, path: str) -> None:
    """405 with the methods that there are (RFC 9110 section 15.5.6)."""
    answer = site.client.request(method, path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"]
    assert method not in answer.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/webhooks"),
        ("PATCH", "/v1/webhooks/filed"),
        ("POST", "/v1/webhooks/filed/rotate-secret"),
        ("POST", "/v1/webhooks/filed/test"),
        ("POST", "/v1/dead-letters/replay"),
        ("POST", "/v1/dead-letters/purge"),
    ],
)
def test_a_body_is_a_json_object(site: ApiSite, method: str, path: str) -> None:
    """Another content type is 415, no JSON is 400, no object is 422."""

    def send(body: bytes, media: str = "application/json") -> Any:
        return site.client.request(method, path, content=body, headers={"Content-Type": media})

    problem(send(b"{}", "text/plain"), 415, "unsupported-media-type")
    for body in (b"{", b"\xff", b"{} {}", b"[" * 5000):
        problem(send(body), 400, "malformed-body")
    for body in (b"[]", b"5", b"null", b'"x"'):
        problem(send(body), 422, "invalid-request")
    for value, words in (
        (b"9" * 30, "beyond 64 bits"),
        (b"[" * 100 + b"]" * 100, "nested too deeply"),
        (b'{"b":' * 500 + b"1" + b"}" * 500, "nested too deeply"),
    ):
        said = problem(send(b'{"a": [' + value + b"]}"), 422, "invalid-request")
        assert said["errors"][0]["field"].startswith("a[0]")
        assert words in said["detail"]


def test_every_foreseen_error_has_a_kind() -> None:
    """And with it a status: whatever the engine raises on purpose is not ours to blame."""
    cases: list[tuple[Exception, str]] = [
        (errors.ConfigError(errors.Problem("url", "is bad", "mend it")), "invalid-configuration"),
        (errors.UnknownEndpoint("x"), "unknown-webhook"),
        (errors.Conflict("x"), "conflict"),
        (errors.PayloadTooLarge("x"), "event-too-large"),
        (errors.EventError("x", field="data"), "invalid-event"),
        (errors.QueueFull("x"), "queue-full"),
        (errors.EngineNotRunning("x"), "engine-not-running"),
        (errors.TooManyPublishers("x"), "engine-unavailable"),
        (errors.LayoutError("x"), "engine-unavailable"),
        (StoreError("x"), "store-failing"),
        (RequestError("overloaded", "x"), "overloaded"),
        (ValueError("x"), "internal-error"),
        (errors.SignatureError("x"), "internal-error"),
    ]
    for error, kind in cases:
        made, headers = problem_of(error, "/v1/x")
        assert made.type == f"urn:fluxhook:problem:{kind}"
        assert made.status == KINDS[kind].status
        assert ("Retry-After" in headers) == (
            kind in ("queue-full", "overloaded", "engine-unavailable")
        )


def test_an_unforeseen_error_tells_nothing(
    guarded: TestClient[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 as a problem; the log has the rest."""

    def fail(self: Service) -> None:
        raise RuntimeError("the inner secret")

    monkeypatch.setattr(Service, "webhooks", fail)
    answer = guarded.get("/v1/webhooks", headers={"Authorization": f"Bearer {ALL}"})
    problem(answer, 500, "internal-error")
    assert "inner secret" not in answer.text
    assert "the inner secret" in caplog.text
