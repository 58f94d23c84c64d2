"""What a command prints into a pipe: whole lines, however long, whatever COLUMNS says."""

from __future__ import annotations

import pytest

from cli.conftest import CommandSite, until
from fluxhook.receiver import Behaviour

LONG = "long_" + "n" * 100


@pytest.fixture(scope="module")
def commands(
    site: CommandSite, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return every command that lists or shows something, with what stands in one of its lines."""
    error = "e" * 150
    site.receiver.behave(Behaviour(status=503, body=error.encode()), f"/{LONG}")
    site.create(
        LONG, "--max-attempts", "1", "--header", f"X-Team: {'t' * 90}", "--where", "n >= 0"
    )  # fmt: skip
    site.engine.emit(f"{LONG}.happened", {"n": 1})
    (row,) = _until_one(site)
    url = f"{site.receiver.url}/{LONG}"
    file = tmp_path_factory.mktemp("config") / "f.yaml"
    file.write_text(
        f"webhook:\n  endpoints:\n    - {{name: {LONG}, url: 'https://a.example/{'p' * 100}', "
        "secret: s, events: [route.error, route.matched, service.5xx, upstream.timeout, "
        "policy.updated, tls.handshake.fail, rate.limit.exceeded]}\n"
    )
    return {
        "status": (("status",), (LONG, "p50/p95/p99 ms")),
        "webhook list": (("webhook", "list"), (LONG, url)),
        "webhook show": (("webhook", "show", LONG), (url,)),
        "deliveries list": (("deliveries", "list", "--endpoint", LONG), (row["id"], LONG)),
        "deliveries show": (("deliveries", "show", row["id"]), (row["id"], error, url)),
        "dead-letters list": (("dead-letters", "list", "--endpoint", LONG), (row["id"], LONG)),
        "audit": (("audit",), ()),
        "events types": (("events", "types", "--limit", "5"), ()),
        "check": (("check", str(file)), (f"https://a.example/{'p' * 100}", "tls.handshake.fail")),
    }


def _until_one(site: CommandSite) -> list[dict[str, str]]:
    found: list[dict[str, str]] = until(
        lambda: site.lines("dead-letters", "list", "--endpoint", LONG), "a dead letter"
    )
    return found


NAMES = (
    *("status", "webhook list", "webhook show", "deliveries list", "deliveries show"),
    *("dead-letters list", "audit", "events types", "check"),
)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_wraps(
    site: CommandSite, commands: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], name: str
) -> None:
    """The same lines with COLUMNS and without, none of them cut, or filled up with blanks."""
    words, whole = commands[name]
    said = site.run(*words)
    assert said.exit_code == 0, said.output
    for columns in ("80", "20"):
        assert _timeless(site.run(*words, COLUMNS=columns).stdout) == _timeless(said.stdout)
    for text in whole:
        assert any(text in line for line in said.stdout.splitlines()), text
    assert "…" not in said.stdout
    assert not any(line.endswith(" ") for line in said.stdout.splitlines())


def _timeless(said: str) -> list[str]:
    """Return the lines without what changes from one look to the next."""
    return [line for line in said.splitlines() if " ago" not in line and "queued" not in line]


def test_a_list_that_goes_on_says_so(site: CommandSite) -> None:
    """On standard error, with the option that shows more; the list itself has what was asked for."""
    site.dead_letter("cut", 3)
    for command in ("dead-letters", "deliveries"):
        said = site.run(command, "list", "--endpoint", "cut", "--limit", "2")
        assert len([w for w in said.stdout.split() if w.startswith("dlv_")]) == 2
        assert "there are more than these 2; --limit shows more" in said.stderr
        said = site.run(command, "list", "--endpoint", "cut", "-n", "3")
        assert said.stderr == ""
        assert len(site.lines(command, "list", "--endpoint", "cut", "--limit", "2")) == 2
    for words in (("webhook", "list"), ("events", "types")):
        said = site.run(*words, "--limit", "1")
        assert len(said.stdout.splitlines()) == 2
        assert "--limit shows more" in said.stderr
        assert len(site.lines(*words, "--limit", "1")) == 1
    assert site.run("audit", "--limit", "1").exit_code == 0
