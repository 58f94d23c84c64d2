"""A configuration file becomes a `Config`: FluxMQ's `webhook:` section, and our own keys in it.

Every field of `Config` and `Endpoint` is a key. Beside them a file may have

- `webhook.preset`: `fluxmq` (the default in a file) or `fluxgate`, the defaults below all else;
- `webhook.defaults`: any option of an endpoint but `name` and `url`, for all endpoints;
- `secret` in an endpoint or the defaults: short for `secrets` with one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import msgspec

from fluxhook.config import codec, fluxmq
from fluxhook.config.check import check
from fluxhook.config.environment import expand, expand_tokens
from fluxhook.config.findings import Findings, Notice
from fluxhook.config.layers import EXPONENTIAL, PRESETS, Layer, Preset, assemble, overlay
from fluxhook.config.limits import too_many
from fluxhook.config.networks import parse_network
from fluxhook.config.schema import Config, Endpoint
from fluxhook.config.source import MAX_BYTES, is_null, parse
from fluxhook.config.twins import distinguish
from fluxhook.config.typed_values import read_struct
from fluxhook.errors import ConfigError, Problem
from fluxhook.events.names import hint

__all__ = ["Loaded", "load", "loads"]

_ROOT: Final = "webhook"
_ENDPOINT: Final = re.compile(r"webhook\.endpoints\[(\d+)\]\.((\w+)(?:\.([^\[]+))?.*)", re.DOTALL)
#: Stands in for a URL that is missing or unreadable, so that the endpoint's other faults are found.
_NO_URL: Final = "https://url.invalid/"


class Loaded(NamedTuple):
    """A sound configuration, and what the operator should know about it."""

    config: Config
    notices: list[Notice]


def load(
    path: str | os.PathLike[str],
    *,
    allow_networks: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read the YAML file at `path`; see `loads` for `allow_networks` and `environ`.

    Return the configuration and its notices. Raise one ConfigError with all problems of the file.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")  # the rest is refused unread
    except FileNotFoundError:
        _refuse(path, "there is no such file", "give the path of a YAML file")
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}", "give the path of a readable YAML file")
    except UnicodeDecodeError as error:
        _refuse(path, f"is not UTF-8 at byte {error.start}", "save it as UTF-8")
    except ValueError:
        _refuse(repr(path), "is not a path", "give the path of a YAML file")
    return loads(text, where=os.fspath(path), allow_networks=allow_networks, environ=environ)


def loads(
    text: str,
    *,
    where: str = "config",
    allow_networks: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read YAML; `where` names the text in errors.

    `allow_networks` (a command line's) are added to the file's own. `environ` gives the variables
    for `${NAME}` in secrets and headers; None means the process's environment.

    Raises one ConfigError with all problems of the text; no problem or notice shows a secret.
    """
    findings = Findings()
    section = _section(text, where, findings)
    extra = {"preset": Preset, "defaults": object, "endpoints": object}
    environ = os.environ if environ is None else environ
    section = expand_tokens(section, f"{_ROOT}.admin", environ, findings)
    is_fluxmqs = is_null(section.get("preset")) or section["preset"] == "fluxmq"
    if is_fluxmqs:
        section = fluxmq.adapt_section(section, _ROOT, findings)
    layer = read_struct(Config, section, _ROOT, findings, extra=extra)
    written = _Written(environ, findings)
    preset: Preset = layer.pop("preset", "fluxmq")
    if is_fluxmqs:
        layer = fluxmq.ring_room(layer, _ROOT, findings)
    endpoints = written.endpoints(layer.pop("endpoints", []), layer.pop("defaults", {}), preset)
    networks = layer.get("allow_networks", ()) + _networks(allow_networks, findings)
    layer |= {"endpoints": endpoints, "allow_networks": tuple(dict.fromkeys(networks))}
    below = overlay(PRESETS[preset][0], written.defaults)
    if is_fluxmqs:
        below = fluxmq.settle_retry(below, f"{_ROOT}.defaults", findings)
    layer["defaults"] = codec.plain(below)
    config = assemble(Config, overlay(PRESETS[preset][1], layer))
    findings.locate = written.locate
    check(config, f"{_ROOT}.", findings)
    if is_fluxmqs:
        fluxmq.tell_of_names(config, f"{_ROOT}.", findings)
        fluxmq.tell_of_room(config, f"{_ROOT}.", findings)
    findings.raise_problems()
    return Loaded(config, findings.notices)


class _Written:
    """The endpoints as a file wrote them: its `defaults` and one layer for each."""

    def __init__(self, environ: Mapping[str, str], findings: Findings) -> None:
        self.environ = environ
        self.findings = findings
        self.defaults: Layer = {}
        self.layers: list[Layer] = []
        #: where `secret` was written instead of `secrets`
        self.singular: set[str] = set()

    def endpoints(self, raw: object, defaults: object, preset: Preset) -> tuple[Endpoint, ...]:
        path = f"{_ROOT}.defaults"
        self.defaults = self.layer(defaults, path)
        for name in ("name", "url"):
            if self.defaults.pop(name, None) is not None:
                self.findings.problem(
                    f"{path}.{name}", "each endpoint has its own", "move it to the endpoint"
                )
        below = overlay(PRESETS[preset][0], self.defaults)
        if not isinstance(raw, list):
            self.findings.problem(
                f"{_ROOT}.endpoints", "is not a list", "write one `- name: ...` for each endpoint"
            )
            return ()
        if too_many(Config, "endpoints", raw, f"{_ROOT}.endpoints", self.findings):
            return ()
        endpoints = [
            self.endpoint(item, f"{_ROOT}.endpoints[{i}]", below, preset)
            for i, item in enumerate(raw)
        ]
        names = distinguish(endpoints)
        twins: dict[str, list[int]] = {}
        for i, endpoint in enumerate(endpoints):
            twins.setdefault(endpoint.name, []).append(i)
        for i, name in names.items():
            few = twins[endpoints[i].name][:10]
            others = ", ".join(f"endpoints[{j}]" for j in few if j != i)
            self.findings.notice(
                f"{_ROOT}.endpoints[{i}].name",
                f"{endpoints[i].name!r:.80} is also the name of {others:.80}; here it is {name!r:.80}, "
                "by its url, events and topic_filters",
            )
        return tuple(
            msgspec.structs.replace(endpoint, name=names.get(i, endpoint.name))
            for i, endpoint in enumerate(endpoints)
        )

    def endpoint(self, raw: object, path: str, below: Layer, preset: Preset) -> Endpoint:
        self.layers.append(layer := self.layer(raw, path, is_fluxmqs=preset == "fluxmq"))
        # A stand-in never gets out: a problem goes with it.
        for name, stand_in in (("name", path), ("url", _NO_URL)):
            if name not in layer:
                if isinstance(raw, dict) and self.findings.sound(f"{path}.{name}"):
                    self.findings.problem(f"{path}.{name}", "is missing", f"add {name}: ...")
                layer = {**layer, name: stand_in}
        whole = overlay(below, layer)
        if preset == "fluxmq":
            whole = fluxmq.settle_retry(whole, path, self.findings)
        if preset == "fluxmq" and "signature" not in whole:
            # FluxMQ signs nothing; a secret in its file can only be meant for us.
            whole["signature"] = "fluxgate" if whole.get("secrets") else "none"
        return assemble(Endpoint, whole)

    def layer(self, raw: object, path: str, *, is_fluxmqs: bool = False) -> Layer:
        if isinstance(raw, dict):
            if "secret" in raw:
                self.singular.add(path)
            expanded = expand(raw, path, self.environ, self.findings)
            if is_fluxmqs:
                expanded = fluxmq.adapt_endpoint(expanded, raw, path, self.findings)
            raw = expanded
        layer = read_struct(Endpoint, raw, path, self.findings, extra={"secret": str})
        if "secret" in layer:
            if "secrets" in layer:
                self.findings.problem(f"{path}.secret", "stands beside secrets", "keep one of them")
            layer["secrets"] = (layer.pop("secret"),)
        retry = layer.get("retry", {})
        if retry.get("schedule") is not None and (idle := EXPONENTIAL & retry.keys()):
            names = ", ".join(sorted(idle))
            self.findings.notice(f"{path}.retry", f"not used beside a schedule: {names}")
        return layer

    def locate(self, path: str) -> str:
        """Return where the value was written: in the endpoint itself, or in the defaults."""
        if not (match := _ENDPOINT.fullmatch(path)):
            return path
        i, rest, name, below = match.groups()
        base = path.removesuffix(f".{rest}")
        if not _sets(self.layers[int(i)], name, below) and _sets(self.defaults, name, below):
            base = f"{_ROOT}.defaults"
        if name == "secrets" and base in self.singular:
            rest = "secret"
        return f"{base}.{rest}"


def _sets(layer: Layer, name: str, below: str | None) -> bool:
    value = layer.get(name)
    return name in layer and (below is None or not isinstance(value, dict) or below in value)


def _section(text: str, where: str, findings: Findings) -> dict[str, Any]:
    """Return what stands under `webhook:`."""
    tree = parse(text, where, findings, root=_ROOT)
    remedy = "put the configuration under a `webhook:` key"
    if tree is None:
        raise ConfigError(Problem(where, "is empty", remedy))
    if not isinstance(tree, dict):
        raise ConfigError(Problem(where, "is not a mapping", remedy))
    if _ROOT not in tree:
        raise ConfigError(Problem(where, f"has no `webhook:` section{hint(_ROOT, tree)}", remedy))
    if others := [f"{name:.80}" for name in tree if name != _ROOT]:
        more = f" and {len(others) - 10:,d} more" if len(others) > 10 else ""
        named = ", ".join(others[:10]) + more
        findings.notice(where, f"left alone, not being under webhook: {named}")
    section = tree[_ROOT]
    if not isinstance(section, dict):
        raise ConfigError(
            Problem(_ROOT, "is not a mapping, or is empty", "write endpoints: and so on under it")
        )
    return section


def _networks(texts: Iterable[str], findings: Findings) -> tuple[str, ...]:
    """Return the networks that the caller adds to the file's."""
    sound = []
    for text in texts:
        try:
            parse_network(text)
        except ValueError as error:
            findings.problem("allow_networks", str(error), 'give one such as "10.0.0.0/8"')
        else:
            sound.append(text)
    return tuple(sound)


def _refuse(path: object, message: str, remedy: str) -> NoReturn:
    raise ConfigError(Problem(str(path), message, remedy)) from None
