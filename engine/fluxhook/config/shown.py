"""Options as they may be shown, and what differs between two: never a secret, only that it changed."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fluxhook.config.codec import encode_hook, plain
from fluxhook.config.option import options, value_at
from fluxhook.config.pem import has_private_key
from fluxhook.config.schema import Config, Endpoint, Tls
from fluxhook.config.secret import Secret
from fluxhook.config.url import shown_url
from fluxhook.errors import ConfigError, Problem

__all__ = [
    "HIDDEN",
    "Difference",
    "config_difference",
    "endpoint_difference",
    "endpoint_options",
    "refuse_hidden",
    "shown_tls",
]

#: stands for a value that is not shown
HIDDEN: Final = "***"
#: what a difference has at most: endpoints, entries of a list or a mapping, characters of a text;
#: arbitrary
MAX_ENDPOINTS, MAX_ENTRIES, MAX_TEXT = 50, 64, 200
#: options of a configuration that are told in another way
_APART: Final = ("endpoints", "defaults")
#: options that may hold a query, or a name and a password
_URLS: Final = ("url", "proxy")

#: what was there before and what is there after a change: the options that differ, by their paths
Difference = tuple[dict[str, Any], dict[str, Any]]


def endpoint_options(endpoint: Endpoint) -> dict[str, Any]:
    """Return the fields of an endpoint as they may be shown."""
    return {
        **msgspec.structs.asdict(endpoint),
        "url": shown_url(endpoint.url),
        "secrets": (HIDDEN,) * len(endpoint.secrets),
        "headers": dict.fromkeys(endpoint.headers, HIDDEN),
        "proxy": None if endpoint.proxy is None else shown_url(endpoint.proxy),
        "tls": shown_tls(endpoint.tls),
    }


def shown_tls(tls: Tls) -> Tls:
    """Return the options without a key that is written out."""
    return Tls(
        **{
            name: HIDDEN if value is not None and has_private_key(value) else value
            for name, value in msgspec.structs.asdict(tls).items()
        }
    )


def refuse_hidden(layer: dict[str, Any], path: str = "") -> None:
    """Refuse what stands for a hidden value in our answers: it must not become the value. Raise
    ConfigError."""
    for key, value in layer.items():
        where = f"{path}{key:.80}"
        if isinstance(value, dict):
            refuse_hidden(value, f"{where}.")
            continue
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and HIDDEN in text:
                raise ConfigError(
                    Problem(
                        where,
                        f"has {HIDDEN}, which stands for what is not shown",
                        "leave it out to keep the value, or give the whole new one",
                    )
                )


def endpoint_difference(
    before: Endpoint | None, after: Endpoint | None, default: Endpoint
) -> Difference:
    """Return what a change of an endpoint changes. One that is created or removed is compared with the
    `default`, and has nothing on the other side."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for option in options(Endpoint):
        path = option.path
        was, now = value_at(before or default, path), value_at(after or default, path)
        if was != now and path != "name":
            if before is not None:
                old[path] = _shown(path, was)
            if after is not None:
                new[path] = _shown(path, now)
    return old, new


def config_difference(before: Config, after: Config, default: Endpoint) -> Difference:
    """Return what differs between two configurations. Under `endpoints` stands what differs of each
    endpoint, by its name, of at most MAX_ENDPOINTS."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for option in options(Config):
        path = option.path
        was, now = value_at(before, path), value_at(after, path)
        if was != now and path not in _APART:
            old[path], new[path] = _shown(path, was), _shown(path, now)
    for key in sorted(before.defaults.keys() | after.defaults.keys()):
        was, now = before.defaults.get(key), after.defaults.get(key)
        if plain(was) != plain(now):
            old[f"defaults.{key}"], new[f"defaults.{key}"] = _shown(key, was), _shown(key, now)
    for side, found in zip((old, new), _endpoints(before, after, default), strict=True):
        if found:
            side["endpoints"] = found
    return old, new


def _endpoints(before: Config, after: Config, default: Endpoint) -> Difference:
    was, now = ({e.name: e for e in config.endpoints} for config in (before, after))
    changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name in changed[:MAX_ENDPOINTS]:
        a, b = endpoint_difference(was.get(name), now.get(name), default)
        if name in was:
            old[name] = a
        if name in now:
            new[name] = b
    if len(changed) > MAX_ENDPOINTS:
        new["..."] = f"and {len(changed) - MAX_ENDPOINTS:,d} more"
    return old, new


def _shown(path: str, value: Any) -> Any:
    """Return the value of an option as plain data, without secrets and of a bounded size."""
    if path in _URLS and isinstance(value, str):
        return shown_url(value)
    if path == "headers" and isinstance(value, dict):
        value = dict.fromkeys(value, HIDDEN)
    return _bounded(msgspec.to_builtins(value, enc_hook=_hide))


def _hide(value: object) -> str:
    return HIDDEN if isinstance(value, Secret) else encode_hook(value)


def _bounded(value: Any) -> Any:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]}..."
    if isinstance(value, dict):
        kept = {key: _bounded(one) for key, one in list(value.items())[:MAX_ENTRIES]}
        more = len(value) - MAX_ENTRIES
        return {**kept, "...": f"and {more:,d} more"} if more > 0 else kept
    if isinstance(value, (list, tuple)):
        kept_ones = [_bounded(one) for one in value[:MAX_ENTRIES]]
        more = len(value) - MAX_ENTRIES
        return [*kept_ones, f"and {more:,d} more"] if more > 0 else kept_ones
    return value
