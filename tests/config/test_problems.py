"""What is wrong with a file: every fault, with its path, its value, and what would be right."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from config.strategies import sound_configs
from fluxhook.config import codec
from fluxhook.config.load import loads
from fluxhook.config.schema import Config
from fluxhook.errors import ConfigError, Problem

EP = "webhook.endpoints[0]"


def problems(text: str, **options: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loads(text, **{"environ": {}, **options})
    return caught.value.problems


def endpoint(option: str) -> str:
    """A file of our own with one endpoint that is sound but for the option."""
    return (
        "webhook: {preset: fluxgate, defaults: {signature: none}, endpoints: "
        f"[{{name: a, url: https://a.example/, {option}}}]}}"
    )


ENGINE = [
    ("queue_size: 0", "queue_size", "0 is out of range", "from 1 to"),
    ("queue_size: many", "queue_size", "'many' is not a whole number", "such as 8"),
    ("queue_size: '5'", "queue_size", "'5' is not a whole number", "without quotes"),
    ("queue_size: 1e-1", "queue_size", "'1e-1' is not a whole number", ""),
    ("queue_size: 1e+99", "queue_size", "'1e+99' is not a whole number", ""),
    ("queue_size: '1e+06'", "queue_size", "'1e+06' is not a whole number", "without quotes"),
    ("ring_bytes: 1.5e+00", "ring_bytes", "'1.5e+00' is not a size", ""),
    ("queue_size: 1.5", "queue_size", "'1.5' is not a whole number", ""),
    ("queue_size: 010", "queue_size", "'010' is not a whole number", ""),
    (f"queue_size: {10**30}", "queue_size", "beyond 64 bits", ""),
    (f"queue_size: {'9' * 5000}", "queue_size", "is not a whole number", ""),
    ("queue_size: [1]", "queue_size", "a list is not a whole number", ""),
    ("workers: 0", "workers", "0 is out of range", "from 1 to"),
    ("workers: -1", "workers", "-1 is out of range", ""),
    ("workers: on", "workers", "'on' is not a whole number", ""),
    ("enabled: maybe", "enabled", "'maybe' is not true or false", ""),
    ("enabled: 'true'", "enabled", "'true' is not true or false", "without quotes"),
    ("enabled: 1", "enabled", "'1' is not true or false", ""),
    ("drop_policy: latest", "drop_policy", "'latest'", "oldest, newest or block"),
    ("drop_policy: off", "drop_policy", "'off' is not known here", "oldest, newest or block"),
    ("shutdown_timeout: 30", "shutdown_timeout", "'30' has no unit", '"3s"'),
    ("shutdown_timeout: -30s", "shutdown_timeout", "'-30s' is negative", ""),
    ("shutdown_timeout: 1y", "shutdown_timeout", "'1y' is not a duration", ""),
    ("preset: fluxgate, shutdown_timeout: 25h", "shutdown_timeout", "25h is out of range", "24h"),
    ("block_timeout: 0s", "block_timeout", "0s is out of range", ""),
    ("ring_bytes: 64MB", "ring_bytes", "unknown unit 'MB'", "64KiB"),
    ("ring_bytes: 1KiB", "ring_bytes", "1KiB is out of range", ""),
    ("ring_bytes: 8MiB", "ring_bytes", "8MiB shared by 4 workers", "ring_bytes to 16MiB"),
    ("max_event_bytes: 0", "max_event_bytes", "0 is out of range", ""),
    ("durability: always", "durability", "'always' is not a durability", "interval:100ms"),
    ("durability: interval", "durability", "'interval' is not a durability", ""),
    ("durability: 'interval:0s'", "durability", "'interval:0s'", ""),
    ("durability: 'interval:x'", "durability", "'interval:x'", ""),
    ("preset: go", "preset", "'go' is not known here", "fluxmq or fluxgate"),
    ("allow_networks: [10.0.0.1/8]", "allow_networks[0]", "may mean 10.0.0.0/8", ""),
    ("allow_networks: 10.0.0.0/8", "allow_networks", "'10.0.0.0/8' is not a list", "[a, b]"),
    ("event_types: [Or der]", "event_types[0]", "'Or der' is not an event type", ""),
    ("event_types: [Ürder]", "event_types[0]", "is not an event type", ""),
    ("gateway_node: ''", "gateway_node", "'' is empty", ""),
    ('broker_id: "a\\nb"', "broker_id", "control characters", ""),
    ("quue_size: 5", "quue_size", "'quue_size' is not known", "did you mean queue_size"),
    ("endpoint: []", "endpoint", "'endpoint' is not known", "did you mean endpoints"),
    ("endpoints: {a: 1}", "endpoints", "is not a list", "- name"),
    ("endpoints: [5]", "endpoints[0]", "'5' is not a mapping", ""),
    ("defaults: 5", "defaults", "'5' is not a mapping", ""),
    ("defaults: {url: https://a.example}", "defaults.url", "own", "move it"),
    ("defaults: {name: a}", "defaults.name", "own", "move it"),
    ("defaults: {timeout: 500us}", "defaults.timeout", "500us is out of range", "from 1ms"),
    ("defaults: {retry: {jitter: 7}}", "defaults.retry.jitter", "7.0 is out of range", ""),
    ("preset: fluxgate, defaults: {retry: {initial_interval: 9h, max_interval: 1h}}",
     "defaults.retry.max_interval", "1h is below initial_interval", "raise max_interval"),
    ("defaults: {timout: 5s}", "defaults.timout", "not known", "did you mean timeout"),
    ("max_endpoints: 1, endpoints: [{name: a, url: https://a.example}, "
     "{name: b, url: https://a.example}]", "endpoints", "there are 2", "raise max_endpoints"),
    ("endpoints: [{url: https://a.example}]", "endpoints[0].name", "is missing", "add name"),
    ("endpoints: [{name: a}]", "endpoints[0].url", "is missing", "add url"),
    ("endpoints: [{name: ~, url: https://a.example}]", "endpoints[0].name", "is missing", ""),
    ("workers: 1, workers: 2", "workers", "stands twice", "remove one"),
]  # fmt: skip

ENDPOINT = [
    ("type: grpc", "type", "'grpc' is not implemented", "write http, the only one that is"),
    ("events: message.published", "events", "is not a list", "[a, b]"),
    ("events: [Route.Error]", "events[0]", "'Route.Error' is not an event type", "route.*"),
    ("events: ['route*']", "events[0]", "'route*' is not an event type", ""),
    ("events: ['']", "events[0]", "'' is not an event type", ""),
    ("events: [~]", "events[0]", "'~' is not a text", ""),
    ("topic_filters: ['a#']", "topic_filters[0]", "'a#' is not a topic filter", "4.7"),
    ("topic_filters: ['a/#/b']", "topic_filters[0]", "'#' must stand alone", ""),
    ("topic_filters: ['']", "topic_filters[0]", "at least one character", ""),
    ('topic_filters: ["a\\0"]', "topic_filters[0]", "NUL", ""),
    ("where: a == 1", "where", "'a == 1' is not a list", "[a, b]"),
    ("where: [status_code = 500]", "where[0]", "'status_code = 500' is not a condition", ">= 500"),
    ("where: [a == 1, path == x]", "where[1]", "'x' is not a value", "startswith '/api/'"),
    ("where: ['a < true']", "where[0]", "< takes a text or number, not a boolean", "in ["),
    ("where: [{a: 1}]", "where[0]", "a mapping is not a text", ""),
    ("sample: 0", "sample", "0.0 is out of range", "from 1e-06 to 1.0"),
    ("sample: 1.5", "sample", "1.5 is out of range", ""),
    ("sample: 10%", "sample", "'10%' is not a number", "such as 2 or 0.5"),
    ("threshold: 100", "threshold", "'100' is not a threshold", '{rate: "100/s", window: "10s"}'),
    ("threshold: {rate: 1/s, burst: 1}", "threshold", "a threshold has no 'burst'", ""),
    ("threshold: {rate: 1/s, window: 10}", "threshold", "'10' has no unit", '"100/s"'),
    ("threshold: 10/h over 1s", "threshold", "10 in 1h are 0 in a window of 1s", ""),
    ("headers: [a]", "headers", "a list is not a mapping of texts", ""),
    ("headers: {X-A: [b]}", "headers.X-A", "a list is not a text", ""),
    ("headers: {X-A: ~}", "headers.X-A", "the value is not a text", ""),
    ("headers: {X A: b}", "headers.X A", "'X A' is not a header name", ""),
    ("headers: {Connection: close}", "headers.Connection", "RFC 9110 section 7.6.1", "remove"),
    ("headers: {host: b.example}", "headers.host", "it comes from the URL", "remove it"),
    ("secret: y, signature: stripe, headers: {Webhook-Id: x}", "headers.Webhook-Id",
     "carries the signature", "remove it"),
    ('headers: {X-A: "b\\r\\nc"}', "headers.X-A", "line break", "one line"),
    ("headers: {X-A: b, x-a: c}", "headers.x-a", "same header as X-A", "keep one"),
    ("headers: {X-A: '${NONE}'}", "headers.X-A", "variable NONE is not set", "set NONE"),
    ("secret: '${NONE}'", "secret", "variable NONE is not set", "set NONE"),
    ("secrets: [x, '${NONE}']", "secrets[1]", "variable NONE is not set", "$${NONE}"),
    ("secret: '${NONE'", "secret", "${ without", "write ${NAME}"),
    ("secret: '${A-B}'", "secret", "${ without", "$${"),
    ("secret: ''", "secret", "is empty", "the secret alone"),
    ('secret: "x\\n"', "secret", "white space around it", ""),
    ("secret: x, secrets: [y]", "secret", "stands beside secrets", "keep one"),
    ("secrets: x", "secrets", "the value is not a list", ""),
    ("secret: [x]", "secret", "a list is not a text", ""),
    ("signature: sha1", "signature", "'sha1' is not known here", "fluxgate, standard"),
    ("signature: stripe", "signature", "'stripe' has no secret to sign with", "add a secret"),
    ("signature: github, secrets: [a, b]", "secrets", "room for one", "keep one"),
    ("signature: standard, secret: abc", "secret", "not a Standard Webhooks secret", "whsec_"),
    ("signature: standard, secret: whsec_YWJj", "secret", "not a Standard Webhooks", "24 to 64"),
    ("signature: standard, secret: whsec_!", "secret", "not a Standard Webhooks", "base64"),
    ("signature: standard, secret: '${NONE}'", "secret", "variable NONE is not set", ""),
    ("signature: standard, secrets: ['${NONE}']", "secrets[0]", "NONE is not set", ""),
    ("signature: stripe, secret: [x]", "secret", "a list is not a text", ""),
    ("envelope: xml", "envelope", "'xml' is not known here", "cloudevents or standard"),
    ("timeout: 0s", "timeout", "0s is out of range", "from 1ms to 1h"),
    ("timeout: 5", "timeout", "'5' has no unit", ""),
    ("timeout: {a: b}", "timeout", "is not a duration", ""),
    ("connect_timeout: 2h", "connect_timeout", "2h is out of range", ""),
    ("retry: 3", "retry", "'3' is not a mapping", ""),
    ("retry: {max_attempts: 0}", "retry.max_attempts", "0 is out of range", "from 1"),
    ("retry: {multiplier: 0.5}", "retry.multiplier", "0.5 is out of range", "from 1.0"),
    ("retry: {multiplier: .inf}", "retry.multiplier", "'.inf' is not a number", ""),
    ("retry: {multiplier: 1e999}", "retry.multiplier", "beyond 64 bits", ""),
    ("retry: {jitter: 1.1}", "retry.jitter", "1.1 is out of range", "from 0.0 to 1.0"),
    ("retry: {jitter: -0.1}", "retry.jitter", "-0.1 is out of range", ""),
    ("retry: {jitter: .nan}", "retry.jitter", "'.nan' is not a number", ""),
    ("retry: {schedule: 15s}", "retry.schedule", "'15s' is not a list", ""),
    ("retry: {schedule: [15s, 2]}", "retry.schedule[1]", "'2' has no unit", ""),
    ("retry: {initial_interval: 0s}", "retry.initial_interval", "0s is out of range", ""),
    ("retry: {schedule: [2m, 15s]}", "retry.schedule[1]", "15s comes before 2m", "ascending"),
    ("retry: {initial_interval: 1m}", "retry.max_interval", "30s is below", "raise"),
    ("retry: {retry_on: [4x]}", "retry.retry_on[0]", "'4x' is nothing", "5xx"),
    ("retry: {retry_on: [200]}", "retry.retry_on[0]", "'200' is nothing", ""),
    ("retry: {retry_on: [600]}", "retry.retry_on[0]", "'600' is nothing", ""),
    ("retry: {retry_on: 5xx}", "retry.retry_on", "'5xx' is not a list", ""),
    ("retry: {max_retries: 3}", "retry.max_retries", "not known", ""),
    ("circuit_breaker: {failure_threshold: 0}", "circuit_breaker.failure_threshold", "0 is", ""),
    ("circuit_breaker: {reset_timeout: 0s}", "circuit_breaker.reset_timeout", "0s is", ""),
    ("circuit_braker: {}", "circuit_braker", "not known", "did you mean circuit_breaker"),
    ("concurrency: 0", "concurrency", "0 is out of range", ""),
    ("rate_limit: 100", "rate_limit", "'100' is not a rate", '"100/s"'),
    ("rate_limit: {rate: 1/s, brust: 1}", "rate_limit", "a rate has no 'brust'", ""),
    ("max_payload: 0", "max_payload", "0 is out of range", ""),
    ("ttl: 0s", "ttl", "0s is out of range", ""),
    ("order_key: client_id", "order_key", "'client_id' has no effect", "add ordered: true"),
    ("on_head_failure: skip", "on_head_failure", "'skip' is not known here", "block or park"),
    ("tls: {cert: /etc/hostname}", "tls.cert", "without a key", "add tls.key"),
    ("tls: {key: /etc/hostname}", "tls.key", "without a cert", "add tls.cert"),
    ("tls: {verify: false}", "tls.verify", "not known here", ""),
    ("proxy: ftp://a.example", "proxy", "does not begin with http://", "socks5://"),
    ("proxy: http://127.0.0.1:3128", "proxy", "is loopback", '["127.0.0.0/8"]'),
    ("topics: [a]", "topics", "'topics' is not known", ""),
    ("name: b", "name", "stands twice", "remove one"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path", "message", "remedy"),
    [
        *((f"webhook: {{{option}}}", f"webhook.{path}", *rest) for option, path, *rest in ENGINE),
        *((endpoint(option), f"{EP}.{path}", *rest) for option, path, *rest in ENDPOINT),
    ],
)
def test_one_fault(text: str, path: str, message: str, remedy: str) -> None:
    """A fault is one problem: where it stands, the value, and what would be right."""
    (problem,) = problems(text)
    assert problem.path == path
    assert message in problem.message
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("url", "piece"),
    [
        ("ftp://a.example", "does not begin with https:// or http://"),
        ("https:///x", "has no host"),
        ("https://u:p@a.example", "user name or password"),
        ("https://a.example/#x", "fragment"),
        ("https://a.example/a b", "no URL may hold"),
        ("http://127.0.0.1:8000/", '["127.0.0.0/8"]'),
        ("http://127.1", "127.0.0.1 is not public: 127.0.0.0/8 is loopback"),
        ("http://0x7f000001/", '["127.0.0.0/8"]'),
        ("http://2130706433/", '["127.0.0.0/8"]'),
        ("http://0177.0.0.1/", '["127.0.0.0/8"]'),
        ("http://[::ffff:127.0.0.1]/", '["127.0.0.0/8"]'),
        ("http://localhost/", 'add allow_networks: ["127.0.0.0/8"] under webhook'),
        ("http://localhost.:80/", '["127.0.0.0/8"]'),
        ("http://[::1]/", '["::1/128"]'),
        ("http://10.1.2.3/", '["10.0.0.0/8"]'),
        ("http://169.254.169.254/latest", '["169.254.169.254/32"]'),
    ],
)
def test_bad_urls(url: str, piece: str) -> None:
    """A URL that is unsound, or leads to a private or special address, is refused; the remedy for
    an address is the line to add."""
    text = endpoint(f"url: '{url}'").replace("url: https://a.example/, ", "")
    (problem,) = problems(text)
    assert problem.path == f"{EP}.url"
    assert piece in str(problem)


def test_the_line_to_add_helps() -> None:
    """The line that the problem names, added, lets the same file load."""
    text = "webhook: {endpoints: [{name: a, url: http://localhost:9000/}]%s}"
    (problem,) = problems(text % "")
    line = problem.remedy.removeprefix("add ").removesuffix(" under webhook")
    assert loads(text % f", {line}").config.endpoints[0].url == "http://localhost:9000/"


def test_all_faults_at_once() -> None:
    """One error holds every fault of a file, of syntax and of sense, in every part of it."""
    text = """
    webhook:
      workers: 0
      workers: 99
      drop_policy: latest
      defaults: {timeout: 0s, retry: {multiplier: 0.5}, signature: sha1}
      endpoints:
      - {name: a, url: ftp://x, events: [Foo]}
      - {name: a, url: http://127.1/, secrets: [''], order_key: x}
      - {name: c, url: 5, topic_filters: ['a#'], nme: d}
      - 7
    """
    assert sorted(problem.path for problem in problems(text)) == [
        "webhook.defaults.retry.multiplier",
        "webhook.defaults.signature",
        "webhook.defaults.timeout",
        "webhook.drop_policy",
        "webhook.endpoints[0].events[0]",
        "webhook.endpoints[0].url",
        "webhook.endpoints[1].order_key",
        "webhook.endpoints[1].secrets[0]",
        "webhook.endpoints[1].url",
        "webhook.endpoints[2].nme",
        "webhook.endpoints[2].topic_filters[0]",
        "webhook.endpoints[2].url",
        "webhook.endpoints[3]",
        "webhook.workers",
        "webhook.workers",
    ]


def test_a_fault_in_the_defaults_is_one() -> None:
    """A fault in the defaults is reported once and there, however many endpoints share it; an
    endpoint that overrides it is sound."""
    text = """
    webhook:
      defaults:
        timeout: 0s
        secret: ''
        headers: {Connection: close}
        retry: {retry_on: [4x]}
        circuit_breaker: {failure_threshold: 0}
        tls: {cert: /etc/hostname}
      endpoints:
      - {name: a, url: https://a.example/}
      - {name: b, url: https://b.example/, timeout: 1s, circuit_breaker: {failure_threshold: 1}}
    """
    assert sorted(problem.path for problem in problems(text)) == [
        "webhook.defaults.circuit_breaker.failure_threshold",
        "webhook.defaults.headers.Connection",
        "webhook.defaults.retry.retry_on[0]",
        "webhook.defaults.secret",
        "webhook.defaults.timeout",
        "webhook.defaults.tls.cert",
    ]


@pytest.mark.parametrize(
    "option",
    [
        "secret: [s3cret]",
        "secret: {s3cret: s3cret}",
        "secrets: s3cret",
        "secrets: {a: s3cret}",
        "secrets: [[s3cret]]",
        "secret: 's3cret\n'",
        "secret: ' s3cret'",
        "secret: 's3cret${NONE}'",
        "secret: 's3cret${s3cret'",
        "secret: 's3cret${s3-cret}'",
        "signature: standard, secret: s3cret",
        "secret: s3cret, secret: s3cret",
        "secret: s3cret, signature: sha1",
        "headers: {Authorization: [s3cret]}",
        'headers: {Authorization: "s3cret\\n"}',
        "headers: {Authorization: s3crét}",
        "headers: {Connection: s3cret}",
        "headers: {A: x, a: s3cret}",
        "headers: s3cret",
        "proxy: ftp://u:s3cret@p.example",
        "proxy: http://u:s3cret@127.0.0.1",
        "proxy: [s3cret]",
        "proxy: u:s3cret@p.example",
        "secrt: s3cret",
    ],
)
def test_problems_show_no_secret(option: str) -> None:
    """No problem shows a secret, a header's value, or a proxy's password."""
    found = problems(endpoint(option), environ={"s3cret": "s3cret"})
    assert "s3cr" not in "".join(f"{p!r} {p}" for p in found)


def test_a_urls_password_is_not_shown() -> None:
    """A URL that is refused for its password does not show it."""
    (problem,) = problems(
        endpoint("url: 'https://u:s3cret@a.example'").replace("url: https://a.example/, ", "")
    )
    assert "s3cret" not in str(problem)


def test_a_sound_configuration_shows_no_secret() -> None:
    """Neither the configuration's repr nor a notice shows a secret, wherever it came from."""
    text = endpoint(
        "secrets: [s3cret, '${TOKEN}'], signature: none, headers: {A: s3cret, B: '${TOKEN}'}, "
        "proxy: 'http://u:s3cret@p.example'"
    )
    loaded = loads(text, environ={"TOKEN": "s3cret-too"})
    assert "s3cret" not in repr(loaded)
    assert "s3cret" not in "".join(map(str, loaded.notices))
    assert "s3cret" not in f"{loaded.config}"
    assert loaded.config.endpoints[0].secrets == ("s3cret", "s3cret-too")


# ------------------------------------------------------------------ whatever a file holds


def mangled(config: Config, data: st.DataObject) -> dict[str, Any]:
    """A sound file with some of its values replaced by anything at all."""
    plain: dict[str, Any] = {"webhook": copy.deepcopy(codec.to_plain(config))}
    anything = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.sampled_from(["${X}", "http://127.1", "0s", "-1", "a\nb"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        ),
        max_leaves=5,
    )
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = plain["webhook"]
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and data.draw(st.booleans()):
                node = node[key]
                continue
            node[key] = data.draw(anything)
            break
    return plain


@given(sound_configs(), st.data())
def test_any_file_loads_or_is_refused(config: Config, data: st.DataObject) -> None:
    """Whatever stands in a file, the loader gives a configuration or a ConfigError."""
    with contextlib.suppress(ConfigError):
        loads(yaml.safe_dump(mangled(config, data)), environ={})


@given(st.text(st.sampled_from("webhook:{}[]-,&*!|>'\"%@`# \n\t\0a1~<$.")) | st.text())
@example("webhook: {endpoints: [{name: a, url: https://a.example, rate_limit: &a {rate: 1}}]}")
def test_any_text_loads_or_is_refused(text: str) -> None:
    """Whatever a text is, the loader gives a configuration or a ConfigError."""
    for whole in (text, f"webhook: {text}", f"webhook:\n  endpoints: [{text}]"):
        with contextlib.suppress(ConfigError):
            loads(whole, environ={})
