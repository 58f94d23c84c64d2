"""Each event type's data has a version, and never changes under a receiver within a major one."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook.events.catalog import BROKER, GATEWAY, TYPES
from fluxhook.events.schemas import VERSIONS, dataschema, schema
from golden.schemas import ADVICE, envelope_faults, faults, recorded

GOLDEN = Path(__file__).parents[1] / "golden"

Change = Callable[[dict[str, Any]], None]


def test_the_data_is_as_recorded() -> None:
    """A change that would break a receiver within a major version fails here, and says what to do;
    something that is merely new is to be recorded."""
    before = msgspec.json.decode((GOLDEN / "schemas.json").read_bytes())
    assert faults(before, recorded()) == []
    assert before == recorded(), ADVICE


def test_every_type_has_a_version_and_a_schema_that_names_it() -> None:
    """`major.minor`; the URI has the major number, so that an addition leaves it as it is."""
    assert VERSIONS.keys() == TYPES.keys()
    for name, data in TYPES.items():
        assert re.fullmatch(r"[1-9][0-9]*\.[0-9]+", VERSIONS[name])
        assert dataschema(name) == f"urn:fluxhook:event:{name}:v{VERSIONS[name].partition('.')[0]}"
        described = schema(name)
        assert (described is None) == (data is None)
        assert described is None or described["$id"] == dataschema(name)
    assert dataschema("order.created") is None


#: as FluxMQ's document lists them
FLUXMQ = """\
client.connected: client_id, protocol, clean_start, keep_alive, remote_addr
client.disconnected: client_id, reason, remote_addr
client.session_takeover: client_id, from_node, to_node
message.published: client_id, topic, qos, retained, payload_size, payload
message.delivered: client_id, topic, qos, payload_size
message.retained: topic, payload_size, cleared
subscription.created: client_id, topic_filter, qos, subscription_id
subscription.removed: client_id, topic_filter
auth.success: client_id, remote_addr
auth.failure: client_id, reason, remote_addr
authz.publish_denied: client_id, topic, reason
authz.subscribe_denied: client_id, topic_filter, reason
"""


def test_the_brokers_types_have_the_documents_fields() -> None:
    """These types and no other, with these fields and no other, in this order."""
    documented = dict(line.split(": ") for line in FLUXMQ.splitlines())
    assert {name: ", ".join(data.__struct_fields__) for name, data in BROKER.items()} == documented


def test_the_gateways_types_are_the_documents() -> None:
    """Those that FluxGate's document names; `webhook.*` beyond `webhook.delivery.failed` is ours."""
    traffic = {"route.matched", "upstream.timeout", "rate.limit.exceeded"}
    errors = {"route.error", "service.5xx", "tls.handshake.fail", "circuit.broken"}
    changes = {"route.created", "policy.updated", "secret.rotated"}
    ours = {"webhook.endpoint.disabled", "webhook.failures.aggregated", "webhook.test"}
    assert GATEWAY.keys() == traffic | errors | changes | {"webhook.delivery.failed"} | ours


# ---- the guard itself --------------------------------------------------------------------------


def error(now: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = now["types"]["route.error"]["fields"]
    return fields


def drop(now: dict[str, Any]) -> None:
    del error(now)["latency_ms"]


def retype(now: dict[str, Any]) -> None:
    error(now)["latency_ms"]["schema"] = {"type": "string"}


def narrow(now: dict[str, Any]) -> None:
    error(now)["status_code"]["schema"]["minimum"] = 400


def loosen(now: dict[str, Any]) -> None:
    error(now)["latency_ms"]["required"] = False


def rename(now: dict[str, Any]) -> None:
    error(now)["latency"] = error(now).pop("latency_ms")


def untype(now: dict[str, Any]) -> None:
    now["types"]["route.error"]["fields"] = None


def remove(now: dict[str, Any]) -> None:
    del now["types"]["route.error"]


def add(now: dict[str, Any]) -> None:
    error(now)["region"] = {"schema": {"type": "string"}, "required": False}


def add_type(now: dict[str, Any]) -> None:
    now["types"]["route.closed"] = {"version": "1.0", "fields": None}


def version(number: str) -> Change:
    def change(now: dict[str, Any]) -> None:
        now["types"]["route.error"]["version"] = number

    return change


def major(now: dict[str, Any]) -> None:
    now["major"] += 1


def judged(*changes: Change) -> list[str]:
    before = recorded()
    now = copy.deepcopy(before)
    for change in changes:
        change(now)
    return faults(before, now)


@pytest.mark.parametrize("change", [drop, retype, narrow, loosen, rename, untype, remove])
def test_what_breaks_a_receiver_is_refused(change: Change) -> None:
    """Whatever version it is given: it needs a new major version of Fluxhook."""
    for raised in ((), (version("1.1"),), (version("2.0"),)):
        (fault,) = judged(change, *(raised if change is not remove else ()))
        assert "new major version of Fluxhook" in fault


def test_in_a_new_major_version_of_fluxhook_it_has_a_new_one_too() -> None:
    """Not before, and not without."""
    assert judged(drop, version("2.0"), major) == []
    assert "Raise its major version" in judged(drop, version("1.1"), major)[0]
    assert "new major version of Fluxhook" in judged(version("2.0"))[0]
    assert judged(remove, major) == []


def test_an_addition_raises_the_minor_version() -> None:
    """A receiver that skips what it does not know goes on."""
    assert "Raise its minor version" in judged(add)[0]
    assert judged(add, version("1.1")) == []
    assert judged(add_type) == []


def test_envelopes_keep_their_members() -> None:
    """A native one has none beside them; to a CloudEvent others may come."""
    old = b'{"id":"a","data":{"n":1}}'
    more = b'{"id":"a","data":{"n":1},"version":"1"}'
    assert envelope_faults("native.ndjson", [old], [old]) == []
    assert envelope_faults("cloudevents.ndjson", [old], [more]) == []
    for name, now in (("native.ndjson", more), ("gateway.ndjson", more), ("broker.ndjson", more)):
        assert len(envelope_faults(name, [old], [now])) == 1
    for now in (b'{"id":"a"}', b'{"id":"a","data":{"n":"1"}}'):
        (fault,) = envelope_faults("cloudevents.ndjson", [old], [now])
        assert "keep it until a release with a new major version" in fault
