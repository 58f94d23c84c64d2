"""The service between two configurations: a question is answered from one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fluxhook import Endpoint
from fluxhook import control as c
from fluxhook.admin.service import Service
from fluxhook.store import ReadStore
from support.scheduler_harness import SchedulerHarness

FILE = Endpoint(name="file", url="https://file.example/", signature="none")
LAYER = {"name": "run", "url": "https://run.example/", "events": ["*"], "signature": "none"}


def webhooks(service: Service) -> dict[str, str]:
    return {webhook.name: webhook.source for webhook in service.webhooks()}


def webhook(service: Service) -> dict[str, str]:
    found = service.webhook("run")
    return {"file": "file", found.name: found.source}


def by_id(service: Service) -> dict[str, str]:
    found = service.webhook("id:wh_1")
    return {"file": "file", found.name: found.source}


def status(service: Service) -> dict[str, str]:
    return {one.name: "api" if one.name == "run" else "file" for one in service.status().webhooks}


@pytest.mark.parametrize("ask", [webhooks, webhook, by_id, status])
def test_a_change_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Service], dict[str, str]]
) -> None:
    """An endpoint that is deleted while a question is answered is in the answer as it was, or not at
    all; and it is not in the next one."""
    with SchedulerHarness(tmp_path / "data", FILE) as harness:
        harness.ask(c.Create(LAYER), c.Subscription)
        service = Service(harness.path)
        before = ask(service)
        assert before == {"file": "file", "run": "api"}
        opened = ReadStore.open

        def delete_first(path: Path) -> Any:
            monkeypatch.undo()
            harness.ask(c.Delete("run"), c.Done)
            return opened(path)

        monkeypatch.setattr(ReadStore, "open", delete_first)
        assert ask(service) in (before, {"file": "file"})
        assert webhooks(service) == {"file": "file"}
        service.close()


def test_defaults_are_those_of_the_engine(tmp_path: Path) -> None:
    """The file's words for all endpoints lie over the schema's own; the dashboard's form shows them."""
    config = {"timeout": "7s", "retry": {"jitter": 0.5}, "headers": {"X-Team": "ops"}}
    with SchedulerHarness(tmp_path / "data", FILE, defaults=config) as harness:
        service = Service(harness.path)
        defaults = service.defaults()
        assert str(defaults.timeout) == "7s"
        assert defaults.retry.jitter == 0.5
        assert defaults.concurrency == FILE.concurrency
        assert defaults.headers == {}, "they are not shared (share_default_headers)"
        service.close()
