"""The envelopes, byte by byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from events.samples import DATA, ENVELOPES, sample
from fluxhook.events.catalog import TYPES
from fluxhook.events.envelope import Envelopes, EnvelopeStyle
from fluxhook.events.factory import EventFactory
from golden.schemas import ADVICE
from golden.write import golden

GOLDEN = Path(__file__).parents[1] / "golden"

FLUXGATE_EXAMPLE = """
{ "id": "evt_9f8a7b6c5d4e3f2a1b0c", "type": "route.error", "timestamp": "2024-05-14T09:32:11Z",
  "gateway_node": "us-east-1-prod-04", "data": { "request_id": "req_7h3k9m2p",
  "path": "/api/v2/inventory", "status_code": 503, "upstream_service": "stock-manager",
  "latency_ms": 2450 } }
"""
FLUXMQ_EXAMPLE = """
{
"event_type": "message.published",
"event_id": "550e8400-e29b-41d4-a716-446655440000",
"timestamp": "2026-02-05T12:00:00Z",
"broker_id": "broker-1",
"data": {
"client_id": "publisher-1",
"topic": "sensors/temperature",
"qos": 1,
"retained": false,
"payload_size": 256
}
}
"""


@pytest.mark.parametrize("name", sorted(golden()))
def test_golden(name: str) -> None:
    """Bytes that receivers get never change unnoticed: every envelope equals its golden line."""
    assert golden()[name] == (GOLDEN / name).read_bytes().splitlines(), ADVICE


def test_golden_files_hold_every_type_and_style() -> None:
    """No catalog type and no style is left without a golden line."""
    assert TYPES.keys() < DATA.keys()
    assert {f"{style}.ndjson" for style in get_args(EnvelopeStyle)} == golden().keys()


@pytest.mark.parametrize(
    ("event_type", "example"),
    [("route.error", FLUXGATE_EXAMPLE), ("message.published", FLUXMQ_EXAMPLE)],
)
def test_documented_examples(event_type: str, example: str) -> None:
    """The documents in FluxGate's and FluxMQ's documentation come out exactly, as compact JSON."""
    compact = json.dumps(json.loads(example), separators=(",", ":"))
    assert ENVELOPES.encode("native", sample(event_type)) == compact.encode()


@pytest.mark.parametrize("event_type", sorted(TYPES))
def test_a_native_envelope_has_the_document_s_members(event_type: str) -> None:
    """Those of the document's example, in its order, and none beside them: the version of the data
    stands in the list of types and in CloudEvents."""
    event = sample(event_type)
    example = FLUXGATE_EXAMPLE if event.native == "gateway" else FLUXMQ_EXAMPLE
    assert list(json.loads(ENVELOPES.encode("native", event))) == list(json.loads(example))


@pytest.mark.parametrize("style", [s for s in get_args(EnvelopeStyle) if s != "standard"])
def test_one_event_has_one_id(style: EnvelopeStyle) -> None:
    """An event has the same id in every envelope that carries one."""
    event = sample("message.published")
    body = json.loads(ENVELOPES.encode(style, event))
    assert body.get("id", body.get("event_id")) == event.id


@pytest.mark.parametrize(
    ("event_type", "native", "key"),
    [
        ("route.error", "broker", "gateway_node"),
        ("auth.success", "gateway", "broker_id"),
        ("order.created", "gateway", "gateway_node"),
        ("order.created", "broker", "broker_id"),
    ],
)
def test_native_style(event_type: str, native: str, key: str) -> None:
    """A catalog type has its catalog's envelope; any other the configured one."""
    maker = EventFactory(native_envelope="broker" if native == "broker" else "gateway")
    assert key in json.loads(ENVELOPES.encode("native", maker.make(event_type, DATA[event_type])))


def test_cloudevents_name_the_version_of_the_data() -> None:
    """CloudEvents 1.0: `dataschema` is the type and its major version; a host's own type has none."""

    def dataschema(event_type: str) -> object:
        return json.loads(ENVELOPES.encode("cloudevents", sample(event_type))).get("dataschema")

    assert dataschema("route.error") == "urn:fluxhook:event:route.error:v1"
    assert dataschema("message.published") == "urn:fluxhook:event:message.published:v1"
    assert dataschema("order.created") is None


def test_cloudevents_subject_is_the_topic_name() -> None:
    """CloudEvents carry the topic name as subject, and no subject where there is none."""
    assert json.loads(ENVELOPES.encode("cloudevents", sample("route.error"))).get("subject") is None
    body = json.loads(ENVELOPES.encode("cloudevents", sample("message.published")))
    assert body["subject"] == "sensors/temperature"


@pytest.mark.parametrize("style", get_args(EnvelopeStyle))
@pytest.mark.parametrize("event_type", sorted(DATA))
def test_a_frame_holds_all_but_id_time_and_data(style: EnvelopeStyle, event_type: str) -> None:
    """Filled, it is the envelope, also where a node is named after what stands in the holes."""
    for envelopes in (ENVELOPES, Envelopes(gateway_node='"\0', broker_id="\0\0")):
        event = msgspec.structs.replace(sample(event_type), topic=None)
        frame = envelopes.frame(style, event_type, event.native)
        start = b"" if frame.opening is None else frame.opening + event.id.encode()
        time, data = event.timestamp.encode(), msgspec.json.encode(event.data)
        filled = b"".join((start, frame.middle, time, frame.ending, data, b"}"))
        assert filled == envelopes.encode(style, event)


def test_encoding_is_stable() -> None:
    """The same event gives the same bytes every time."""
    event = sample("message.published", payload=b"x")
    assert ENVELOPES.encode("native", event) == ENVELOPES.encode("native", event)
