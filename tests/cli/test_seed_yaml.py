"""An existing FluxMQ `webhook:` file runs unchanged: the seed's own, with only its URL pointed here."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec

from cli.conftest import Invoke, Start, json, until
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.stats import read_stats
from support.receiver import ReceiverProcess

SEED = Path(__file__).parents[1] / "config/fluxmq.yaml"
URL = "https://example.com/webhook"


DATA = {
    "client_id": "publisher-1",
    "topic": "sensors/temperature",
    "qos": 1,
    "retained": False,
    "payload_size": 256,
}


def published(topic: str) -> dict[str, object]:
    """The seed's example, with a payload that `include_payload: false` leaves out."""
    data = DATA | {"topic": topic, "payload": "c2VjcmV0"}
    return {"type": "message.published", "data": data}


WANTED = ("sensors/temperature", "sensors", "sensors/a/b/c", "sensors/")
UNWANTED = (
    published("actuators/valve"),
    published("$sensors/temperature"),
    published("sensorsx/temperature"),
    {
        "type": "message.delivered",
        "data": {"client_id": "c", "topic": "sensors/temperature", "qos": 0, "payload_size": 1},
    },
    {"type": "auth.success", "data": {"client_id": "c", "remote_addr": "198.51.100.1"}},
    {"type": "route.matched"},
)


def test_the_seed_s_file_delivers_published_sensor_messages_and_nothing_else(
    start: Start, invoke: Invoke, tmp_path: Path, receiver: ReceiverProcess
) -> None:
    text = SEED.read_text()
    assert text.count(URL) == 1
    config = tmp_path / "fluxmq.yaml"
    config.write_text(text.replace(URL, f"{receiver.url}/webhook"))
    engine = start("serve", "--config", config, "--allow-network", "127.0.0.0/8")
    assert "5 workers, 1 endpoint (analytics)" in engine.line()

    events = [*UNWANTED, *map(published, WANTED), *UNWANTED]
    said = invoke("emit", "--json", stdin=b"\n".join(map(msgspec.json.encode, events)))
    counts = json(said.stdout)
    assert counts["refused"] == []
    assert counts["accepted_deliveries"] == len(WANTED)
    assert counts["without_subscriber"] == 2 * len(UNWANTED)

    receiver.wait_for(len(WANTED), "/webhook")
    data_dir = tmp_path / "fluxhook-data"
    until(lambda: read_stats(data_dir).endpoint("analytics").delivered == len(WANTED), "settled")
    engine.signal(signal.SIGTERM)
    assert engine.end().exit_code == ExitCode.OK

    requests = receiver.requests("/webhook")
    assert len(requests) == len(WANTED)
    assert {json(request.body)["data"]["topic"] for request in requests} == set(WANTED)
    for request in requests:
        assert request.headers["authorization"] == "Bearer token"
        assert request.headers["content-type"] == "application/json"
        assert not [name for name in request.headers if "signature" in name]
        envelope = json(request.body)
        assert envelope.keys() == {"event_type", "event_id", "timestamp", "broker_id", "data"}
        assert envelope["event_type"] == "message.published"
        assert envelope["data"] == DATA | {"topic": envelope["data"]["topic"]}
