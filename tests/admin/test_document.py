"""The OpenAPI document and docs/api.md: both say what the routes are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from admin.conftest import ApiSite
from fluxhook.admin.ingest import MAX_EVENTS
from fluxhook.admin.models import MAX_PAGE
from fluxhook.admin.problem_details import KINDS
from fluxhook.config.limits import ENTRIES, LIMITS
from fluxhook.config.option import options
from fluxhook.config.schema import Aggregate, Batch, Breaker, Endpoint, Retry

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
PROBLEM = {"$ref": "#/components/schemas/Problem"}


@pytest.fixture
def document(guarded: TestClient[Any]) -> dict[str, Any]:
    found: dict[str, Any] = guarded.get("/schema/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_document_describes_itself(document: dict[str, Any]) -> None:
    """OpenAPI 3.1 with a title, a description and the bearer scheme; it names no other server."""
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "Fluxhook admin API"
    assert "RFC 9457" in document["info"]["description"]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_every_operation_is_documented(document: dict[str, Any]) -> None:
    """With a summary, a description, its scope, and a problem for each status above 400."""
    ids = set()
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        ids.add(operation["operationId"])
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["security"] == ([{"bearer": []}] if "x-scope" in operation else []), where
        assert "500" in operation["responses"], where
        if "x-scope" in operation:
            assert {"401", "403"} <= operation["responses"].keys(), where
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert answer["content"] == {"application/problem+json": {"schema": PROBLEM}}, where
                assert answer["description"]
    assert len(ids) == len(operations(document))


def test_parameters_are_no_nulls(document: dict[str, Any]) -> None:
    """A parameter that is not required is left out."""
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            where = (method, path, parameter["name"])
            assert parameter["schema"]["type"] in ("string", "integer"), where
            assert None not in parameter["schema"].get("enum", ()), where


def test_the_limits_of_options_are_in_their_schemas(document: dict[str, Any]) -> None:
    """Of each list, mapping and number of an endpoint; spans and sizes are texts."""
    schemas = document["components"]["schemas"]
    wanted: dict[type[msgspec.Struct], tuple[str, ...]] = {
        Endpoint: ("Webhook", "CreatedWebhook", "WebhookOptions")
    }
    bounds = {"array": "maxItems", "object": "maxProperties"}
    seen = 0
    for kind in (Endpoint, Retry, Breaker, Aggregate, Batch):
        for name in wanted.get(kind, (kind.__name__,)):
            properties = schemas[name]["properties"]
            for field, most in ENTRIES.get(kind, {}).items():
                (found,) = typed(properties[field], *bounds)
                assert found[bounds[found["type"]]] == most, (name, field)
                seen += 1
            for field, limit in LIMITS.get(kind, {}).items():
                for found in typed(properties[field], "integer", "number"):
                    assert (found["minimum"], found["maximum"]) == limit[:2], (name, field)
                    seen += 1
    assert seen == 18 + 12, "lists and mappings, numbers"


def test_every_property_is_described(document: dict[str, Any]) -> None:
    """In a sentence; so is every body and answer."""
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if name.endswith("Page") or name == "AuditEntry":
            continue
        assert schema["description"], name
        for field, one in schema["properties"].items():
            assert "$ref" in one or one["description"], (name, field)


def test_options_are_those_of_the_schema(document: dict[str, Any]) -> None:
    """With descriptions, examples, and the limits of what is written as text."""
    schemas = document["components"]["schemas"]
    for name in ("Webhook", "CreatedWebhook", "WebhookOptions"):
        after = schemas[name]["properties"]["disable_after"]
        (said,) = (one for one in options(Endpoint) if one.path == "disable_after")
        assert after["description"] == f"{said.description} From 1s to 87600h."
        assert after["examples"] == ["24h"]
    assert schemas["Batch"]["properties"]["format"]["examples"] == ["ndjson"]


def test_times_are_times(document: dict[str, Any]) -> None:
    """RFC 3339, in the words of JSON Schema; a filter takes a duration too, and says so."""
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for field, one in schema.get("properties", {}).items():
            if (field.endswith("_at") or field in ("at", "failing_since")) and name != "AuditEntry":
                (text,) = typed(one, "string")
                assert text["format"] == "date-time", (name, field)


def typed(schema: dict[str, Any], *types: str) -> list[dict[str, Any]]:
    """A schema, or those of which it is one, that are of these types."""
    some = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return [one for one in some if one.get("type") in types]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No schema refers to one that is not there."""
    text = msgspec.json.encode(document).decode()
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        assert name in document["components"]["schemas"]
    assert "$defs" not in text


def test_the_examples_of_the_document_are_accepted(site: ApiSite) -> None:
    """The API takes each body that the document shows."""
    document = site.client.get("/schema/openapi.json").json()
    emit = document["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    examples = emit["application/json"]["examples"]
    assert set(examples) == {"gateway", "broker", "many"}
    for example in examples.values():
        assert site.client.post("/v1/events", json=example["value"]).status_code == 202
    lines = emit["application/x-ndjson"]["example"]
    headers = {"Content-Type": "application/x-ndjson"}
    assert site.client.post("/v1/events", content=lines, headers=headers).status_code == 202
    create = document["paths"]["/v1/webhooks"]["post"]["requestBody"]["content"]
    made = site.client.post("/v1/webhooks", json=create["application/json"]["example"])
    assert made.status_code == 201
    patch = document["paths"]["/v1/webhooks/{ref}"]["patch"]["requestBody"]["content"]
    for media, content in patch.items():
        answer = site.client.patch(
            f"/v1/webhooks/{made.json()['id']}",
            json=content["example"],
            headers={"Content-Type": media},
        )
        assert answer.status_code == 200, answer.text
    site.client.delete(f"/v1/webhooks/{made.json()['id']}")


# ---- docs/api.md -----------------------------------------------------------------------------


def rows(pattern: str) -> set[tuple[str, ...]]:
    return set(re.findall(pattern, DOCS, re.MULTILINE))


def test_the_table_of_routes_is_the_apis(document: dict[str, Any]) -> None:
    """Each with its scope and its summary."""
    told = rows(r"^\| `([A-Z]+) (\S+)` \| (\w+) \| (.+) \|$")
    assert told == {
        (method, path, operation.get("x-scope", "none"), operation["summary"])
        for method, path, operation in operations(document)
    }


def test_the_table_of_problems_is_complete() -> None:
    """Each kind with its status and its title."""
    told = rows(r"^\| `([a-z-]+)` \| (\d+) \| (.+) \|$")
    assert told == {(kind, str(status), title) for kind, (status, title) in KINDS.items()}


def test_the_limits_are_as_documented() -> None:
    """Each number that the page names is that of the code."""
    assert f"{MAX_PAGE} at most" in DOCS
    assert f"{MAX_EVENTS:,} events" in DOCS
    limits = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    assert f"| events of one request | {MAX_EVENTS:,} |" in limits


def test_the_pages_events_and_webhooks_are_accepted(site: ApiSite) -> None:
    """The bodies of its curl lines."""
    for path, body in re.findall(
        r"^curl (?:-i )?http://127.0.0.1:8090(/v1/(?:webhooks|events)) [^']*-d '(\{.*?\})'$",
        DOCS,
        re.MULTILINE | re.DOTALL,
    ):
        answer = site.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (201, 202), answer.text
