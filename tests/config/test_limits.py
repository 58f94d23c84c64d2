"""Every list of a definition is bounded, and so is what is reported of a bad one."""

from __future__ import annotations

import difflib
import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from fluxhook.config import subscription
from fluxhook.config.check import validate
from fluxhook.config.definition import define, normalized, written_as
from fluxhook.config.findings import MAX_PATH
from fluxhook.config.limits import ENTRIES, LIMITS, MAX_KEYS
from fluxhook.config.load import loads
from fluxhook.config.schema import Admin, Aggregate, Config, Endpoint, Retry, Token
from fluxhook.config.typed_values import fields_of, is_struct
from fluxhook.config.units import Duration
from fluxhook.errors import ConfigError, Problem
from fluxhook.events.names import hint, types_of
from fluxhook.events.where import compile_where, parse_condition

DOCS = Path(__file__).parents[2] / "docs" / "limits.md"
URL = "https://a.example/"


def structs() -> list[type[msgspec.Struct]]:
    found: list[type[msgspec.Struct]] = [Config, Endpoint, Token]
    for kind in found:
        found += [k for k in fields_of(kind).values() if is_struct(k) and k not in found]
    return found


def listed(kind: Any) -> bool:
    """Return whether a field of this type is a list or a mapping."""
    return get_origin(kind) in (tuple, dict) or any(map(listed, get_args(kind)))


def errors(call: Callable[[], object]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        call()
    return caught.value


def test_every_list_has_a_limit() -> None:
    """One that is added to the schema has to get one."""
    fields = {
        (kind, name) for kind in structs() for name, type in fields_of(kind).items() if listed(type)
    }
    assert fields == {(kind, name) for kind, names in ENTRIES.items() for name in names}


#: for each list of an endpoint, a value with so many entries, as a file has it
MANY: dict[str, Callable[[int], Any]] = {
    "events": lambda n: ["route.error"] * n,
    "topic_filters": lambda n: ["a/#"] * n,
    "where": lambda n: ["status_code >= 500"] * n,
    "headers": lambda n: {f"X-{i}": "1" for i in range(n)},
    "secrets": lambda n: [f"sk_live_{i}" for i in range(n)],
    "retry.schedule": lambda n: [f"{i + 1}s" for i in range(n)],
    "retry.retry_on": lambda n: ["5xx"] * n,
    "aggregate.types": lambda n: ["service.5xx"] * n,
}
KINDS: dict[str, type[msgspec.Struct]] = {"retry": Retry, "aggregate": Aggregate}


@pytest.mark.parametrize("path", MANY)
@pytest.mark.parametrize("form", ["file", "defaults", "api", "python"])
def test_a_list_that_is_too_long_is_named(path: str, form: str) -> None:
    """With what it has and what it may have, wherever it stands; one at its limit is taken."""
    outer, _, inner = path.rpartition(".")
    most = ENTRIES[KINDS.get(outer, Endpoint)][inner]

    def judged(n: int) -> object:
        value = MANY[path](n)
        layer: dict[str, Any] = {outer: {inner: value}} if outer else {inner: value}
        if inner != "secrets":
            layer["signature"] = "none"
        match form:
            case "file":
                return loads(text([{"name": "a", "url": URL, **layer}]))
            case "defaults":
                return loads(text([{"name": "a", "url": URL}], defaults=layer))
            case "api":
                return define("a", {"url": URL, "events": ["*"], **layer}, Config())
        frozen = tuple(value) if isinstance(value, list) else value
        if inner == "schedule":
            frozen = tuple(map(Duration.parse, value))
        options: dict[str, Any] = {"signature": "fluxgate" if inner == "secrets" else "none"}
        options |= {outer: KINDS[outer](**{inner: frozen})} if outer else {inner: frozen}
        endpoint = Endpoint(name="a", url=URL, **options)
        return validate(Config(endpoints=(endpoint,)))

    judged(most)
    (problem,) = errors(lambda: judged(most + 1)).problems
    where = {"file": "webhook.endpoints[0].", "defaults": "webhook.defaults.", "api": ""}
    assert problem.path == where.get(form, "endpoints[0].") + path
    assert problem.message == f"has {most + 1:,d} entries"
    assert problem.remedy == f"write at most {most:,d}"


def text(endpoints: Any, **options: Any) -> str:
    """A file; JSON is YAML."""
    return msgspec.json.encode({"webhook": {"endpoints": endpoints, **options}}).decode()


@pytest.mark.parametrize(
    ("config", "path", "most"),
    [
        ({"allow_networks": ["10.0.0.0/8"] * 1001}, "allow_networks", "1,000"),
        ({"event_types": ["a.b"] * 1001}, "event_types", "1,000"),
        ({"admin": {"tokens": [{"token": "x" * 20}] * 201}}, "admin.tokens", "200"),
        (
            {"admin": {"tokens": [{"token": "x" * 20, "scopes": ["read"] * 4}]}},
            "admin.tokens[0].scopes",
            "3",
        ),
        ({"endpoints": [1] * 65_537}, "endpoints", "65,536"),
        ({"defaults": {f"x{i}": 1 for i in range(101)}}, "defaults", "100"),
    ],
)
def test_the_engines_own_lists_too(config: dict[str, Any], path: str, most: str) -> None:
    (problem,) = errors(
        lambda: loads(msgspec.json.encode({"webhook": config}).decode(), environ={})
    ).problems
    assert (problem.path, problem.remedy) == (f"webhook.{path}", f"write at most {most}")


def test_a_mapping_has_a_hundred_keys() -> None:
    """In an endpoint, in what is nested in it, and in the file's own section."""
    many = {f"x{i}": 1 for i in range(MAX_KEYS + 1)}
    for layer, path in (({"retry": many}, "retry"), (many, "")):
        definition = {"url": URL, "events": ["*"], **layer}
        found = errors(partial(define, "a", definition, Config()))
        assert found.problems[0].path == path
        assert "keys" in found.problems[0].message


def test_a_hostile_list_is_not_read() -> None:
    """A count, as on a slow machine too: of 100,000 conditions not one is looked at."""
    looked = 0

    def counted(condition: str) -> Any:
        nonlocal looked
        looked += 1
        return parse_condition(condition)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscription, "parse_condition", counted)
        layer = {"url": URL, "events": ["*"], "where": ["a == 1"] * 100_000}
        assert errors(lambda: define("a", layer, Config())).problems[0].path == "where"
    assert looked == 0


def test_a_hundred_faults_are_listed_and_the_rest_is_counted() -> None:
    """Every one of them was found."""
    bad = [{"name": f"e{i}", "url": "ftp://a.example/", "ttl": "x"} for i in range(4000)]
    found = errors(lambda: loads(text(bad)))
    assert len(found.problems) == 100
    assert found.more == 7900
    assert str(found).endswith("\nand 7,900 more")
    assert str(ConfigError(found.problems)).count("\n") == 99


@pytest.mark.parametrize("form", ["file", "api"])
@pytest.mark.parametrize("letter", ["x", ".", "["])
def test_a_hostile_name_is_cut(form: str, letter: str) -> None:
    """A name in the path of a fault is the caller's: its length, and its dots, cost nothing."""
    headers = {letter * 900 + str(i): "1" for i in range(50)}
    tracemalloc.start()
    try:
        if form == "file":
            one = {"name": "a", "url": URL, "signature": "none", "headers": headers}
            found = errors(lambda: loads(text([one])))
        else:
            layer = {"url": URL, "events": ["*"], "signature": "none", "headers": headers}
            found = errors(lambda: define("a", layer, Config()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(len(problem.path) <= MAX_PATH for problem in found.problems)
    assert len(str(found)) < 100_000
    assert peak < 8 << 20


def test_ten_sections_of_others_are_named() -> None:
    """A notice is a line, however many there are."""
    others = "".join(f"x{i}: 1\n" for i in range(5000))
    (notice,) = loads(others + "webhook: {preset: fluxgate, endpoints: []}").notices
    assert notice.message.endswith("x8, x9 and 4,990 more")


def test_an_error_that_is_made_elsewhere_lists_a_hundred_too() -> None:
    found = ConfigError([Problem(f"endpoints[{i}]", "is odd", "mend it") for i in range(180)])
    assert len(found.problems) == 100
    assert found.more == 80


def test_a_hundred_notices_are_listed() -> None:
    endpoints = [
        {"name": f"e{i}", "url": URL, "events": [f"own.a{i}"], "signature": "none"}
        for i in range(150)
    ]
    notices = loads(text(endpoints, preset="fluxgate")).notices
    assert len(notices) == 101
    assert str(notices[-1]) == "and 50 more notices"


def test_near_misses_are_looked_for_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a thousand times what the rest of a fault does."""
    compared = 0
    near = difflib.get_close_matches

    def counted(*arguments: Any, **options: Any) -> list[str]:
        nonlocal compared
        compared += 1
        return near(*arguments, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    endpoints = [
        {
            "name": f"e{i}",
            "url": URL,
            "evnets": ["*"],
            "events": ["rout.error"],
            "where": ["statu == 1"],
        }
        for i in range(1000)
    ]
    found = errors(lambda: loads(text(endpoints)))
    assert compared == 10
    assert "did you mean events?" in found.problems[0].remedy


def test_a_name_is_not_compared_with_thousands() -> None:
    """Nor a text that no name of ours is as long as."""
    assert "did you mean shop" in hint("shpo", ["shop"])
    assert hint("shpo", (f"shop{i}" for i in range(501))) == ""
    assert hint("x" * 1_000_000, ["x"]) == ""


def test_each_pattern_is_matched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many endpoints have it, and however many types there are."""
    types = [f"own.t{i}" for i in range(1000)]
    endpoints = [
        {"name": f"e{i}", "url": URL, "events": ["own.*"] * 20, "where": ["a == 1"]}
        for i in range(100)
    ]
    subscription.match_types.cache_clear()
    types_of.cache_clear()
    loads(text(endpoints, event_types=types))
    assert subscription.match_types.cache_info().misses == 1


def test_a_condition_that_fails_ends_the_question() -> None:
    """So most events cost one condition, not thirty-two."""

    class Data(dict[str, Any]):
        looked = 0

        def get(self, key: str, default: Any = None) -> Any:
            Data.looked += 1
            return super().get(key, default)

    holds = compile_where(["a == 1", "b == 1", "c == 1"])
    assert not holds(Data(a=1, b=2, c=1))
    assert Data.looked == 2
    assert holds(Data(a=1, b=1, c=1))


def test_paths_and_filters_have_levels() -> None:
    names = ".".join("a" * 17)
    with pytest.raises(ValueError, match="a path has at most 16 names"):
        parse_condition(f"{names} == 1")
    parse_condition(f"{names[2:]} == 1")
    layer = {"url": URL, "events": ["*"], "signature": "none"}
    define("a", {**layer, "topic_filters": ["/".join("a" * 128)]}, Config())
    (problem,) = errors(
        lambda: define("a", {**layer, "topic_filters": ["/".join("a" * 129)]}, Config())
    ).problems
    assert "it has 129 levels, and 128 are allowed" in problem.message


@pytest.mark.parametrize(
    ("option", "path", "most"),
    [
        (lambda n: {"secret": "x" * n, "signature": "fluxgate"}, "secrets[0]", 4096),
        (lambda n: {"order_key": "x" * n, "ordered": True}, "order_key", 1024),
    ],
)
def test_what_each_event_is_signed_and_ordered_by_has_a_length(
    option: Callable[[int], dict[str, Any]], path: str, most: int
) -> None:
    """A long secret would be read for each request, and a long name for each event."""

    def made(n: int) -> Endpoint:
        layer = {"url": URL, "events": ["*"], "signature": "none", **option(n)}
        return define("a", normalized(layer), Config())[0]

    made(most)
    (problem,) = errors(lambda: made(most + 1)).problems
    assert problem.path == written_as(path)
    assert f"{most + 1:,d} characters" in problem.message
    assert f"{most:,d}" in problem.remedy


# ---- the page ------------------------------------------------------------------------------


def name_of(kind: type[msgspec.Struct]) -> str:
    names = {Config: "", Admin: "admin.", Token: "admin.tokens[].", Endpoint: "endpoints[]."}
    return names.get(kind, f"endpoints[].{kind.__name__.lower()}.").replace(
        "breaker", "circuit_breaker"
    )


def tables() -> dict[str, list[str]]:
    return {
        "entries": [
            "| list or mapping | entries |",
            "|---|---|",
            *(
                f"| `{name_of(kind)}{name}` | {most:,d} |"
                for kind, names in ENTRIES.items()
                for name, most in names.items()
            ),
        ],
        "numbers": [
            "| number | from | to |",
            "|---|---|---|",
            *(
                f"| `{name_of(kind)}{name}` | {'0s, or ' * or_off}{low} | {high} |"
                for kind, names in LIMITS.items()
                for name, (low, high, or_off) in names.items()
            ),
        ],
    }


@pytest.mark.parametrize("name", ["entries", "numbers"])
def test_the_page_has_them_all(name: str) -> None:
    found = re.search(
        rf"<!-- generated: {name} -->\n(.*?)<!-- end -->", DOCS.read_text(), re.DOTALL
    )
    assert found is not None
    assert found[1].strip().splitlines() == tables()[name]
