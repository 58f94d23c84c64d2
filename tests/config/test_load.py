"""A file becomes a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fluxhook.config.load import load, loads
from fluxhook.config.schema import Admin, Aggregate, Breaker, Config, Endpoint, Retry, Token
from fluxhook.config.units import Duration, Rate, Size, Threshold
from fluxhook.errors import ConfigError

SEED = Path(__file__).with_name("fluxmq.yaml")
#: What every endpoint of these tests needs.
URL = "url: https://a.example/"


def s(text: str) -> Duration:
    return Duration.parse(text)


def one(text: str, **options: Any) -> Endpoint:
    """The first endpoint of a file."""
    return loads(text, environ={}, **options).config.endpoints[0]


def test_fluxmqs_own_example() -> None:
    """The example of FluxMQ's documentation is read as it stands, and without a remark."""
    config, notices = load(SEED)
    assert notices == []
    assert config == Config(
        queue_size=10_000,
        drop_policy="oldest",
        workers=5,
        shutdown_timeout=s("30s"),
        native_envelope="broker",
        endpoints=(
            Endpoint(
                name="analytics",
                url="https://example.com/webhook",
                events=("message.published",),
                topic_filters=("sensors/#",),
                headers={"Authorization": "Bearer token"},
                signature="none",
                timeout=s("5s"),
                retry=Retry(max_attempts=3),
                circuit_breaker=Breaker(failure_threshold=5, reset_timeout=s("60s")),
                aggregate=Aggregate(window=None),
            ),
        ),
        # FluxMQ's own, with what the file says over them: endpoints of the run time have them too.
        defaults={
            "aggregate": {"window": None},
            "timeout": "5s",
            "retry": {
                "schedule": None,
                "max_attempts": 3,
                "initial_interval": "1s",
                "max_interval": "30s",
                "multiplier": 2.0,
                "jitter": 0.0,
            },
            "circuit_breaker": {"failure_threshold": 5, "reset_timeout": "1m"},
        },
    )


def test_a_whole_brokers_file() -> None:
    """In a broker's own file only `webhook:` is read; one notice names the rest."""
    text = f"server: {{tcp: 1883, tcp: 1884}}\n{SEED.read_text()}\ncluster: !raft {{}}\n"
    config, notices = loads(text, where="broker.yaml")
    assert config == load(SEED).config
    assert [str(notice) for notice in notices] == [
        "broker.yaml: left alone, not being under webhook: server, cluster"
    ]


def test_every_key() -> None:
    """Every field of the configuration and of an endpoint can be written in a file."""
    text = """
    webhook:
      preset: fluxgate
      enabled: off
      queue_size: 1_000
      drop_policy: block
      block_timeout: 250ms
      ring_bytes: 128MiB
      max_event_bytes: 65536
      workers: 2
      max_publishers: 8
      max_endpoints: 16
      durability: interval:100ms
      include_payload: yes
      shutdown_timeout: 1m30s
      allow_networks: [127.0.0.0/8]
      event_types: [order.created]
      native_envelope: broker
      gateway_node: on
      broker_id: 1.10
      data_dir: /tmp/x
      retention: 48h
      audit_bytes: 1MiB
      audit_files: 3
      admin:
        enabled: no
        listen: "[::1]:0"
        dashboard: off
        max_body: 1MiB
        cert: /etc/a.pem
        key: /etc/a.key
        tokens:
        - {token: 0123456789abcdef, scopes: [read, emit], name: 007}
      defaults: {timeout: 7s}
      endpoints:
      - name: 17
        type: http
        url: http://127.0.0.1:9000/x
        events: [order.created, route.*]
        topic_filters: ["a/+"]
        headers: {X-Version: 1.10, X-On: on, X-Date: 2024-01-01}
        secrets: [one, two]
        signature: stripe
        envelope: cloudevents
        timeout: 2s
        connect_timeout: 1s
        retry:
          schedule: [1s, 2s]
          max_attempts: 2
          initial_interval: 3s
          max_interval: 4s
          multiplier: 1
          jitter: 1e-1
          retry_on: [429, 5xx]
          max_retry_after: 0s
        circuit_breaker: {failure_threshold: 0x10, reset_timeout: 1h}
        concurrency: 8
        rate_limit: {rate: 6000/m, burst: 20}
        max_payload: 64KiB
        ttl: 24h
        ordered: true
        order_key: null
        on_head_failure: park
        proxy: http://u:p@127.0.0.1:3128
        paused: true
        where: ["status_code >= 500"]
        sample: 0.5
        threshold: 100/s
        aggregate: {window: 10s, types: [service.*], originals: 0}
        tls: {ca: null}
        disable_on_gone: yes
        disable_after: 1h
        record: all
    """
    config, notices = loads(text)
    assert [notice.path for notice in notices] == ["webhook.endpoints[0].retry"]
    assert config == Config(
        enabled=False,
        queue_size=1000,
        drop_policy="block",
        block_timeout=s("250ms"),
        ring_bytes=Size.parse("128MiB"),
        max_event_bytes=Size(65536),
        workers=2,
        max_publishers=8,
        max_endpoints=16,
        durability="interval:100ms",
        include_payload=True,
        shutdown_timeout=s("90s"),
        allow_networks=("127.0.0.0/8",),
        event_types=("order.created",),
        native_envelope="broker",
        gateway_node="on",
        broker_id="1.10",
        data_dir="/tmp/x",
        retention=s("48h"),
        audit_bytes=Size.parse("1MiB"),
        audit_files=3,
        admin=Admin(
            enabled=False,
            listen="[::1]:0",
            dashboard=False,
            max_body=Size.parse("1MiB"),
            cert="/etc/a.pem",
            key="/etc/a.key",
            tokens=(Token(token="0123456789abcdef", scopes=("read", "emit"), name="007"),),
        ),
        defaults={"timeout": "7s"},
        endpoints=(
            Endpoint(
                name="17",
                url="http://127.0.0.1:9000/x",
                events=("order.created", "route.*"),
                topic_filters=("a/+",),
                headers={"X-Version": "1.10", "X-On": "on", "X-Date": "2024-01-01"},
                secrets=("one", "two"),
                signature="stripe",
                envelope="cloudevents",
                timeout=s("2s"),
                connect_timeout=s("1s"),
                retry=Retry(
                    schedule=(s("1s"), s("2s")),
                    max_attempts=2,
                    initial_interval=s("3s"),
                    max_interval=s("4s"),
                    multiplier=1.0,
                    jitter=0.1,
                    retry_on=("429", "5xx"),
                    max_retry_after=s("0s"),
                ),
                circuit_breaker=Breaker(failure_threshold=16, reset_timeout=s("1h")),
                concurrency=8,
                rate_limit=Rate.parse("6000/m burst 20"),
                max_payload=Size(65536),
                ttl=s("24h"),
                ordered=True,
                on_head_failure="park",
                proxy="http://u:p@127.0.0.1:3128",
                paused=True,
                where=("status_code >= 500",),
                sample=0.5,
                threshold=Threshold.parse("100/s"),
                aggregate=Aggregate(window=s("10s"), types=("service.*",), originals=0),
                disable_on_gone=True,
                disable_after=s("1h"),
                record="all",
            ),
        ),
    )


# ------------------------------------------------------------------ precedence


def test_preset_fluxmq_is_the_default() -> None:
    """Without a word, a file has FluxMQ's defaults, and signs only where there is a secret."""
    endpoint = one(f"webhook: {{endpoints: [{{name: a, {URL}}}]}}")
    assert endpoint.timeout == s("5s")
    assert endpoint.retry == Retry(max_attempts=3, jitter=0.0)
    assert endpoint.signature == "none"
    assert one(f"webhook: {{endpoints: [{{name: a, {URL}, secret: x}}]}}").signature == "fluxgate"
    assert loads("webhook: {}").config.native_envelope == "broker"


def test_preset_fluxgate() -> None:
    """The preset `fluxgate` is the schema as it stands."""
    text = f"webhook: {{preset: fluxgate, endpoints: [{{name: a, {URL}, secret: x}}]}}"
    config = loads(text).config
    assert config == Config(
        endpoints=(Endpoint(name="a", url="https://a.example/", secrets=("x",)),)
    )


def test_presets_differ_in_aggregation() -> None:
    """FluxGate aggregates failures, in windows of ten seconds; FluxMQ sends each. In either a line of
    the endpoint, or of the defaults, says otherwise."""

    def window(preset: str, defaults: str = "{}", own: str = "") -> Duration | None:
        return one(
            f"webhook: {{preset: {preset}, defaults: {defaults}, "
            f"endpoints: [{{name: a, signature: none, {URL}{own}}}]}}"
        ).aggregate.window

    assert window("fluxgate") == s("10s")
    assert window("fluxmq") is None
    for preset in ("fluxgate", "fluxmq"):
        assert not window(preset, own=", aggregate: {window: 0s}")
        assert not window(preset, defaults="{aggregate: {window: 0s}}")
        assert window(preset, own=", aggregate: {window: 1m}") == s("1m")
        assert not one(
            f"webhook: {{preset: {preset}, endpoints: [{{name: a, signature: none, {URL}}}]}}"
        ).disable_on_gone


def test_endpoint_over_defaults_over_preset() -> None:
    """An endpoint's word is above the defaults', theirs above the preset's; mappings merge."""
    text = f"""
    webhook:
      defaults:
        timeout: 7s
        concurrency: 5
        paused: yes
        headers: {{Authorization: default, X-B: default}}
        circuit_breaker: {{failure_threshold: 9, reset_timeout: 9s}}
        retry: {{max_attempts: 9, multiplier: 3}}
      endpoints:
      - name: a
        {URL}
        concurrency: 6
        headers: {{authorization: own, X-C: own}}
        circuit_breaker: {{failure_threshold: 2}}
        retry: {{max_attempts: 2}}
        paused: no
      - {{name: b, {URL}}}
    """
    a, b = loads(text).config.endpoints
    assert (a.timeout, a.concurrency, a.paused) == (s("7s"), 6, False)
    assert a.headers == {"X-B": "default", "authorization": "own", "X-C": "own"}
    assert a.circuit_breaker == Breaker(failure_threshold=2, reset_timeout=s("9s"))
    assert a.retry == Retry(max_attempts=2, multiplier=3.0)
    assert (b.concurrency, b.paused, b.retry.max_attempts) == (5, True, 9)
    assert b.headers == {"Authorization": "default", "X-B": "default"}


@pytest.mark.parametrize(
    ("preset", "defaults", "own", "schedule", "max_attempts"),
    [
        ("fluxmq", "", "schedule: [1s, 2s]", 2, None),
        ("fluxmq", "", "schedule: [1s], max_attempts: 7", 1, 7),
        ("fluxmq", "schedule: [1s]", "max_attempts: 7", 1, 7),
        ("fluxmq", "max_attempts: 7", "schedule: [1s]", 1, None),
        ("fluxmq", "schedule: [1s]", "initial_interval: 2s", None, None),
        ("fluxmq", "schedule: [1s]", "schedule: ~", None, None),
        ("fluxmq", "schedule: [1s]", "jitter: 0.5", 1, None),
        ("fluxmq", "", "schedule: []", 0, None),
        ("fluxgate", "", "max_attempts: 2", 4, 2),
        ("fluxgate", "", "multiplier: 3", None, None),
        ("fluxgate", "", "schedule: ~", None, None),
        ("fluxgate", "", "", 4, None),
    ],
)
def test_whoever_chooses_a_way_of_retrying_chooses_all_of_it(
    preset: str, defaults: str, own: str, schedule: int | None, max_attempts: int | None
) -> None:
    """A schedule sets its own number of attempts, and exponential settings end a schedule, over
    whatever the layers below say."""
    text = f"""
    webhook:
      preset: {preset}
      defaults: {{signature: none, retry: {{{defaults}}}}}
      endpoints: [{{name: a, {URL}, retry: {{{own}}}}}]
    """
    retry = one(text).retry
    assert (None if retry.schedule is None else len(retry.schedule)) == schedule
    assert retry.max_attempts == max_attempts


def test_null_means_not_set() -> None:
    """A key without a value is as good as left out, but takes back what the defaults say of an
    option that can be absent."""
    text = f"""
    webhook:
      workers:
      defaults: {{rate_limit: 5/s, timeout: 4s}}
      endpoints:
      - {{name: a, {URL}, rate_limit: ~, timeout: , events: , headers: null, retry: }}
    """
    endpoint = one(text)
    assert endpoint.rate_limit is None
    assert (endpoint.timeout, endpoint.events, endpoint.headers) == (s("4s"), (), {})
    assert loads("webhook: {endpoints: , defaults: , preset: }").config.endpoints == ()


def test_secret_and_secrets() -> None:
    """`secret` is short for one in `secrets`, and replaces the defaults'."""
    text = f"""
    webhook:
      defaults: {{secrets: [old, older]}}
      endpoints:
      - {{name: a, {URL}, secret: new}}
      - {{name: b, {URL}}}
    """
    a, b = loads(text).config.endpoints
    assert (a.secrets, b.secrets) == (("new",), ("old", "older"))


def test_allow_networks_of_the_caller() -> None:
    """Networks of the command line are added to the file's, each once."""
    text = "webhook: {allow_networks: [10.0.0.0/8], endpoints: [{name: a, url: http://127.1/}]}"
    config = loads(text, allow_networks=["127.0.0.0/8", "10.0.0.0/8"]).config
    assert config.allow_networks == ("10.0.0.0/8", "127.0.0.0/8")
    with pytest.raises(ConfigError, match="allow_networks: 'localhost' is not a network"):
        loads(text, allow_networks=["localhost"])


# ------------------------------------------------------------------ the environment


def test_environment() -> None:
    """`${NAME}` in secrets and header values is replaced, `$$` is a dollar sign, no other text is
    touched, and what comes from the environment stays text."""
    text = """
    webhook:
      defaults: {headers: {X-A: "${TOKEN}"}}
      endpoints:
      - name: a
        url: https://a.example/$TOKEN
        secrets: ["${TOKEN}", "a$$b$c", "$${TOKEN}"]
        headers: {Authorization: "Bearer ${TOKEN}!${NULL}"}
        order_key: ${TOKEN}
        ordered: on
    """
    endpoint = loads(text, environ={"TOKEN": "s3cret", "NULL": "null"}).config.endpoints[0]
    assert endpoint.secrets == ("s3cret", "a$b$c", "${TOKEN}")
    assert endpoint.headers == {"X-A": "s3cret", "Authorization": "Bearer s3cret!null"}
    assert (endpoint.url, endpoint.order_key) == ("https://a.example/$TOKEN", "${TOKEN}")


def test_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's own environment is read."""
    monkeypatch.setenv("FLUXHOOK_TEST_TOKEN", "null")
    text = f"webhook: {{endpoints: [{{name: a, {URL}, secret: '${{FLUXHOOK_TEST_TOKEN}}'}}]}}"
    assert loads(text).config.endpoints[0].secrets == ("null",)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize(
    ("content", "piece"),
    [
        (b"", "is empty; put the configuration under a `webhook:` key"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "is not a mapping"),
        (b"text", "is not a mapping"),
        (b"\xff\xfew\x00", "is not UTF-8 at byte 0"),
        (b"webhook: {a: \xe9}", "is not UTF-8 at byte 13"),
        (b"endpoints: []\n", "has no `webhook:` section"),
        (b"webhooks: {}\n", "has no `webhook:` section (did you mean webhooks?)"),
        (b"webhook:\n", "is not a mapping, or is empty"),
        (b"webhook: []\n", "is not a mapping, or is empty"),
        (b"webhook:\n\tworkers: 1\n", "indent with spaces"),
    ],
)
def test_files_without_a_configuration(tmp_path: Path, content: bytes, piece: str) -> None:
    """A file that holds no configuration is one clear problem."""
    (path := tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert piece in str(problem)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, a path that is none: the problem names the path."""
    for path in (tmp_path / "none.yaml", tmp_path, f"{tmp_path}/\0"):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(tmp_path) in caught.value.problems[0].path


def test_byte_order_mark(tmp_path: Path) -> None:
    """A byte order mark, as editors on Windows write it, is passed over."""
    (path := tmp_path / "config.yaml").write_bytes(b"\xef\xbb\xbfwebhook: {}")
    assert load(path).config.endpoints == ()


def test_numbers_as_helm_renders_them() -> None:
    """A number above a million passes through Go's float64: 1e+06. A whole one is what it says."""
    text = """
    webhook:
      queue_size: 1e+06
      ring_bytes: 6.7108864e+07
      max_event_bytes: 1.048576e+06
      max_endpoints: 1000.0
      endpoints:
        - {name: a, url: "https://x.example/", concurrency: 8.0, rate_limit: {rate: 10/s, burst: 1e+06}}
        - {name: b, url: "https://x.example/", retry: {max_attempts: 1e+01}}
    """
    config = loads(text, environ={}).config
    assert (config.queue_size, config.ring_bytes, config.max_event_bytes) == (10**6, 2**26, 2**20)
    assert all(type(n) is int for n in (config.queue_size, config.max_endpoints))
    a, b = config.endpoints
    assert (a.concurrency, b.retry.max_attempts) == (8, 10)
    assert a.rate_limit is not None
    assert a.rate_limit.burst == 10**6


def test_event_types_with_capitals() -> None:
    """Declared ones are types as others; small letters are other letters."""
    text = """
    webhook:
      enabled: true
      event_types: [User.Created, Order]
      endpoints:
        - {name: a, url: "https://x.example/", events: [User.Created, "User.*", Order]}
    """
    loaded = loads(text, environ={})
    assert loaded.notices == []
    (endpoint,) = loaded.config.endpoints
    assert endpoint.events == ("User.Created", "User.*", "Order")
    for events in ("[User.Deleted]", "['Users.*']", "['user.Created']", "['Use.*']"):
        with pytest.raises(ConfigError, match="one with capitals is listed under event_types"):
            loads(text.replace('[User.Created, "User.*", Order]', events), environ={})


def test_environment_of_urls_and_files() -> None:
    """The URL of a chat's webhook is a secret as a whole; so may a proxy's be. A variable that is not
    set is one problem, which names it."""
    text = """
    webhook:
      endpoints:
        - name: chat
          url: "${CHAT_URL}"
          proxy: "http://${PROXY_USER}@proxy.example:3128"
          tls: {ca: "${CERTS}/ca.pem"}
    """
    environ = {
        "CHAT_URL": "https://chat.example.com/hook/x",
        "PROXY_USER": "me:secret",
        "CERTS": "/etc/certs",
    }
    endpoint = loads(text, environ=environ).config.endpoints[0]
    assert endpoint.url == "https://chat.example.com/hook/x"
    assert endpoint.proxy == "http://me:secret@proxy.example:3128"
    assert endpoint.tls.ca == "/etc/certs/ca.pem"
    for missing, field in (("CHAT_URL", "url"), ("PROXY_USER", "proxy"), ("CERTS", "tls.ca")):
        with pytest.raises(ConfigError) as caught:
            loads(text, environ={k: v for k, v in environ.items() if k != missing})
        (problem,) = caught.value.problems
        assert problem.path == f"webhook.endpoints[0].{field}"
        assert f"the environment variable {missing} is not set" in problem.message
