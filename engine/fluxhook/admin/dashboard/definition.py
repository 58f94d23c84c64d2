"""An endpoint's definition as the fields of a form: shown, read back, compared with what there was."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fluxhook.admin.dashboard.dom import tag
from fluxhook.admin.dashboard.forms import Form
from fluxhook.admin.models import HIDDEN, Webhook

__all__ = ["layer_of", "patch_of", "show_fields", "values_of"]

_PROFILES: Final = (
    ("fluxgate", "FluxGate: X-FluxGate-Signature"),
    ("standard", "Standard Webhooks: webhook-signature"),
    ("stripe", "Stripe: Stripe-Signature"),
    ("github", "GitHub: X-Hub-Signature-256"),
    ("none", "None: requests are not signed"),
)
_ENVELOPES: Final = (
    ("native", "Native: the gateway's or broker's"),
    ("standard", "Standard Webhooks"),
    ("cloudevents", "CloudEvents 1.0"),
)
_LISTS: Final = ("events", "retry.schedule")
#: These may hold commas and spaces themselves.
_LINES: Final = ("topic_filters", "where")
_NUMBERS: Final = ("concurrency", "retry.max_attempts")
_FLAGS: Final[dict[str, tuple[Any, Any]]] = {
    "record": ("failures", "all"),
    "ordered": (False, True),
}
_REQUIRED: Final = ("url", "events")
_SEPARATOR: Final = re.compile(r"[\s,]+")
#: `config.url.shown_url` cuts a URL there, without a word
_SHOWN: Final = 200


def show_fields(form: Form, types: Sequence[str], present: Webhook | None = None) -> None:
    """The fields of a new endpoint, or those by which the present one can be changed."""
    form.field(
        "url",
        "URL",
        type="url",
        placeholder="https://hooks.example.com/fluxgate",
        hint=_url_hint(present),
        required=True,
        autofocus=True,
    )
    form.field(
        "events",
        "Events",
        placeholder="route.error, service.5xx",
        required=True,
        hint="Types or namespaces such as route.*, with commas between them; * for all.",
        list="event-types",
    )
    with tag("datalist", id="event-types"):
        for name in ["*", *types]:
            tag("option", value=name)
    if present is None:
        form.field("name", "Name", placeholder="by default the URL's host")
    form.choice("signature", "Signature", _PROFILES)
    form.field(
        "secret",
        "Secret",
        type="password",
        hint="Leave it empty to have one generated; it is shown once, after this."
        if present is None
        else "It is not shown. Leave this empty to keep it: what is typed here replaces it at once, "
        "while Rotate secret lets the former one sign on for a time.",
    )
    with form.more("Delivery, retries and filters"):
        _more_fields(form)


def _url_hint(present: Webhook | None) -> str:
    said = []
    if present is not None and HIDDEN in _url(present):
        said.append(
            f"{HIDDEN} stands for what is not shown. Leave the URL as it is, or write all of it anew."
        )
    if present is not None and present.headers:
        said.append(
            "To move it to another host, use fluxhook webhook update, which can give its headers anew."
        )
    return " ".join(said)


def _more_fields(form: Form) -> None:
    form.field("timeout", "Timeout", placeholder="3s")
    form.field("concurrency", "Requests at a time, at most", inputmode="numeric", placeholder="64")
    form.field(
        "retry.schedule",
        "Retry schedule",
        placeholder="15s, 2m, 10m, 1h",
        hint="Delays after the first failure.",
    )
    form.field(
        "retry.max_attempts",
        "Attempts at most",
        inputmode="numeric",
        hint="By default one more than the schedule has delays.",
    )
    form.field(
        "threshold", "Threshold", placeholder="50/s", hint="Forward only what exceeds this rate."
    )
    form.choice("envelope", "Envelope", _ENVELOPES)
    form.field(
        "topic_filters",
        "Topic filters",
        kind="textarea",
        rows=2,
        placeholder="sensors/+/temperature",
        hint="One a line, for events that have a topic.",
    )
    form.field(
        "where",
        "Conditions on the data",
        kind="textarea",
        rows=2,
        placeholder="status_code >= 500",
        hint="One a line; all of them must hold.",
    )
    form.check("record", "Keep a record of every delivery, not only of those that failed at first")
    form.check("ordered", "Deliver one at a time, in order")


def values_of(webhook: Webhook) -> dict[str, str]:
    """What the fields say of an endpoint. Its secrets are not among them."""
    retry, threshold = webhook.retry, webhook.threshold
    return {
        "url": _url(webhook),
        "events": ", ".join(webhook.events),
        "signature": webhook.signature,
        "timeout": str(webhook.timeout),
        "concurrency": str(webhook.concurrency),
        "retry.schedule": ", ".join(map(str, retry.schedule or ())),
        "retry.max_attempts": "" if retry.max_attempts is None else str(retry.max_attempts),
        "threshold": "" if threshold is None else str(threshold),
        "envelope": webhook.envelope,
        "topic_filters": "\n".join(webhook.topic_filters),
        "where": "\n".join(webhook.where),
        "record": "yes" if webhook.record == "all" else "",
        "ordered": "yes" if webhook.ordered else "",
    }


def _url(webhook: Webhook) -> str:
    """One that was cut must not be taken for the whole: the service refuses what is hidden."""
    return webhook.url + (HIDDEN if len(webhook.url) == _SHOWN else "")


def layer_of(values: Mapping[str, str]) -> dict[str, Any]:
    """An endpoint's options as the YAML file writes them, from the fields of the form.

    Numbers stay text where they are none: the check says it better than we could here.
    """
    layer: dict[str, Any] = {"url": "", "events": []}
    for name, said in values.items():
        if said:
            _put(layer, name, _value(name, said))
    return layer


def patch_of(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396) of the fields that say something else than they did. What was
    emptied goes back to its default."""
    patch: dict[str, Any] = {}
    for name in (*before, "secret"):
        said = after.get(name, "")
        value = _value(name, said)
        if value != _value(name, before.get(name, "")):
            kept = said or name in _REQUIRED or name in _FLAGS
            _put(patch, name, value if kept else None)
    return patch


def _value(name: str, said: str) -> Any:
    if name in _LISTS:
        return [part for part in _SEPARATOR.split(said) if part]
    if name in _LINES:
        return [line.strip() for line in said.splitlines() if line.strip()]
    if name in _NUMBERS:
        return int(said) if said.isdecimal() and said.isascii() else said
    return _FLAGS[name][bool(said)] if name in _FLAGS else said


def _put(layer: dict[str, Any], name: str, value: Any) -> None:
    """`retry.schedule` stands within `retry`."""
    *around, last = name.split(".")
    for key in around:
        layer = layer.setdefault(key, {})
    layer[last] = value
