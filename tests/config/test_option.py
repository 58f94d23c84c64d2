"""An option stands once, in the schema: all else that is said of it comes from there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import click
import msgspec
import pytest
from click.testing import CliRunner
from tools.config_docs import DOCS, PARTS, keys, render

from fluxhook.cli.webhook.flags import flag
from fluxhook.config.findings import Findings
from fluxhook.config.limits import check_limits
from fluxhook.config.load import loads
from fluxhook.config.option import (
    Limit,
    Option,
    choices_of,
    fields_of,
    is_struct,
    option,
    options,
    span_limit,
    value_at,
    written,
)
from fluxhook.config.schema import Admin, Config, Endpoint, Retry, Tls, Token
from fluxhook.config.typed_values import BAD, read_value
from fluxhook.config.units import Duration, Rate

ALL: list[tuple[type[msgspec.Struct], Option]] = [
    (kind, one) for kind in (Config, Token, Endpoint) for one in options(kind)
]
IDS = [f"{kind.__name__}.{one.path}" for kind, one in ALL]
every_option = pytest.mark.parametrize(("kind", "one"), ALL, ids=IDS)


@every_option
def test_every_option_says_what_it_does(kind: type[msgspec.Struct], one: Option) -> None:
    """In whole sentences, which every user sees."""
    assert one.description[:1].isupper() or one.description.startswith("`")
    assert one.description.endswith(".")
    assert one.title


@every_option
def test_every_option_has_an_example(kind: type[msgspec.Struct], one: Option) -> None:
    """As the file writes it; it can be read, and is within the limits."""
    if one.path == "endpoints":
        return  # docs/configuration.md has a whole one
    findings = Findings()
    value = read_value(fields_of(one.owner)[one.name], one.example, one.path, findings)
    assert value is not BAD
    assert not findings.problems
    if one.limit is not None:
        assert one.limit.low <= value <= one.limit.high
    if one.entries is not None:
        assert 0 < len(value) <= one.entries


@every_option
def test_every_default_is_within_its_limits(kind: type[msgspec.Struct], one: Option) -> None:
    if one.limit is not None and one.default is not None:
        assert one.limit.low <= one.default <= one.limit.high


def test_every_choice_is_one() -> None:
    """Each value that is explained is one that there is; an option with a box has two."""
    for _, one in ALL:
        if one.choices:
            assert tuple(one.choices) == choices_of(one.kind), one.path
        if one.tick is not True:
            assert one.tick in choices_of(one.kind), one.path
            assert len(choices_of(one.kind)) == 2, one.path


def test_flags_are_unique() -> None:
    flags = [one.flag for one in options(Endpoint) if one.flag]
    assert len(set(flags)) == len(flags)
    assert all(name.startswith("--") for name in flags)


def test_limits_are_not_msgspecs() -> None:
    """A stored configuration is read without them: an endpoint in force may hold more secrets than its
    owner may write, and the messages for what is wrong are ours."""
    many = msgspec.json.encode({"name": "a", "url": "https://a.example", "secrets": ["x"] * 99})
    assert len(msgspec.json.decode(many, type=Endpoint).secrets) == 99
    assert msgspec.json.decode(b'{"max_attempts": 0}', type=Retry).max_attempts == 0


def test_options_of_nested_structs_have_the_outer_default() -> None:
    """An endpoint's retry has a schedule, one that is built by itself has none."""
    of = {one.path: one for one in options(Endpoint)}
    assert written(of["retry.schedule"].default) == "15s, 2m, 10m, 1h"
    assert of["retry.schedule"].owner is Retry
    assert {one.path: one for one in options(Retry)}["schedule"].default is None
    assert of["url"].required
    assert not of["timeout"].required


def test_a_value_is_written_as_in_the_file() -> None:
    """Empty for what is not there."""
    endpoint = Endpoint(name="a", url="https://a.example", rate_limit=Rate.parse("100/s burst 20"))
    assert written(value_at(endpoint, "rate_limit")) == "100/s burst 20"
    assert written(value_at(endpoint, "retry.jitter")) == "0.1"
    assert written(value_at(endpoint, "ordered")) == "false"
    assert written(value_at(endpoint, "ttl")) == ""
    assert written({"X-Team": "ops"}) == "X-Team: ops"


def test_the_pages_are_up_to_date() -> None:
    """If this fails, run `python tools/config_docs.py`."""
    for page, parts in PARTS.items():
        text = (DOCS / page).read_text()
        assert render(page, text) == text
        for part in parts:
            assert f"<!-- generated: {part} -->" in text


def test_the_page_has_every_key() -> None:
    """Those of every struct that a file can have."""
    text = (DOCS / "configuration.md").read_text()
    structs = {one.owner for _, one in ALL}
    assert {kind.__name__ for kind in structs} == set(PARTS["configuration.md"])
    for _, one in ALL:
        assert f"| `{one.name}` |" in text, one.path


def test_the_pages_file_is_accepted() -> None:
    """The example of docs/configuration.md."""
    text = (DOCS / "configuration.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    loaded = loads(example, environ={"BILLING_SECRET": "sk_live_9x8m2p"})
    (endpoint,) = loaded.config.endpoints
    assert endpoint.disable_after == Duration.parse("24h")
    assert str(endpoint.timeout) == "5s"
    assert not loaded.notices


# ---- an option that is added -----------------------------------------------------------------


class Extended(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schema with options that no code but this knows."""

    quiet: Annotated[
        Duration | None,
        option(
            "Send nothing for so long after a success.",
            title="Quiet time",
            example="5s",
            limit=span_limit("1s", "1h"),
            flag="--quiet",
        ),
    ] = None
    share: Annotated[float, option("A share.", example=0.5, flag="--share")] = 1.0
    labels: Annotated[
        tuple[str, ...], option("Labels.", example=["a"], entries=3, flag="--label", metavar="TEXT")
    ] = ()
    mode: Annotated[
        Literal["fast", "safe"],
        option("A mode.", example="safe", flag="--mode", choices={"fast": "soon", "safe": "late"}),
    ] = "fast"


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch) -> dict[str, Option]:
    found = {one.path: one for one in options(Extended)}
    limits = {name: one.limit for name, one in found.items() if one.limit is not None}
    monkeypatch.setattr("fluxhook.config.limits.LIMITS", {Extended: limits})
    return found


def test_its_limit_holds(extended: dict[str, Option]) -> None:
    """With the message that every number has."""
    findings = Findings()
    check_limits(Extended(quiet=Duration.parse("2h")), "x.", findings)
    (problem,) = findings.problems
    assert (problem.path, problem.message) == ("x.quiet", "2h is out of range")
    assert problem.remedy == "write a value from 1s to 1h"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["--quiet", "5s"], {"quiet": "5s"}),
        (["--share", "0.5"], {"share": 0.5}),
        (["--label", "a", "--label", "b"], {"labels": ("a", "b")}),
        (["--mode", "safe"], {"mode": "safe"}),
    ],
)
def test_its_flag_is_there(
    extended: dict[str, Option], line: list[str], expected: dict[str, Any]
) -> None:
    """With its words in the help, and its value as the API takes it."""
    got: dict[str, Any] = {}

    def take(**values: Any) -> None:
        got.update({name: value for name, value in values.items() if value not in (None, ())})

    command: Any = take
    for one in extended.values():
        command = flag(one)(command)
    command = click.command()(command)
    shown = CliRunner().invoke(command, ["--help"]).output
    assert "--quiet DURATION" in shown
    assert "Send nothing for so long after a success. Example: 5s." in " ".join(shown.split())
    assert "One of fast, safe." in " ".join(shown.split())
    assert CliRunner().invoke(command, line).exit_code == 0
    assert got == expected


def test_its_row_is_in_the_page(
    extended: dict[str, Option], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With type, limits, default, example and effect."""
    monkeypatch.setattr("tools.config_docs.TOP", {Extended: Extended})
    monkeypatch.setattr("tools.config_docs.preset", lambda top: Extended())
    row = keys(Extended).splitlines()[2]
    assert row == (
        "| `quiet` | duration, 1s to 1h | none |  | `5s` | Send nothing for so long after a success. |"
    )


def test_a_struct_is_no_option() -> None:
    """Its options are; those of a list of structs stand by themselves."""
    paths = {one.path for one in options(Config)}
    assert {"admin.listen", "admin.max_body"} <= paths
    assert "admin" not in paths
    assert is_struct(Admin)
    assert not is_struct(Limit)


def test_no_label_is_in_another() -> None:
    """People, and those who have the form read to them, can tell its fields apart."""
    titles = [one.title for one in options(Endpoint) if not one.hidden and one.owner is not Tls]
    assert [(a, b) for a in titles for b in titles if a != b and a.lower() in b.lower()] == []
    assert len(set(titles)) == len(titles)
