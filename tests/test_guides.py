"""What the pages of docs/ say of commands is as the command line has it, of sizes as the code makes
them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fluxhook import Config, Size
from fluxhook.cli.app import app
from fluxhook.supervisor.reservation import mib, reservation

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = sorted(DOCS.glob("*.md"))
#: what may stand before a command of ours
BEFORE = re.compile(
    r"^(?:\$ )?(?:sudo (?:-u \w+ )?)?(?:kubectl exec \S+ -- )?(?:/\S*/)?fluxhook(?=\s)"
)


def commands(text: str) -> list[str]:
    """Return each command of ours in blocks of shell, and in the text between backticks."""
    found = []
    for block in re.findall(r"^ *```(?:sh|console)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
        joined = re.sub(r"\\\n\s*", "", block)
        if "'{" in joined:  # a JSON text over several lines
            joined = re.sub(r",\n\s+", ", ", joined)
        found += [line.strip() for line in joined.splitlines()]
    found += re.findall(r"`(fluxhook [a-z][^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [BEFORE.sub("fluxhook", line) for line in found if BEFORE.match(line)]


def unknown(command: str) -> str:
    """Return what the command line does not know of a command; empty where it knows all of it."""
    words = [w for w in shlex.split(command, comments=True)[1:] if w not in ("&", "...")]
    words = words[: next((i for i, w in enumerate(words) if w in ("|", ">", ";", "&&")), None)]
    at: click.Command = app
    with click.Context(app) as context:
        while isinstance(at, click.Group) and words and not words[0].startswith("-"):
            if (found := at.get_command(context, words[0])) is None:
                return words[0]
            at, words = found, words[1:]
        known = {name for p in at.get_params(context) for name in (*p.opts, *p.secondary_opts)}
    used = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return " ".join(word for word in used if word not in known)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_command_is_known(page: Path) -> None:
    """With its subcommand and each of its options."""
    wrong = {c: said for c in commands(page.read_text()) if (said := unknown(c))}
    assert wrong == {}


def test_a_command_that_is_not_known_is_noticed() -> None:
    """The check itself."""
    text = "`fluxhook webhok list`\n```sh\nsudo -u fluxhook /opt/bin/fluxhook status --jsn\n```\n"
    assert [unknown(c) for c in commands(text)] == ["--jsn", "webhok"]
    assert unknown("fluxhook status --json | head") == ""
    assert unknown("fluxhook deliveries shw ID") == "shw"


def test_the_guides_are_found() -> None:
    """The README leads to each page of docs/."""
    readme = DOCS.with_name("README.md").read_text()
    assert [page.name for page in GUIDES if f"](docs/{page.name})" not in readme] == []


SMALL = {
    "workers": 1,
    "max_endpoints": 64,
    "max_event_bytes": Size(2**16),
    "ring_bytes": Size(2**20),
}


def test_the_table_of_sizes() -> None:
    """docs/sizing.md has what the code reserves."""
    text = (DOCS / "sizing.md").read_text()
    rows = re.findall(
        r"^\| (.*) \| ([\d.]+ [MG]iB) \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE
    )
    assert len(rows) == 10
    for said, *sizes in rows:
        options: dict[str, object] = {}
        if workers := re.search(r"(\d+) workers?", said):
            options["workers"] = int(workers[1])
        for name, value in re.findall(r"`(\w+): (\w+)`", said):
            options[name] = int(value) if value.isdecimal() else Size.parse(value)
        if said.startswith("the small one"):
            options |= SMALL
        r = reservation(Config(**options))  # type: ignore[arg-type]
        assert sizes == [mib(r.worker), mib(r.publisher), mib(r.words + r.own), mib(r.total)], said
