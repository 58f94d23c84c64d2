"""`fluxhook webhook close-breaker` and `retry`, `fluxhook deliveries retry` and `resend`."""

from __future__ import annotations

from typing import Any

from cli.conftest import CommandSite, until
from fluxhook.receiver import Behaviour

LATE = ("--set", 'retry={"schedule": ["1h"], "jitter": 0}')
NEVER = ("--set", "circuit_breaker.failure_threshold=1000000")
AT_ONCE = ("--set", 'circuit_breaker={"failure_threshold": 1, "reset_timeout": "1h"}')


def waiting(site: CommandSite, name: str, n: int, *options: str) -> list[str]:
    """Make a webhook whose first attempts fail, and whose second ones are an hour later."""
    site.receiver.behave(Behaviour(status=503), f"/{name}")
    site.create(name, *LATE, *options)
    site.engine.emit_many([(f"{name}.happened", {"n": i}) for i in range(n)])

    def found() -> Any:
        rows = site.lines("deliveries", "list", "--endpoint", name, "--state", "waiting")
        return len(rows) == n and [row["id"] for row in rows]

    ids: list[str] = until(found, f"{n} that wait")
    return ids


def test_what_waits_is_attempted_now(site: CommandSite) -> None:
    """All of a webhook, with how many that were; where nothing waits it says so."""
    waiting(site, "late", 3, *NEVER)
    site.receiver.behave(None, "/late")
    said = site.run("webhook", "retry", "late")
    assert (said.exit_code, said.stdout) == (0, "3 deliveries are attempted now\n")
    site.receiver.wait_for(3, "/late")
    assert site.run("webhook", "retry", "late").stdout == "nothing of late waits for its time\n"
    assert site.json("webhook", "retry", "late") == {"done": 0}
    assert site.run("webhook", "retry", "none").exit_code == 10


def test_deliveries_are_attempted_now(site: CommandSite) -> None:
    """Those that are named; what cannot be is said after the others, with the remedy."""
    first, second = waiting(site, "single", 2, *NEVER)
    site.receiver.behave(None, "/single")
    assert site.run("deliveries", "retry", first).stdout == "1 delivery is attempted now\n"
    site.receiver.wait_for(1, "/single")
    until(lambda: site.json("deliveries", "show", first)["state"] == "delivered")
    said = site.run("deliveries", "retry", first, second)
    assert said.exit_code == 11
    assert "1 of 2 done" in said.stderr
    assert "resend it instead" in said.stderr
    site.receiver.wait_for(2, "/single")
    assert site.run("deliveries", "retry", "dlv_0000000000000001").exit_code == 10


def test_an_open_breaker_is_closed(site: CommandSite) -> None:
    """A retry says that it stands in the way, a test when it is attempted."""
    waiting(site, "broken", 1, *AT_ONCE)
    refused = site.run("webhook", "retry", "broken")
    assert refused.exit_code == 11
    assert "the breaker of 'broken' is open until" in refused.stderr
    tested = site.run("webhook", "test", "broken", "--wait", "60")
    assert tested.exit_code == 12
    assert "the breaker of broken is open: the event is attempted at 2" in tested.stdout
    assert "fluxhook webhook close-breaker broken" in tested.stdout
    site.receiver.behave(None, "/broken")
    closed = site.run("webhook", "close-breaker", "broken")
    assert closed.stdout.startswith("the breaker of broken was closed; the webhook is ")
    assert site.json("webhook", "close-breaker", "broken")["state"] in ("active", "failing")
    assert site.run("webhook", "test", "broken").exit_code == 0


def test_what_was_delivered_is_sent_again(site: CommandSite) -> None:
    """With the id of the new delivery; what was not delivered is refused."""
    site.create("again", "--set", "record=all")
    site.engine.emit("again.happened", {"n": 1})
    site.receiver.wait_for(1, "/again")
    (row,) = until(lambda: site.lines("deliveries", "list", "--endpoint", "again"))
    said = site.run("deliveries", "resend", row["id"])
    assert said.exit_code == 0
    assert said.stdout.startswith(f"{row['event_id']} is delivered again as dlv_")
    until(lambda: site.receiver.total("/again") == 2)
    assert site.json("deliveries", "resend", row["id"])["held_until"] is None
    (late,) = waiting(site, "notyet", 1, *NEVER)
    refused = site.run("deliveries", "resend", late)
    assert refused.exit_code == 11
    assert "retry it instead" in refused.stderr
