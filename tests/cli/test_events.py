"""`fluxhook events`: what there is to subscribe to."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import CommandSite, Invoke, json
from fluxhook.events.catalog import TYPES
from fluxhook.events.schemas import VERSIONS


def test_both_catalogs_are_known_without_an_engine(invoke: Invoke) -> None:
    """With the version of each one's data, their fields, and which of these may be left out."""
    said = invoke("events", "types").stdout
    lines = said.splitlines()
    for name in TYPES:
        # A list of names stands below the table, and may break anywhere.
        (line,) = (line for line in lines if line.split()[:1] == [name] and "1." in line)
        assert VERSIONS[name] in line.split()
    assert "request_id: string, path: string, status_code: integer" in said
    assert "payload?: string" in said
    assert "any JSON object" in said


def test_a_word_narrows_them(invoke: Invoke) -> None:
    said = invoke("events", "types", "route", "--json").stdout
    names = [json(line)["type"] for line in said.splitlines()]
    assert names == [name for name in TYPES if "route" in name]
    assert invoke("events", "types", "nothing-has-it").stdout == "no such type\n"


def test_the_host_s_own_types_are_told(site: CommandSite) -> None:
    """Those of the data directory, and through the API the same."""
    here = site.lines("events", "types")
    there = site.lines("events", "types", "--api", site.admin.url, "--token", site.admin.token)
    assert here == there
    (own,) = (one for one in here if one["catalog"] == "host")
    assert own == {
        "type": "order.created",
        "catalog": "host",
        "topic": False,
        "version": None,
        "dataschema": None,
        "schema": None,
    }


def test_json_has_the_schemas(invoke: Invoke, tmp_path: Path) -> None:
    said = invoke("events", "types", "route.error", "--json").stdout
    one = json(said)
    assert (one["version"], one["dataschema"]) == ("1.0", "urn:fluxhook:event:route.error:v1")
    schema = one["schema"]
    assert schema["$id"] == one["dataschema"]
    assert schema["$defs"]["RouteError"]["properties"]["latency_ms"] == {"type": "integer"}
