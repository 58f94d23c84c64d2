"""`fluxhook check` tells what a configuration will do, every fault of a bad one, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Invoke, json
from fluxhook import Config, Duration, Endpoint, Retry
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.forecast import attempts
from fluxhook.publisher.publisher import Publisher
from fluxhook.supervisor.reservation import reservation
from fluxhook.supervisor.supervisor import Supervisor

SEED = Path(__file__).parents[1] / "config/fluxmq.yaml"

GOOD = """\
webhook:
  preset: fluxgate
  durability: interval:100ms
  drop_policy: block
  workers: 2
  endpoints:
    - name: alerts
      url: https://hooks.example.com/in?token=s3cret-1
      secrets: [s3cret-2, s3cret-3]
      headers: {Authorization: Bearer s3cret-4}
      proxy: http://user:s3cret-5@proxy.example.com:3128
      events: ["route.*", order.created]
      where: ["status_code >= 500", "path startswith '/api/'"]
      sample: 0.5
      threshold: {rate: 100/s, window: 10s}
      rate_limit: 100/s
      ordered: true
      order_key: request_id
    - name: quiet
      url: https://hooks.example.com/quiet
      signature: none
      paused: true
      concurrency: 10
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def seconds(*values: float) -> tuple[Duration, ...]:
    return tuple(Duration(int(value * 1e9)) for value in values)


def test_what_cannot_be_built_is_an_error(invoke: Invoke, tmp_path: Path) -> None:
    """A file that is not there: the path and the endpoint's name, and exit status 3."""
    path = tmp_path / "odd.yaml"
    path.write_text(
        """\
webhook:
  endpoints:
    - {name: good, url: "https://a.example/", secret: s}
    - {name: odd, url: "https://b.example/", secret: s, tls: {ca: /none/such}}
"""
    )
    said = invoke("check", path)
    assert said.exit_code == ExitCode.CONFIG
    assert "webhook.endpoints[1].tls.ca" in said.stderr
    assert "endpoint 'odd': '/none/such' does not exist" in said.stderr
    (problem,) = json(invoke("check", path, "--json").stdout)["problems"]
    assert problem["path"] == "webhook.endpoints[1].tls.ca"


def test_the_seed_s_own_file_is_valid(invoke: Invoke) -> None:
    said = invoke("check", SEED)
    assert said.exit_code == ExitCode.OK
    assert "is valid: 1 endpoint" in said.stdout
    for fact in ("analytics", "sensors/#", "message.published", "5s", "10,000 events", "oldest"):
        assert fact in said.stdout
    assert "at once, then 1s, 3s after the first failure" in said.stdout
    assert said.stderr == ""


def test_every_setting_has_its_line(invoke: Invoke, good: Path) -> None:
    said = invoke("check", good).stdout
    for fact in (
        "X-FluxGate-Signature, with 2 secrets",
        "5: at once, then 15s, 2m, 10m, 1h after the first failure, each wait up to 10% shorter",
        "status_code >= 500 and path startswith '/api/'",
        "0.5 of the events, chosen by their ids",
        "only what exceeds 100/s over 10s of its type",
        "at most 100/s",
        "kept of each request_id",
        "all from one worker",
        "at most 10 at a time, 5 from each worker",
        "deliveries wait in the store",
        "what was accepted over 100ms ago survives a power loss",
        "emit waits for up to 1s",
        "proxy.example.com:3128",
    ):
        assert fact in said


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_is_shown(invoke: Invoke, good: Path, form: tuple[str, ...]) -> None:
    said = invoke("check", good, *form)
    assert said.exit_code == ExitCode.OK
    assert "s3cret" not in said.output


def test_notices_go_to_standard_error(invoke: Invoke, good: Path) -> None:
    said = invoke("check", good)
    assert "2 endpoints, 1 notice" in said.stdout
    assert "order.created" in said.stderr


def test_json_has_the_whole_configuration_and_what_follows_from_it(
    invoke: Invoke, good: Path
) -> None:
    said = json(invoke("check", good, "--json").stdout)
    assert said.keys() == {"file", "valid", "notices", "config", "plan"}
    assert said["valid"] is True
    assert said["config"]["endpoints"][0]["secrets"] == ["***", "***"]
    assert said["config"]["endpoints"][0]["headers"] == {"Authorization": "***"}
    plan = said["plan"]
    assert plan["workers"] == 2
    assert plan["queue_size_per_ring"] == 5_000
    assert plan["ring_bytes_per_ring"] == 2**25
    assert plan["endpoints"]["alerts"] == {
        "max_attempts": 5,
        "retries_after_first_failure_s": [15, 120, 600, 3600],
    }


@pytest.mark.parametrize(
    ("retry", "said"),
    [
        (Retry(max_attempts=1), "1, never tried again"),
        (Retry(schedule=()), "1, never tried again"),
        (Retry(max_attempts=4), "4: at once, then 1s, 3s, 7s after the first failure"),
        (
            Retry(schedule=seconds(15, 120), jitter=0.1),
            "3: at once, then 15s, 2m after the first failure, each wait up to 10% shorter",
        ),
        (
            Retry(max_attempts=10, initial_interval=seconds(0.0004)[0], multiplier=1.0),
            "10: at once, then 0s, 0s, 1ms, 1ms, 2ms, 2ms, ..., 3ms after the first failure",
        ),
        (
            Retry(schedule=seconds(60), max_attempts=10_000),
            "10,000: at once, then 1m, 2m, 3m, 4m, 5m, 6m, ..., 166h39m after the first failure",
        ),
    ],
)
def test_the_schedule_is_spelled_out(retry: Retry, said: str) -> None:
    assert attempts(retry) == said


def test_what_it_says_is_reserved_is_what_the_engine_takes(tmp_path: Path) -> None:
    """To within the store's first pages and the directories."""
    config = Config(
        endpoints=(Endpoint(name="a", url="https://example.com/", signature="none"),),
        workers=2,
        queue_size=3_000,
        ring_bytes=2**23,  # type: ignore[arg-type]
        max_endpoints=100,
    )
    wanted = reservation(config)
    data_dir = tmp_path / "data"
    supervisor = Supervisor(data_dir, config)
    try:
        assert _size(data_dir) == pytest.approx(wanted.engine, rel=0.02)
        with Publisher(data_dir):
            assert _size(data_dir / "rings" / "0") == pytest.approx(wanted.publisher, rel=0.02)
    finally:
        supervisor.close()


def test_the_size_is_said_with_the_options_that_make_it_so(invoke: Invoke, tmp_path: Path) -> None:
    """And scripts get the bytes."""
    path = tmp_path / "f.yaml"
    endpoint = "{name: a, url: 'https://a.example/', secret: s}"
    path.write_text(f"webhook: {{workers: 2, endpoints: [{endpoint}]}}")
    (line,) = [text for text in invoke("check", path).stdout.splitlines() if "  reserved" in text]
    for words in ("168.9 MiB", "64.6 MiB for each publisher (ring_bytes,", "max_endpoints"):
        assert words in line
    planned = json(invoke("check", path, "--json").stdout)["plan"]
    assert planned["reserved_bytes"] == sum(
        planned[f"reserved_bytes_{part}"] for part in ("engine", "per_publisher")
    )


@pytest.mark.parametrize(
    ("admin", "noticed"),
    [
        ("{}", False),
        ("{listen: '0.0.0.0:8090', tokens: [{token: t-0123456789abcdef}]}", True),
        ("{listen: ':8090', tokens: [{token: t-0123456789abcdef}], enabled: false}", False),
        ("{listen: 'localhost:8090', tokens: [{token: t-0123456789abcdef}]}", False),
        (
            "{listen: '10.0.0.1:8090', tokens: [{token: t-0123456789abcdef}], cert: a.pem, "
            "key: a.key}",
            False,
        ),
    ],
)
def test_tokens_in_the_clear_are_noticed(
    invoke: Invoke, tmp_path: Path, admin: str, noticed: bool
) -> None:
    """The notice is there where the API listens beyond this machine without a certificate."""
    path = tmp_path / "f.yaml"
    path.write_text(f"webhook: {{admin: {admin}}}")
    said = invoke("check", path)
    assert said.exit_code == ExitCode.OK, said.output
    assert ("tokens travel there unencrypted" in said.stderr) is noticed


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("**/*") if path.is_file())


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", 1),
        ("broker: {}\n", 1),
        ("webhook: [", 1),
        ("webhook: {endpoints: [{name: a, url: 'ftp://x'}]}", 1),
        ("webhook: {endpoints: [{name: a, url: 'http://10.0.0.1/'}]}", 1),
        ("webhook: {endpoints: [{name: a, url: 'https://x.example/', topic_filters: ['a#']}]}", 1),
        ("webhook: {wrokers: 1, queue_size: -1, drop_policy: never}", 3),
    ],
)
def test_every_problem_is_told_with_path_value_and_remedy(
    invoke: Invoke, tmp_path: Path, text: str, problems: int
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    plain = invoke("check", path)
    assert plain.exit_code == ExitCode.CONFIG
    assert plain.stdout == ""
    assert plain.stderr.count("→") == problems
    said = json(invoke("check", path, "--json").stdout)
    assert said["valid"] is False
    assert len(said["problems"]) == problems
    for problem in said["problems"]:
        assert problem.keys() == {"path", "message", "remedy"}
        assert all(problem.values())
        assert problem["path"] in plain.stderr
        assert problem["remedy"] in plain.stderr


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_a_problem_too(
    invoke: Invoke, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_bytes(content)
    said = invoke("check", path)
    assert said.exit_code == ExitCode.CONFIG
    assert str(path) in said.stderr


def test_a_network_can_be_allowed_from_the_command_line(invoke: Invoke, tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text("webhook: {endpoints: [{name: a, url: 'http://127.0.0.1:9/'}]}")
    assert invoke("check", path).exit_code == ExitCode.CONFIG
    assert invoke("check", path, "--allow-network", "127.0.0.0/8").exit_code == ExitCode.OK
    assert invoke("check", path, "--allow-network", "elsewhere").exit_code == ExitCode.CONFIG
