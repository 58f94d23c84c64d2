"""An endpoint's options as the fields of a form: shown, read back, compared with what there was.

The fields come from the schema: labels, hints, choices and examples. What stands in an empty field is
this engine's default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_origin

from fluxhook.admin.dashboard.widgets.dom import tag
from fluxhook.admin.dashboard.widgets.forms import Form
from fluxhook.admin.models import Webhook
from fluxhook.config.option import Option, choices_of, options, value_at, written
from fluxhook.config.schema import Endpoint
from fluxhook.config.shown import HIDDEN

__all__ = ["layer_of", "patch_of", "show_fields", "ticks_of", "values_of"]

#: what the form has a place of its own for, or none, as it is a state, or holds secrets
_ELSEWHERE: Final = ("name", "url", "type", "events", "signature", "paused")
_OPTIONS: Final = {option.path: option for option in options(Endpoint)}
_FIELDS: Final = {
    path: option
    for path, option in _OPTIONS.items()
    if not option.hidden and path not in _ELSEWHERE and not path.startswith("tls.")
}
_REQUIRED: Final = ("url", "events")
_DECIMAL: Final = re.compile(r"[0-9]+\.[0-9]+", re.ASCII)
_SEPARATOR: Final = re.compile(r"[\s,]+")
#: `config.url.shown_url` cuts a URL there, without a word
_SHOWN: Final = 200


def show_fields(
    form: Form, types: Sequence[str], defaults: Endpoint, present: Webhook | None = None
) -> None:
    """Show the fields of a new endpoint, or those by which the present one can be changed.

    `defaults` has what holds for the options that are left out.
    """
    url, events, signature = (_OPTIONS[path] for path in ("url", "events", "signature"))
    form.field(
        "url",
        url.title,
        type="url",
        placeholder=url.example,
        hint=_url_hint(present),
        required=True,
        autofocus=True,
    )
    form.field(
        "events",
        events.title,
        placeholder=written(events.example),
        required=True,
        hint="Types or namespaces such as route.*, with commas between them; * for all.",
        list="event-types",
    )
    with tag("datalist", id="event-types"):
        for name in ["*", *types]:
            tag("option", value=name)
    if present is None:
        form.field("name", "Name", placeholder="by default the URL's host")
    _show_field(form, signature, defaults)
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
        _show(form, (option for option in _FIELDS.values() if option.flag), defaults)
    with form.more("All other options"):
        _show(form, (option for option in _FIELDS.values() if not option.flag), defaults)


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


def _show(form: Form, some: Iterable[Option], defaults: Endpoint) -> None:
    """Show the fields of some options; boxes come last."""
    boxes = []
    for option in some:
        if _is_box(option):
            boxes.append(option)
        else:
            _show_field(form, option, defaults)
    for option in boxes:
        form.check(option.path, option.title)


def _show_field(form: Form, option: Option, defaults: Endpoint) -> None:
    default = written(value_at(defaults, option.path))
    if choices := choices_of(option.kind):
        said = option.choices
        form.choice(
            option.path,
            option.title,
            [
                ("", f"Default: {said.get(default, default)}"),
                *((value, said.get(value, value)) for value in choices),
            ],
            hint=option.description,
        )
        return
    attributes: dict[str, Any] = {}
    if option.one_a_line:
        attributes |= {"kind": "textarea", "rows": 2}
    elif option.kind is int:
        attributes["inputmode"] = "numeric"
    form.field(
        option.path,
        option.title,
        placeholder=default or f"none, such as {written(option.example)}",
        hint=option.description + " One a line." * option.one_a_line,
        **attributes,
    )


def _is_box(option: Option) -> bool:
    """Tell whether an option is a box with or without a tick."""
    return option.kind is bool or option.tick is not True


def _value_of_box(option: Option, *, ticked: bool) -> Any:
    if option.kind is bool:
        return ticked
    (other,) = set(choices_of(option.kind)) - {option.tick}
    return option.tick if ticked else other


def values_of(endpoint: Endpoint) -> dict[str, str]:
    """Return what the fields say of an endpoint. Its secrets are not among them."""
    said = {"url": _url(endpoint), "events": written(endpoint.events)}
    for path in ("signature", *_FIELDS):
        option, value = _OPTIONS[path], value_at(endpoint, path)
        if _is_box(option):
            said[path] = "yes" if value == option.tick else ""
        else:
            said[path] = "\n".join(value) if option.one_a_line else written(value)
    return said


def ticks_of(endpoint: Endpoint) -> dict[str, str]:
    """Return what the boxes alone say of an endpoint: a box has no other way to show a default."""
    values = values_of(endpoint)
    return {path: values[path] for path, option in _FIELDS.items() if _is_box(option)}


def _url(endpoint: Endpoint) -> str:
    """Return the URL; one that was cut must not be taken for the whole: the service refuses what is
    hidden."""
    return endpoint.url + (HIDDEN if len(endpoint.url) == _SHOWN else "")


def layer_of(values: Mapping[str, str], defaults: Endpoint | None = None) -> dict[str, Any]:
    """Return an endpoint's options as the YAML file writes them, from the fields of the form.

    A box is left out where it says what the `defaults` say. Numbers stay text where they are none: the
    check says it better than we could here.
    """
    layer: dict[str, Any] = {"url": "", "events": []}
    boxes = ticks_of(defaults or Endpoint(name="", url=""))
    for name, said in values.items():
        if said and name not in boxes:
            _put(layer, name, _value(name, said))
    for name, default in boxes.items():
        if (said := values.get(name, "")) != default:
            _put(layer, name, _value(name, said))
    return layer


def patch_of(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """Return a JSON merge patch (RFC 7396) of the fields that say something else than they did.

    What was emptied goes back to its default.
    """
    patch: dict[str, Any] = {}
    for name in (*before, "secret"):
        said = after.get(name, "")
        value = _value(name, said)
        if value != _value(name, before.get(name, "")):
            kept = said or name in _REQUIRED or (name in _FIELDS and _is_box(_FIELDS[name]))
            _put(patch, name, value if kept else None)
    return patch


def _value(name: str, said: str) -> Any:
    """Return what was typed as the YAML file has it."""
    option = _OPTIONS.get(name)
    if option is None:  # the secret
        return said
    if _is_box(option):
        return _value_of_box(option, ticked=bool(said))
    if option.one_a_line:
        return [line.strip() for line in said.splitlines() if line.strip()]
    if get_origin(option.kind) is tuple:
        return [part for part in _SEPARATOR.split(said) if part]
    if option.kind in (int, float):
        return _number(option.kind, said)
    return said


def _number(kind: type[int] | type[float], said: str) -> Any:
    if said.isdecimal() and said.isascii():
        return int(said)
    if kind is float and _DECIMAL.fullmatch(said):
        return float(said)
    return said


def _put(layer: dict[str, Any], name: str, value: Any) -> None:
    """Set a field of a layer; `retry.schedule` stands within `retry`."""
    *around, last = name.split(".")
    for key in around:
        layer = layer.setdefault(key, {})
    layer[last] = value
