"""Endpoints that are defined at run time: what a caller wrote, over the configuration's `defaults`.

What was written is kept as it is, a *layer* of plain JSON with the keys of an endpoint in the YAML
file, so that a change of the defaults reaches it too.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec

from fluxhook.config.check import known_types
from fluxhook.config.endpoint_rules import check_endpoint
from fluxhook.config.findings import Findings, Notice
from fluxhook.config.layers import Layer, assemble, overlay
from fluxhook.config.limits import too_many, too_many_keys
from fluxhook.config.networks import parse_network
from fluxhook.config.pem import has_private_key, is_pem
from fluxhook.config.schema import Config, Endpoint, SignatureProfile
from fluxhook.config.typed_values import fields_of, is_struct, read_struct
from fluxhook.config.url import url_hostname, url_origin
from fluxhook.errors import ConfigError

__all__ = [
    "build",
    "check_entries",
    "check_move",
    "check_tls_paths",
    "default_endpoint",
    "define",
    "free_name",
    "merge_patch",
    "new_secret",
    "normalized",
    "signature_of",
    "written_as",
]

#: A word in a URL, a label in metrics, a word on a command line.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
#: `/v1/webhooks/status`, and the ids by which the API also knows endpoints
_RESERVED: Final = re.compile(r"status|wh_[0-9]+", re.ASCII)
#: Stand in for what is missing or unreadable, so that the other faults are found.
_NO_NAME: Final = "endpoint"
_NO_URL: Final = "https://url.invalid/"


def normalized(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layer to be kept: `secret` as `secrets`, nothing that is null.

    Raises ConfigError where both stand in it.
    """
    layer = {key: value for key, value in written.items() if value is not None}
    if "secret" in layer:
        if "secrets" in layer:
            findings = Findings()
            findings.problem("secret", "stands beside secrets", "keep one of them")
            findings.raise_problems()
        layer["secrets"] = [layer.pop("secret")]
    return layer


def define(name: object, layer: Mapping[str, Any], config: Config) -> tuple[Endpoint, list[Notice]]:
    """Return the endpoint of a normalized layer, and what its owner should know.

    Raises ConfigError with every problem; paths are the fields (`retry.max_attempts`).
    """
    findings = Findings()
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        findings.problem(
            "name",
            f"{name!r:.80} cannot be the name of an endpoint",
            "write letters, digits and . _ -, beginning with a letter or digit; status and wh_ with "
            "a number are taken",
        )
        name = _NO_NAME
    for required, remedy in (
        ("url", "add the URL that deliveries are sent to"),
        ("events", 'add the event types, namespaces such as "route.*", or ["*"] for all'),
    ):
        if not layer.get(required):
            findings.problem(required, "is missing", remedy)
    own = read_struct(Endpoint, {**layer, "name": name}, "", findings)
    own |= {"name": name, "url": own.get("url") or _NO_URL}
    endpoint = _assembled(own, config, findings)
    allowed = tuple(map(parse_network, config.allow_networks))
    check_endpoint(endpoint, "", known_types(config), allowed, findings)
    if config.defaults.get("headers") and not config.share_default_headers:
        findings.notice(
            "headers",
            "the headers of the file's defaults are not sent: it does not say share_default_headers",
        )
    if findings.problems:
        raise ConfigError(
            [p._replace(path=written_as(p.path)) for p in findings.problems], findings.more
        )
    return endpoint, findings.notices


def check_entries(layer: Mapping[str, Any]) -> None:
    """Refuse lists and mappings that are over their limits, without a look at what is in them.

    Raises ConfigError. For who is about to hand a layer to another process.
    """
    findings = Findings()
    _check_entries(Endpoint, layer, "", findings)
    findings.raise_problems()


def _check_entries(
    kind: type[msgspec.Struct], layer: Mapping[str, Any], path: str, findings: Findings
) -> None:
    if too_many_keys(layer, path.removesuffix("."), findings):
        return
    for name, value in layer.items():
        if too_many(kind, name, value, path + name, findings) or not isinstance(value, dict):
            continue
        field = fields_of(kind).get(name)
        if field is not None and is_struct(field):
            _check_entries(field, value, f"{path}{name}.", findings)


def check_tls_paths(
    layer: Mapping[str, Any], former: Mapping[str, Any], folder: str | None
) -> None:
    """Refuse TLS files that a caller at run time may not name: those that are not below the folder.
    What the `former` layer had may stay.

    Raises ConfigError. To be called before the files are touched, or the answer would tell of them.
    """
    findings = Findings()
    tls, before = layer.get("tls"), former.get("tls")
    for name, value in tls.items() if isinstance(tls, dict) else ():
        if not isinstance(value, str) or is_pem(value):
            continue
        if isinstance(before, dict) and before.get(name) == value:
            continue
        if folder is None:
            findings.problem(
                f"tls.{name}",
                f"{value!r:.200} is the path of a file, and the configuration has no tls_folder",
                "give the PEM text itself, or set tls_folder in the configuration file",
            )
        elif not _is_below(value, folder):
            findings.problem(
                f"tls.{name}",
                f"{value!r:.200} is not below the tls_folder {folder!r:.200}",
                "give the PEM text itself, or the absolute path of a file below it",
            )
    findings.raise_problems()


def check_move(
    before: Endpoint, after: Endpoint, former: Mapping[str, Any], patch: Mapping[str, Any]
) -> None:
    """Refuse to send what is not shown to another place than it was given for.

    A user who may change an endpoint need not know its secrets, and could have them sent to a place of
    his own. So a patch that moves it must give anew each value of the `former` layer that is hidden and
    would stay. Raises ConfigError.
    """
    if not (move := _move(before, after)):
        return
    findings = Findings()
    for path in _hidden_and_kept(former, patch):
        findings.problem(
            path,
            f"is hidden, and was not given for where it would be sent now: {move}",
            "give it anew in the same change" + ("" if path == "url" else ", or remove it (null)"),
        )
    findings.raise_problems()


def _move(before: Endpoint, after: Endpoint) -> str:
    """Say how what is sent comes into other hands; empty if it does not."""
    was, now = url_origin(before.url), url_origin(after.url)
    if was != now:
        return f"the URL moves from {was} to {now}"
    was, now = (url_origin(e.proxy, {}) if e.proxy else "none" for e in (before, after))
    if was != now:
        return f"the proxy changes from {was} to {now}"
    if before.tls.ca != after.tls.ca:
        return "tls.ca changes, and with it who is taken for the receiver"
    return ""


def _hidden_and_kept(former: Mapping[str, Any], patch: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of hidden values in a layer that a merge patch says nothing of."""
    if "?" in former.get("url", "") and "url" not in patch:
        yield "url"
    headers = patch.get("headers", {})
    if isinstance(headers, dict):
        yield from (f"headers.{name}" for name in former.get("headers", {}) if name not in headers)
    if "secrets" in former and "secrets" not in patch:
        yield "secret"
    tls = patch.get("tls", {})
    key = former.get("tls", {}).get("key")
    if key is not None and has_private_key(key) and isinstance(tls, dict) and "key" not in tls:
        yield "tls.key"


def _is_below(path: str, folder: str) -> bool:
    """Return whether a path is in the folder with links followed too."""
    try:
        real, above = os.path.realpath(path), os.path.realpath(folder)
        return os.path.isabs(path) and real != above and os.path.commonpath((real, above)) == above
    except (OSError, ValueError):
        return False


def written_as(path: str) -> str:
    """Return the path as it was written: a layer has `secrets`; those who give one mostly write
    `secret`."""
    return "secret" if path == "secrets[0]" else path


def build(name: str, layer: Mapping[str, Any], config: Config) -> Endpoint:
    """Return the endpoint of a layer that was accepted before, under what may be other defaults.

    A field that cannot be read any more has its default: the endpoint's deliveries must not be given
    up for it.
    """
    findings = Findings()
    return _assembled(
        read_struct(Endpoint, {**layer, "name": name}, "", findings), config, findings
    )


def default_endpoint(config: Config) -> Endpoint:
    """Return an endpoint that sets nothing, as one that is created at run time has it; its name and URL
    stand for none."""
    return _assembled({"name": _NO_NAME, "url": _NO_URL}, config, Findings())


def _assembled(own: Layer, config: Config, findings: Findings) -> Endpoint:
    below = read_struct(Endpoint, config.defaults, "defaults", findings, extra={"secret": str})
    if not config.share_default_headers:
        below.pop("headers", None)
    if "secret" in below:
        below["secrets"] = (below.pop("secret"),)
    return assemble(Endpoint, overlay(below, own))


def signature_of(layer: Mapping[str, Any], config: Config) -> Any:
    """Return the profile by which the endpoint of a layer will sign, be it a sound one or not."""
    default = config.defaults.get("signature", Endpoint(name=_NO_NAME, url=_NO_URL).signature)
    return layer.get("signature", default)


def free_name(url: object, taken: Collection[str]) -> str:
    """Return a name for an endpoint that was given none: its host, numbered where that is taken."""
    host = url_hostname(url) if isinstance(url, str) else ""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", host).strip("-._")[:100] or "endpoint"
    if base not in taken and not _RESERVED.fullmatch(base):
        return base
    return next(name for n in range(2, len(taken) + 3) if (name := f"{base}-{n}") not in taken)


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a patch by RFC 7396: null removes, objects are merged, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def new_secret(signature: SignatureProfile) -> str:
    """Return 256 random bits, in the form that the profile asks for (Standard Webhooks 1.0)."""
    random = secrets.token_bytes(32)
    if signature == "standard":
        return "whsec_" + base64.b64encode(random).decode()
    return "sk_" + base64.urlsafe_b64encode(random).decode().rstrip("=")
