"""`fluxhook dead-letters`: what was given up, delivered again or erased."""

from __future__ import annotations

import pytest

from cli.conftest import CommandSite, Invoke, until
from fluxhook.cli.dead_letters import choice
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.receiver import Behaviour

NOBODY = "dlv_0000000000000001"


def letters(site: CommandSite, name: str) -> list[str]:
    return [row["id"] for row in site.lines("dead-letters", "list", "--endpoint", name)]


def test_list_has_the_latest_first_and_filters(site: CommandSite) -> None:
    ids = site.dead_letter("given_up", 3)
    assert letters(site, "given_up") == ids
    for options, found in (
        (("--cause", "timeout"), 0),
        (("--type", "given_up.happened"), 3),
        (("--since", "1h", "--last", "1"), 1),
        (("--until", "1h"), 0),
    ):
        rows = site.lines("dead-letters", "list", "--endpoint", "given_up", *options)
        assert len(rows) == found, options
    said = site.run("dead-letters", "list", "--endpoint", "given_up").stdout
    assert "server_error" in said
    assert ids[0] in said


def test_those_named_are_delivered_again(site: CommandSite) -> None:
    ids = site.dead_letter("named", 3)
    site.receiver.behave(Behaviour(), "/named")
    said = site.run("dead-letters", "replay", *ids[:2])
    assert said.stdout == "2 dead letters will be delivered again\n"
    until(lambda: site.receiver.distinct("/named") == 2, "both arrive")
    assert letters(site, "named") == ids[2:]


def test_one_that_is_none_stops_no_other(site: CommandSite) -> None:
    (id,) = site.dead_letter("lone", 1)
    site.receiver.behave(Behaviour(), "/lone")
    said = site.run("dead-letters", "replay", NOBODY, id)
    assert said.exit_code == ExitCode.NOT_FOUND
    assert "1 of 2 done" in said.stderr
    assert NOBODY in said.stderr
    until(lambda: site.receiver.distinct("/lone") == 1, "it arrives")


def test_all_that_match_are_delivered_again_step_by_step(
    site: CommandSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many requests as it takes; others stay."""
    monkeypatch.setattr(choice, "STEP", 2)
    site.dead_letter("matching", 4)
    others = site.dead_letter("other", 1)
    site.receiver.behave(Behaviour(), "/matching")
    said = site.json("dead-letters", "replay", "--endpoint", "matching", "--cause", "server_error")
    assert said == {"done": 4}
    until(lambda: site.receiver.distinct("/matching") == 4, "all arrive")
    assert letters(site, "other") == others


def test_a_long_replay_shows_how_far_it_is(
    site: CommandSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, of the number there are."""
    monkeypatch.setattr(choice, "STEP", 1)
    site.dead_letter("long", 3)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    said = site.run("dead-letters", "replay", "--endpoint", "long")
    assert "replay" in said.stderr
    assert "3 dead letters" in said.stdout


def test_purge_erases_with_a_line_in_the_audit_trail(site: CommandSite) -> None:
    ids = site.dead_letter("erased", 3)
    said = site.run("dead-letters", "purge", ids[0], "--yes")
    assert said.stdout == "1 dead letter was erased\n"
    said = site.run("dead-letters", "purge", "--endpoint", "erased", "--yes")
    assert said.stdout == "2 dead letters were erased\n"
    assert letters(site, "erased") == []
    assert len(site.lines("audit", "--endpoint", "erased")) == 3


def test_purge_asks_first(site: CommandSite) -> None:
    """Without a terminal it wants --yes."""
    ids = site.dead_letter("kept", 1)
    for which in (ids, ("--endpoint", "kept"), ("--all",)):
        said = site.run("dead-letters", "purge", *which)
        assert said.exit_code == ExitCode.USAGE
        assert "--yes" in said.stderr
    assert letters(site, "kept") == ids


def test_all_takes_all(site: CommandSite) -> None:
    site.dead_letter("all_a", 1)
    site.dead_letter("all_b", 2)
    said = site.run("dead-letters", "purge", "--all", "--yes")
    assert said.exit_code == ExitCode.OK
    assert site.lines("dead-letters", "list") == []


@pytest.mark.parametrize("command", ["replay", "purge --yes"])
@pytest.mark.parametrize("which", ["", f"{NOBODY} --all", "--all --endpoint x"])
def test_which_ones_must_be_said_in_one_way(invoke: Invoke, command: str, which: str) -> None:
    said = invoke("dead-letters", *command.split(), *which.split())
    assert said.exit_code == ExitCode.USAGE
    assert "Which ones?" in said.stderr
