"""An existing FluxMQ file runs unchanged: what FluxMQ takes is taken, and what it means is meant.

The facts about FluxMQ are those of its code (config/config.go, broker/webhook).
"""

from __future__ import annotations

from typing import Any

import pytest

from fluxhook.config.load import Loaded, loads
from fluxhook.config.schema import Config, Endpoint
from fluxhook.config.units import Duration
from fluxhook.config.workers import processes
from fluxhook.errors import ConfigError


def load(endpoint: str = "", section: str = "", *, environ: dict[str, str] | None = None) -> Loaded:
    """A file with one endpoint, of which `endpoint` says more, as `section` does of the rest."""
    given = "" if "url:" in endpoint else 'url: "https://a.example/", '
    text = (
        f"webhook: {{enabled: true, {section and section + ', '}"
        f"endpoints: [{{name: a, type: http, {given}{endpoint}}}]}}"
    )
    return loads(text, environ=environ or {})


def one(endpoint: str = "", section: str = "", **options: Any) -> Endpoint:
    return load(endpoint, section, **options).config.endpoints[0]


def said(loaded: Loaded) -> str:
    return "\n".join(map(str, loaded.notices))


def s(text: str) -> Duration:
    return Duration.parse(text)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("+5s", "5s"),
        ("1.5h", "90m"),
        ("+.5h", "30m"),
        ("1.s", "1s"),
        ("1h2m3s", "3723s"),
        ("1500000us", "1.5s"),
        ("1500000µs", "1.5s"),
        ("1500000μs", "1.5s"),
        ("2000000ns", "2ms"),
        ("5000000000", "5s"),
        ("5_000_000_000", "5s"),
        ("5e+09", "5s"),
    ],
)
def test_durations(written: str, meant: str) -> None:
    """Go's notation is read in all its forms, and whole nanoseconds, also as Helm renders them."""
    loaded = load(section=f"defaults: {{circuit_breaker: {{reset_timeout: {written}}}}}")
    assert loaded.config.endpoints[0].circuit_breaker.reset_timeout == s(meant)
    assert not loaded.notices


@pytest.mark.parametrize("written", ["5", "30", "'5000000000'", "999999", "s", "1h 5m"])
def test_a_number_without_a_unit_is_no_duration(written: str) -> None:
    """Few nanoseconds are a slip: seconds are meant."""
    with pytest.raises(ConfigError, match=r"has no unit|is not a duration"):
        load(f"timeout: {written}")


@pytest.mark.parametrize("written", ["0s", "0", "-1s", "-1h30m", "-0.5ms", "-5000000000"])
def test_a_timeout_of_zero_or_less_is_the_default(written: str) -> None:
    """On an endpoint FluxMQ takes it for "not set"; here it is never "without limit"."""
    loaded = load(f"timeout: {written}", "defaults: {timeout: 7s}")
    assert loaded.config.endpoints[0].timeout == s("7s")
    assert f"timeout: {written} stands for the default" in said(loaded)
    assert one(f"timeout: {written}").timeout == s("5s")


@pytest.mark.parametrize(
    ("endpoint", "field", "value"),
    [
        ("retry: {max_attempts: 0, initial_interval: 1s, max_interval: 1s, multiplier: 1}",
         "max_attempts", 1),
        ("retry: {max_attempts: -5, initial_interval: 1s, max_interval: 1s, multiplier: 1}",
         "max_attempts", 1),
        ("retry: {max_attempts: 1e+06, initial_interval: 1s, max_interval: 1s, multiplier: 1}",
         "max_attempts", 10_000),
        ("retry: {max_attempts: 2, initial_interval: 1s, max_interval: 1s, multiplier: 0}",
         "multiplier", 1.0),
        ("retry: {max_attempts: 2, initial_interval: 0, max_interval: 1s, multiplier: 1}",
         "initial_interval", s("1ms")),
        ("retry: {max_attempts: 2, initial_interval: 9s, max_interval: 5s, multiplier: 1}",
         "initial_interval", s("5s")),
        ("retry: {max_attempts: 2, initial_interval: 9s, max_interval: -1s, multiplier: 1}",
         "max_interval", s("1ms")),
    ],
)  # fmt: skip
def test_an_endpoints_retry(endpoint: str, field: str, value: object) -> None:
    """FluxMQ checks none of it: with fewer than one attempt there is one, and waits may be nothing."""
    loaded = load(endpoint)
    assert getattr(loaded.config.endpoints[0].retry, field) == value
    assert loaded.notices


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ("queue_size: 0", "queue_size"),
        ("workers: 0", "workers"),
        ("workers: -1", "workers"),
        ("shutdown_timeout: -1s", "shutdown_timeout"),
        ("defaults: {timeout: 0s}", "defaults.timeout"),
        ("defaults: {retry: {max_attempts: 0}}", "defaults.retry.max_attempts"),
        ("defaults: {retry: {multiplier: 0}}", "defaults.retry.multiplier"),
        ("defaults: {circuit_breaker: {failure_threshold: 0}}",
         "defaults.circuit_breaker.failure_threshold"),
    ],
)  # fmt: skip
def test_what_fluxmq_refuses_is_refused(section: str, path: str) -> None:
    """With the path; while `enabled` is false FluxMQ does not look at it, and it is left out."""
    with pytest.raises(ConfigError) as caught:
        load(section=section)
    assert [problem.path for problem in caught.value.problems] == [f"webhook.{path}"]
    loaded = loads(f"webhook: {{enabled: false, {section}}}", environ={})
    assert f"webhook.{path}:" in said(loaded)
    assert "is left out, as FluxMQ does while enabled is false" in said(loaded)


def test_the_breakers_reset_timeout() -> None:
    """Zero or less is the default of FluxMQ's library, a minute."""
    for written in ("0s", "-5s"):
        section = f"defaults: {{circuit_breaker: {{reset_timeout: {written}}}}}"
        assert one(section=section).circuit_breaker.reset_timeout == s("60s")
    section = "defaults: {circuit_breaker: {failure_threshold: 1e+09}}"
    loaded = load(section=section)
    assert loaded.config.endpoints[0].circuit_breaker.failure_threshold == 1_000_000
    assert "is cut to 1000000" in said(loaded)


@pytest.mark.parametrize("workers", [1, 5, 50, 64, 65, 200, 1_000, 16_384, 100_000, 1_000_000])
def test_any_number_of_workers(workers: int) -> None:
    """Processes are bounded; each endpoint gets as many requests at a time as FluxMQ's goroutines would
    make, as far as the processes have them; and a file that says nothing of memory fits."""
    loaded = load(section=f"workers: {workers}")
    config, count = loaded.config, processes(workers)
    assert 1 <= count <= min(workers, 63)
    assert config.endpoints[0].concurrency >= min(workers, 1024 * count)
    assert config.defaults.get("concurrency", 64) == config.endpoints[0].concurrency
    assert config.ring_bytes >= 4 * config.max_event_bytes * count
    assert bool(loaded.notices) == (workers > min(64, count))


def test_a_written_concurrency_stays() -> None:
    """More workers than processes change none that the file gives."""
    assert one("concurrency: 3", "workers: 500").concurrency == 3
    assert one(section="workers: 500, defaults: {concurrency: 9}").concurrency == 9


def test_rings_of_many_workers_for_large_events() -> None:
    """Without `ring_bytes` in the file it grows with what has to fit."""
    config = load(section="workers: 16, max_event_bytes: 4MiB").config
    assert config.ring_bytes == 16 * 4 * (4 << 20)


@pytest.mark.parametrize(
    "count", ["1e+06", "1E6", "1_000_000", "0xF4240", "0b11110100001001000000"]
)
def test_numbers(count: str) -> None:
    """Whole numbers are read as YAML and Helm write them."""
    assert load(section=f"queue_size: {count}").config.queue_size == 1_000_000


def test_a_queue_that_its_bytes_end_first() -> None:
    """FluxMQ's queue counts events alone; here a notice says how large they may be."""
    assert "only if none takes more than 67 bytes" in said(load(section="queue_size: 1e+06"))
    assert not load(section="queue_size: 1e+06, ring_bytes: 1GiB").notices
    assert not load(section="queue_size: 100000").notices


def test_a_retry_that_sets_nothing() -> None:
    """FluxMQ makes one attempt then; here the defaults hold, and a notice says so."""
    loaded = load("retry: {}")
    assert loaded.config.endpoints[0].retry.max_attempts == 3
    assert "max_attempts, initial_interval, max_interval, multiplier come from" in said(loaded)
    assert not load("retry: ~").notices


@pytest.mark.parametrize("defaults", ["", "~", "null", "{}", "{concurrency: }"])
def test_defaults_that_say_nothing(defaults: str) -> None:
    """An empty section takes no requests from many workers."""
    endpoint = {"name": "a", "url": "https://a.example/"}
    text = f"webhook:\n  workers: 500\n  defaults: {defaults}\n  endpoints: [{endpoint}]"
    config = loads(text, environ={}).config
    assert config.endpoints[0].concurrency >= 500
    assert config.defaults["concurrency"] == config.endpoints[0].concurrency


def test_a_backoff_of_the_defaults_that_begins_beyond_its_cap() -> None:
    """It is the cap for endpoints that are created at run time too."""
    loaded = loads(
        "webhook: {enabled: true, defaults: {retry: {initial_interval: 1m}}}", environ={}
    )
    assert loaded.config.defaults["retry"]["initial_interval"] == "30s"
    assert "every retry waits 30s" in said(loaded)


def test_another_protocol_is_one_error() -> None:
    """Its address is not judged as a URL."""
    for url in ("localhost:50051", "grpc://h:1", "dns:///x", "http://a.example/"):
        with pytest.raises(ConfigError) as caught:
            loads(f"webhook: {{endpoints: [{{name: a, type: grpc, url: '{url}'}}]}}", environ={})
        (problem,) = caught.value.problems
        assert str(problem).startswith("webhook.endpoints[0].type: 'grpc' is not implemented")


def test_headers_that_go_does_not_send() -> None:
    """They are left out with a notice, as are those of one connection and empty ones."""
    names = ("Host", "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Expect")
    headers = ", ".join(f"{name}: x" for name in names)
    loaded = load(f"headers: {{{headers}, X-Empty: '', X-Null: ~, X-Kept: y}}")
    assert loaded.config.endpoints[0].headers == {"X-Kept": "y"}
    assert len(loaded.notices) == len(names) + 2
    with pytest.raises(ConfigError, match="X-A is empty"):
        load('headers: {X-A: "${NOTHING}"}', environ={"NOTHING": ""})


def test_a_users_name_in_the_url() -> None:
    """It is sent as Go sends it, and is not shown."""
    loaded = load('url: "https://u:p%40ss@a.example/x?y=1#z"')
    (endpoint,) = loaded.config.endpoints
    assert endpoint.url == "https://a.example/x?y=1"
    assert endpoint.headers == {"Authorization": "Basic dTpwQHNz"}
    assert "p%40ss" not in said(loaded) + repr(loaded)
    own = one('url: "https://u:p@a.example/", headers: {authorization: own}')
    assert own.headers == {"authorization": "own"}


def test_variables_in_urls_and_headers() -> None:
    """Both are replaced, in the defaults too; one that is not set is an error that names it."""
    environ = {"HOOK": "https://a.example/s3cret", "TOKEN": "abc"}
    endpoint = one(
        'url: "${HOOK}", headers: {Authorization: "Bearer ${TOKEN}"}',
        'defaults: {headers: {X-Token: "${TOKEN}"}}',
        environ=environ,
    )
    assert endpoint.url == "https://a.example/s3cret"
    assert endpoint.headers == {"X-Token": "abc", "Authorization": "Bearer abc"}
    for text in ('url: "${HOOK}"', 'headers: {A: "${HOOK}"}'):
        with pytest.raises(ConfigError, match="environment variable HOOK is not set"):
            load(text)


def test_a_filter_goes_to_its_number_sign() -> None:
    """The rest, which FluxMQ does not look at, has no effect here."""
    loaded = load("topic_filters: ['a/#/b']")
    assert loaded.config.endpoints[0].topic_filters == ("a/#",)
    assert "has no effect" in said(loaded)


@pytest.mark.parametrize(
    ("endpoint", "path", "piece"),
    [
        ("", "enabled", "FluxMQ's are off without it"),
        ("url: 'http://hooks:8080/'", "url", "hooks is probably in a private network"),
        ("url: 'http://x.y.svc/'", "url", "unless allow_networks names it"),
        ("url: 'http://a.de/', topic_filters: ['#']", "topic_filters[0]", "that begin with $"),
        ("url: 'http://a.de/', retry: {max_attempts: 2, multiplier: 2}", "retry",
         "initial_interval, max_interval come from the defaults"),
    ],
)  # fmt: skip
def test_where_we_keep_our_way(endpoint: str, path: str, piece: str) -> None:
    """A notice says so, unless the file is one of our own."""
    text = "webhook: {preset: P}"
    if endpoint:
        text = (
            "webhook: {enabled: true, endpoints: "
            f"[{{name: a, {endpoint}, signature: none}}], preset: P}}"
        )
    (notice,) = loads(text.replace("P}", "fluxmq}"), environ={}).notices
    assert notice.path == f"webhook.{'endpoints[0].' if endpoint else ''}{path}"
    assert piece in notice.message
    assert not loads(text.replace("P}", "fluxgate}"), environ={}).notices


def test_a_private_address_says_what_to_add() -> None:
    """An address, or localhost, is refused with the line that allows it."""
    for host in ("10.0.0.5", "localhost", "[::1]"):
        with pytest.raises(ConfigError, match="allow_networks"):
            load(f'url: "http://{host}:8080/hook"')


def test_a_file_as_fluxmq_writes_it_down() -> None:
    """FluxMQ's own `Save` writes durations in Go's form, and what is not set as zero."""
    text = """
    webhook:
        enabled: true
        queue_size: 10000
        drop_policy: oldest
        workers: 5
        include_payload: false
        shutdown_timeout: 30s
        defaults:
            timeout: 5s
            retry: {max_attempts: 3, initial_interval: 1s, max_interval: 30s, multiplier: 2}
            circuit_breaker: {failure_threshold: 5, reset_timeout: 1m0s}
        endpoints:
            - name: a
              type: http
              url: https://a.example/
              events: []
              topic_filters: []
              headers: {}
    """
    loaded = loads(text, environ={})
    assert not loaded.notices
    assert loaded.config == Config(
        workers=5,
        native_envelope="broker",
        endpoints=loaded.config.endpoints,
        defaults=loaded.config.defaults,
    )
