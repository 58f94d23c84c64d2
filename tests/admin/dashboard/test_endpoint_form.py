"""An endpoint's definition as the fields of a form, without a browser."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from fluxhook.admin.dashboard.widgets.endpoint_form import (
    layer_of,
    patch_of,
    ticks_of,
    values_of,
)
from fluxhook.admin.models import Webhook
from fluxhook.config.findings import Findings
from fluxhook.config.option import fields_of, options, written
from fluxhook.config.schema import Endpoint, EnvelopeStyle, Retry
from fluxhook.config.shown import HIDDEN, endpoint_options
from fluxhook.config.typed_values import read_value
from fluxhook.config.units import Duration, Threshold


def webhook(**options: Any) -> Webhook:
    """An endpoint as the service shows it."""
    given: dict[str, Any] = {
        "name": "context",
        "url": "https://hooks.example.com/fg",
        "events": ("route.*", "service.5xx"),
        "secrets": ("sk_live_9x8m2p",),
    }
    shown = endpoint_options(Endpoint(**given | options))
    return Webhook(**shown, id="wh_7", source="api", state="active")


def test_a_form_becomes_an_endpoint_as_the_file_writes_it() -> None:
    """Empty fields are left out, and lists are split."""
    typed = {
        "url": "https://hooks.example.com/fg",
        "events": "route.*, service.5xx\tcircuit.broken",
        "name": "",
        "signature": "fluxgate",
        "secret": "",
        "retry.schedule": "15s, 2m",
        "retry.max_attempts": "3",
        "concurrency": "8",
        "topic_filters": "hall, east/+\r\n",
        "where": "status_code >= 500\n\n path startswith '/api' \n",
        "record": "yes",
        "ordered": "yes",
    }
    assert layer_of(typed) == {
        "url": "https://hooks.example.com/fg",
        "events": ["route.*", "service.5xx", "circuit.broken"],
        "signature": "fluxgate",
        "retry": {"schedule": ["15s", "2m"], "max_attempts": 3},
        "concurrency": 8,
        "topic_filters": ["hall, east/+"],
        "where": ["status_code >= 500", "path startswith '/api'"],
        "record": "all",
        "ordered": True,
    }


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"secret": "sk_live_9x8m2p"}, {"secret": "sk_live_9x8m2p"}),
        ({"signature": "none"}, {"signature": "none"}),
        ({"concurrency": "many"}, {"concurrency": "many"}),
        ({"retry.max_attempts": "²"}, {"retry": {"max_attempts": "²"}}),
    ],
)
def test_what_was_typed_is_not_judged_here(
    typed: dict[str, str], expected: dict[str, object]
) -> None:
    """Missing and wrong values are the engine's to name."""
    assert layer_of(typed) == {"url": "", "events": [], **expected}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "https://hooks.example.com/fg?token=1", "headers": {"X-Key": "hidden"}},
        {"events": (), "signature": "none", "secrets": ()},
        {"record": "all", "ordered": True, "envelope": "cloudevents", "concurrency": 1},
        {"topic_filters": ("hall, east/+", "a b"), "where": ("n >= 3",)},
        {"threshold": Threshold.parse("100/s over 10s"), "timeout": Duration.parse("1500ms")},
        {"retry": Retry(max_attempts=3)},
    ],
)
def test_a_form_that_nobody_touched_changes_nothing(options: dict[str, Any]) -> None:
    """Whatever the endpoint has: what the fields say is what they said."""
    before = values_of(webhook(**options))
    assert patch_of(before, before | {"secret": ""}) == {}
    assert "sk_live_9x8m2p" not in str(before)


@pytest.mark.parametrize(
    ("typed", "patch"),
    [
        ({"timeout": "5s"}, {"timeout": "5s"}),
        ({"timeout": ""}, {"timeout": None}),
        ({"events": "service.5xx"}, {"events": ["service.5xx"]}),
        ({"events": "route.*\n service.5xx"}, {}),
        ({"retry.schedule": ""}, {"retry": {"schedule": None}}),
        ({"retry.max_attempts": "2"}, {"retry": {"max_attempts": 2}}),
        ({"url": ""}, {"url": ""}),
        ({"events": ""}, {"events": []}),
        ({"record": ""}, {"record": "failures"}),
        ({"ordered": "yes"}, {"ordered": True}),
        ({"where": ""}, {"where": None}),
        ({"secret": "sk_new"}, {"secret": "sk_new"}),
    ],
)
def test_only_what_was_changed_is_in_the_patch(
    typed: dict[str, str], patch: dict[str, Any]
) -> None:
    """A field that was emptied goes back to its default; a box without its tick says no, whatever the
    default; and what an endpoint needs stays there to be judged."""
    before = values_of(webhook(record="all", where=("n >= 3",)))
    assert patch_of(before, before | typed) == patch


def test_a_url_that_was_cut_is_not_taken_for_the_whole() -> None:
    """The service refuses what is hidden, so that an edited part cannot replace it."""
    whole = "https://hooks.example.com/" + "a" * 170
    assert values_of(webhook(url=whole))["url"] == whole
    cut = values_of(webhook(url=whole + "b" * 10))["url"]
    assert cut.endswith(HIDDEN)


#: those that have a place of their own, are a state, or may hold secrets
NOT_SHOWN = {
    "name",
    "type",
    "headers",
    "secrets",
    "proxy",
    "paused",
    "tls.ca",
    "tls.cert",
    "tls.key",
}


def test_every_option_is_in_the_form() -> None:
    """One that is added to the schema too."""
    assert values_of(webhook()).keys() == {one.path for one in options(Endpoint)} - NOT_SHOWN


def test_every_option_can_be_changed() -> None:
    """Its example, typed, is read as the same in a file is."""
    for one in options(Endpoint):
        if one.path in NOT_SHOWN or one.kind is bool or one.tick is not True:
            continue
        separator = "\n" if one.one_a_line else ", "
        example = one.example
        typed = separator.join(example) if isinstance(example, list) else written(example)
        layer: Any = layer_of({one.path: typed})
        for name in one.path.split("."):
            layer = layer[name]
        findings = Findings()
        read = read_value(fields_of(one.owner)[one.name], layer, one.path, findings)
        assert read == read_value(fields_of(one.owner)[one.name], example, one.path, findings)
        assert not findings.problems


@pytest.mark.parametrize(
    ("typed", "layer"),
    [
        ({"ordered": "yes"}, {}),
        ({}, {"ordered": False}),
        ({"ordered": "yes", "record": "yes"}, {"record": "all"}),
    ],
)
def test_a_box_is_sent_where_the_engines_default_says_otherwise(
    typed: dict[str, str], layer: dict[str, Any]
) -> None:
    """A browser does not send a box without a tick."""
    defaults = Endpoint(name="a", url="https://a.example", ordered=True)
    assert layer_of(typed, defaults) == {"url": "", "events": [], **layer}
    untouched = ticks_of(defaults)
    assert untouched["ordered"] == "yes"
    assert layer_of(untouched, defaults) == {"url": "", "events": []}


@pytest.mark.parametrize("envelope", get_args(EnvelopeStyle))
def test_a_choice_has_every_value(envelope: EnvelopeStyle) -> None:
    """The present one stays where nobody chooses another."""
    before = values_of(webhook(envelope=envelope))
    assert before["envelope"] == envelope
    assert patch_of(before, before | {"envelope": ""}) == {"envelope": None}
