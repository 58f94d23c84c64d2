"""Endpoints of the run time: what is written over the file's defaults, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.check import validate
from fluxhook.config.definition import (
    build,
    define,
    free_name,
    merge_patch,
    new_secret,
    normalized,
    signature_of,
)
from fluxhook.config.load import loads
from fluxhook.config.schema import Config, Endpoint
from fluxhook.config.units import Duration
from fluxhook.errors import ConfigError, Problem

LAYER = {"url": "https://a.example/", "events": ["*"], "secrets": ["sk_1"]}


def problems(layer: dict[str, Any], name: Any = "a", **options: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        define(name, layer, Config(**options))
    return caught.value.problems


# ---- the merge patch -----------------------------------------------------------------------

#: RFC 7396, appendix A: every row of the table
RFC_7396 = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


@pytest.mark.parametrize(("original", "patch", "result"), RFC_7396)
def test_the_rfcs_own_examples(original: str, patch: str, result: str) -> None:
    """RFC 7396, appendix A."""
    assert merge_patch(json.loads(original), json.loads(patch)) == json.loads(result)


trees = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda t: st.lists(t, max_size=3) | st.dictionaries(st.sampled_from("abc"), t, max_size=3),
)


@given(trees, trees)
def test_a_patch_changes_nothing_that_it_was_given(target: Any, patch: Any) -> None:
    """Neither the layer in the store nor the request is changed under the caller."""
    before = json.dumps([target, patch])
    merge_patch(target, patch)
    assert json.dumps([target, patch]) == before


@given(trees, trees)
def test_a_patch_twice_is_a_patch_once(target: Any, patch: Any) -> None:
    """A client that had no answer may send its change again."""
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


# ---- layers --------------------------------------------------------------------------------


def test_a_layer_is_normalized() -> None:
    """`secret` is `secrets` with one; what is null was not written."""
    written = {"url": "u", "secret": "s", "timeout": None}
    assert normalized(written) == {"url": "u", "secrets": ["s"]}
    assert written == {"url": "u", "secret": "s", "timeout": None}
    with pytest.raises(ConfigError, match="stands beside secrets"):
        normalized({"secret": "a", "secrets": ["b"]})


def test_the_defaults_of_the_file_lie_below() -> None:
    """The layer over the file's `defaults` over its preset over the schema, as for the file's own where
    the file shares its headers."""
    text = """
    webhook:
      preset: {preset}
      share_default_headers: true
      defaults: {{timeout: 7s, headers: {{X-A: "1", X-B: "1"}}, retry: {{max_attempts: 9}}}}
      endpoints:
      - name: a
        url: https://a.example/
        events: ["*"]
        secrets: [sk_1]
        headers: {{x-b: "2"}}
        circuit_breaker: {{reset_timeout: 1m30s}}
    """
    layer = {**LAYER, "headers": {"x-b": "2"}, "circuit_breaker": {"reset_timeout": "1m30s"}}
    for preset in ("fluxgate", "fluxmq"):
        config = loads(text.format(preset=preset), environ={}).config
        endpoint, notices = define("a", layer, config)
        assert endpoint == config.endpoints[0]
        assert notices == []
        assert build("a", layer, config) == endpoint


def test_a_changed_default_reaches_it() -> None:
    """The definition keeps what was written: another default, or one that is gone, is in effect at
    once."""
    layer = {**LAYER, "concurrency": 3}
    slow = build("a", layer, Config(defaults={"timeout": "9s", "concurrency": 5}))
    assert (slow.timeout, slow.concurrency) == (Duration.parse("9s"), 3)
    assert build("a", layer, Config()).timeout == Duration.parse("3s")


def test_what_became_unreadable_keeps_its_default() -> None:
    """An endpoint in the store is not given up for a bad default, or another version's word."""
    layer = {**LAYER, "of_the_future": 1, "timeout": "soon"}
    endpoint = build("a", layer, Config(defaults={"retry": "never", "tls": {"ca": 5}}))
    assert endpoint == Endpoint(
        name="a", url="https://a.example/", events=("*",), secrets=("sk_1",)
    )


def test_defaults_with_a_single_secret() -> None:
    """`secret` in the defaults of a configuration built in Python is what it is in a file."""
    config = Config(defaults={"secret": "sk_2"})
    validate(config)
    endpoint, _ = define("a", {"url": "https://a.example/", "events": ["*"]}, config)
    assert endpoint.secrets == ("sk_2",)
    with pytest.raises(ConfigError, match="defaults.secret: stands beside secrets"):
        validate(Config(defaults={"secret": "a", "secrets": ["b"]}))


@pytest.mark.parametrize(
    ("layer", "path", "piece"),
    [
        ({"url": None}, "url", "is missing"),
        ({"url": ""}, "url", "is missing"),
        ({"url": 5}, "url", "5 is not a text"),
        ({"url": "ftp://x"}, "url", "https://"),
        ({"url": "http://127.0.0.1/"}, "url", "127.0.0.0/8"),
        ({"events": None}, "events", "is missing"),
        ({"events": []}, "events", '["*"] for all'),
        ({"events": "route.*"}, "events", "is not a list"),
        ({"events": ["Route"]}, "events[0]", "Route"),
        ({"secrets": [""]}, "secret", "empty"),
        ({"secrets": ["a", " b"]}, "secrets[1]", "white space"),
        ({"secrets": None}, "signature", "no secret to sign with"),
        ({"signature": "standard"}, "secret", "whsec_"),
        ({"signature": "rsa"}, "signature", "fluxgate"),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts", "out of range"),
        ({"retry": []}, "retry", "not a mapping"),
        ({"timeout": "soon"}, "timeout", "duration"),
        ({"timeout": 3}, "timeout", "3"),
        ({"aggregate": {"window": "1ms"}}, "aggregate.window", "out of range"),
        ({"aggregate": {"types": ["A B"]}}, "aggregate.types[0]", ""),
        ({"record": "some"}, "record", "failures or all"),
        ({"disable_after": "1ms"}, "disable_after", "out of range"),
        ({"where": ["a >"]}, "where[0]", ""),
        ({"tiemout": "3s"}, "tiemout", "timeout"),
        ({"paused": "yes"}, "paused", "true or false"),
    ],
)  # fmt: skip
def test_each_fault_has_its_field(layer: dict[str, Any], path: str, piece: str) -> None:
    """One fault is one problem, at the field as it was written."""
    (problem,) = problems({k: v for k, v in {**LAYER, **layer}.items() if v is not None})
    assert problem.path == path
    assert piece in str(problem)


def test_all_faults_at_once() -> None:
    """A user who fills in a form is told everything in one go."""
    found = problems({"events": ["*"], "timeout": "x", "retry": {"jitter": 2}}, name="")
    assert [problem.path for problem in found] == [
        "name", "url", "timeout", "retry.jitter", "signature",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["", " a", "a b", "a/b", "-a", ".a", "_a", "a" * 129, "\u00e4", "a\n", "status", "wh_0", "wh_17",
     17, ["a"], {"a": 1}, None, True],
)  # fmt: skip
def test_names_that_cannot_be(name: Any) -> None:
    """A name is a word in URLs, metrics and on command lines; the API's own words are taken."""
    (problem,) = problems(LAYER, name=name)
    assert problem.path == "name"
    assert "beginning with a letter or digit" in problem.remedy


@pytest.mark.parametrize(
    "name", ["a", "0", "A.b_c-d", "a" * 128, "status2", "wh_", "wh_1a", "WH_1"]
)
def test_names_that_can_be(name: str) -> None:
    """Everything else of letters, digits, dots, underscores and hyphens."""
    assert define(name, LAYER, Config())[0].name == name


def test_no_problem_shows_a_secret() -> None:
    """Whatever is wrong with a secret or a header, its text stays unsaid."""
    for layer in (
        {"secrets": [" s3cret"]},
        {"secrets": "s3cret"},
        {"secrets": {"s3cret": 1}},
        {"secrets": ["whsec_s3cret"], "signature": "standard"},
        {"secrets": [["s3cret"]]},
        {"headers": {"A": "s3cret\n"}},
        {"headers": {"A": ["s3cret"]}},
        {"headers": "s3cret"},
        {"proxy": "ftp://u:s3cret@x"},
        {"proxy": ["s3cret"]},
        {"url": "https://u:s3cret@a.example/"},
    ):
        with pytest.raises(ConfigError) as caught:
            define("a", {**LAYER, **layer}, Config())
        assert "s3cret" not in str(caught.value), layer


layers = st.dictionaries(
    st.sampled_from([*Endpoint.__struct_fields__, "secret", "zzz"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        | st.sampled_from(["3s", "*", "https://a.example/", "standard", "100/s", "1MiB"]),
        lambda t: st.lists(t, max_size=2)
        | st.dictionaries(st.sampled_from(["window", "types", "max_attempts", "ca"]), t, max_size=2),
        max_leaves=4,
    ),
)  # fmt: skip


@given(layers, layers)
def test_any_layer_is_judged(layer: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Defined or refused with problems, never anything else; and what was once defined can be built
    under any defaults."""
    config = Config(defaults=defaults)
    try:
        name = layer.get("name", "a")
        endpoint, _ = define(name, normalized({**LAYER, **layer}), config)
    except ConfigError as error:
        assert error.problems  # noqa: PT017
    else:
        assert build(name, normalized({**LAYER, **layer}), config) == endpoint
    build("a", LAYER, config)


# ---- names and secrets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "taken", "name"),
    [
        ("https://hooks.example.com/x?y=1", (), "hooks.example.com"),
        ("https://hooks.example.com:8443", ("hooks.example.com",), "hooks.example.com-2"),
        ("https://h", ("h", "h-2", "h-3"), "h-4"),
        ("https://h", ("h-2",), "h"),
        ("http://[2001:db8::1]/", (), "2001-db8-1"),
        ("https://status/", (), "status-2"),
        ("https://wh_1/", (), "wh_1-2"),
        ("https://_dmarc.example/", (), "dmarc.example"),
        ("not a url", (), "endpoint"),
        ("", ("endpoint",), "endpoint-2"),
        (None, (), "endpoint"),
        (["https://h"], (), "endpoint"),
        ("https://" + "a" * 63 + "." + "b" * 63 + ".example", (), "a" * 63 + "." + "b" * 36),
    ],
)
def test_a_name_is_found(url: object, taken: tuple[str, ...], name: str) -> None:
    """The URL's host; numbered where that is taken."""
    assert free_name(url, taken) == name


@given(st.text(max_size=30).map("https://{}".format), st.sets(st.sampled_from(["a", "a-2", "a-3"])))
def test_every_name_that_is_found_can_be_used(url: str, taken: set[str]) -> None:
    """Whatever the URL looks like."""
    name = free_name(url, taken)
    assert name not in taken
    assert define(name, LAYER, Config())[0].name == name


@pytest.mark.parametrize("signature", ["fluxgate", "standard", "stripe", "github"])
def test_a_new_secret_passes_the_rules(signature: Any) -> None:
    """In the form of the profile, random, and never the same twice."""
    made = {new_secret(signature) for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        define("a", {**LAYER, "signature": signature, "secrets": [secret]}, Config())


def test_the_profile_may_come_from_the_defaults() -> None:
    """A secret is made for the profile that will use it."""
    standard = Config(defaults={"signature": "standard"})
    assert signature_of({}, standard) == "standard"
    assert signature_of({"signature": "stripe"}, standard) == "stripe"
    assert signature_of({}, Config()) == "fluxgate"
