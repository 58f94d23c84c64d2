"""What FluxMQ takes in its file and we would not, and what it means by something else.

FluxMQ reads YAML into Go structs, where what was not written is zero. So a zero means "the default" in
some places, is refused in others, and is used as it is elsewhere; and its numbers have no upper bounds.
Whatever is changed here is told in a notice, as are the places where we keep a way of our own.

Everything here changes a file before it is read (its sections are plain dicts), under the preset
`fluxmq` only.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import unquote

from fluxhook.config.findings import Findings
from fluxhook.config.headers import engine_header
from fluxhook.config.layers import Layer, overlay
from fluxhook.config.limits import LIMITS
from fluxhook.config.networks import literal_address
from fluxhook.config.option import Option, options
from fluxhook.config.schema import Config, Endpoint
from fluxhook.config.source import Plain, is_null
from fluxhook.config.typed_values import BAD, read_number, read_value, whole_nanoseconds
from fluxhook.config.units import Duration, Size, go_nanoseconds
from fluxhook.config.url import split_url, url_hostname
from fluxhook.config.workers import IN_FLIGHT, processes

__all__ = [
    "adapt_defaults",
    "adapt_endpoint",
    "adapt_section",
    "ring_room",
    "settle_retry",
    "tell_of_names",
    "tell_of_room",
]

#: The settings of FluxMQ's retry. An endpoint that has one has all of it.
_RETRY: Final = ("max_attempts", "initial_interval", "max_interval", "multiplier")
#: Names that public DNS does not know, or that only mean something in one network (RFC 6762, RFC
#: 8375, ICANN's reserved .internal, and what container platforms use).
_LOCAL_NAMES: Final = (".internal", ".local", ".lan", ".home.arpa", ".svc", ".test")


#: What an event takes in a ring; arbitrary, somewhat more than most of a broker's.
_USUAL_BYTES: Final = 512


#: what FluxMQ does with a value below our range
_Below = Literal["refuses", "default", "least"]
#: the options that are FluxMQ's too, by their paths
_SECTION: Final[dict[str, _Below]] = {
    "queue_size": "refuses",
    "workers": "refuses",
    "shutdown_timeout": "refuses",
}
_DEFAULTS: Final[dict[str, _Below]] = {
    "timeout": "refuses",
    "retry.max_attempts": "refuses",
    "retry.initial_interval": "least",
    "retry.max_interval": "least",
    "retry.multiplier": "refuses",
    "circuit_breaker.failure_threshold": "refuses",
    "circuit_breaker.reset_timeout": "default",
}
_ENDPOINT: Final[dict[str, _Below]] = {
    "timeout": "default",
    **dict.fromkeys((f"retry.{name}" for name in _RETRY), "least"),
}
_OPTIONS: Final = {option.path: option for option in (*options(Endpoint), *options(Config))}


def adapt_section(section: Mapping[str, Any], path: str, findings: Findings) -> dict[str, Any]:
    """Return the `webhook:` section as FluxMQ means it."""
    adapted = dict(section)
    if "enabled" not in section:
        findings.notice(
            f"{path}.enabled", "is missing, and deliveries are on; FluxMQ's are off without it"
        )
    is_off = _is_off(section.get("enabled"))
    _adapt_numbers(_SECTION, adapted, path, findings, is_off=is_off)
    workers = read_number(int, adapted.get("workers"))
    if workers is not BAD and workers > 0:
        adapted = _scale(adapted, workers, path, findings)
    if isinstance(defaults := adapted.get("defaults"), dict):
        adapted["defaults"] = adapt_defaults(defaults, f"{path}.defaults", findings, is_off=is_off)
    return adapted


def adapt_defaults(
    defaults: Mapping[str, Any], path: str, findings: Findings, *, is_off: bool = False
) -> dict[str, Any]:
    """Return `defaults` as FluxMQ means them. `is_off`: it does not look at them."""
    adapted = dict(defaults)
    _adapt_numbers(_DEFAULTS, adapted, path, findings, is_off=is_off)
    return adapted


def adapt_endpoint(
    endpoint: Mapping[str, Any], written: Mapping[str, Any], path: str, findings: Findings
) -> dict[str, Any]:
    """Return an endpoint as FluxMQ means it. `written` is the same before variables were replaced."""
    adapted = dict(endpoint)
    _adapt_numbers(_ENDPOINT, adapted, path, findings)
    retry = adapted.get("retry")
    if isinstance(retry, dict) and set(retry) <= set(_RETRY):
        missing = [name for name in _RETRY if name not in retry]
        if missing:
            findings.notice(
                f"{path}.retry",
                f"{', '.join(missing)} {'comes' if len(missing) == 1 else 'come'} from the defaults; "
                "FluxMQ takes what an endpoint's own retry leaves out for 0",
            )
    _adapt_url(adapted, path, findings)
    _adapt_headers(adapted, written, path, findings)
    _adapt_filters(adapted, path, findings)
    return adapted


def settle_retry(layer: Layer, path: str, findings: Findings) -> Layer:
    """Return a whole endpoint whose backoff does not begin beyond its cap, which is what FluxMQ makes
    of one that does."""
    retry = layer.get("retry", {})
    first, cap = retry.get("initial_interval"), retry.get("max_interval")
    if retry.get("schedule") is not None or first is None or cap is None or first <= cap:
        return layer
    findings.notice(
        f"{path}.retry.max_interval",
        f"{cap} is below initial_interval ({first}): every retry waits {cap}",
    )
    return overlay(layer, {"retry": {"initial_interval": cap}})


def tell_of_names(config: Config, path: str, findings: Findings) -> None:
    """Give a notice for each endpoint whose host name probably leads to a private address."""
    if config.allow_networks:
        return
    for i, endpoint in enumerate(config.endpoints):
        where = f"{path}endpoints[{i}].url"
        if endpoint.proxy is not None or not findings.sound(where):
            continue
        host = url_hostname(endpoint.url).lower().removesuffix(".")
        if _is_local(host):
            findings.notice(
                where,
                f"{host} is probably in a private network, which deliveries do not reach unless "
                "allow_networks names it; FluxMQ's reach any address",
            )


def _is_local(host: str) -> bool:
    try:
        if not host or literal_address(host) is not None:
            return False  # judged by the rules
    except ValueError:
        return False
    return "." not in host or host.endswith(_LOCAL_NAMES)


def _adapt_numbers(
    numbers: Mapping[str, _Below],
    section: dict[str, Any],
    path: str,
    findings: Findings,
    *,
    is_off: bool = False,
) -> None:
    for number, below in numbers.items():
        option = _OPTIONS[number]
        *above, name = number.split(".")
        holder = section
        for key in above:
            found = holder.get(key)
            if not isinstance(found, dict):
                break
            holder[key] = holder = dict(found)
        else:
            value = _value(option.kind, holder.get(name)) if name in holder else None
            if value is None or holder.get("schedule") is not None:
                continue
            where = f"{path}.{number}"
            _adapt_number(option, below, value, holder, where, findings, is_off=is_off)


def _adapt_number(
    option: Option,
    below: _Below,
    value: float,
    holder: dict[str, Any],
    path: str,
    findings: Findings,
    *,
    is_off: bool,
) -> None:
    assert option.limit is not None
    name, (low, high, _) = option.name, option.limit
    least, most = (
        (low.ns, high.ns)
        if isinstance(low, Duration) and isinstance(high, Duration)
        else (float(low), float(high))  # type: ignore[arg-type]
    )
    shown = f"{holder[name]!s:.40}"
    if value > most:
        findings.notice(path, f"{shown} is cut to {high}, the most there is here")
        holder[name] = high
    elif value >= least:
        return
    elif below == "default" and value <= 0:
        findings.notice(path, f"{shown} stands for the default, as in FluxMQ")
        del holder[name]
    elif below != "refuses":
        findings.notice(path, f"{shown} is raised to {low}, the least there is here")
        holder[name] = low
    elif is_off:
        findings.notice(path, f"{shown} is left out, as FluxMQ does while enabled is false")
        del holder[name]


def _value(kind: type[int | float | Duration], raw: object) -> float | None:
    """Return the number as it is written, in nanoseconds for a duration; None for what is none."""
    if kind is not Duration:
        value = read_number(kind, raw)  # type: ignore[arg-type]
        return None if value is BAD else value
    if (ns := whole_nanoseconds(raw)) is not None:
        return ns
    try:
        return go_nanoseconds(str(raw) if isinstance(raw, Plain) else raw)
    except ValueError:
        return None


def _is_off(enabled: object) -> bool:
    return enabled is not None and read_value(bool, enabled, "", Findings()) is False


def _scale(section: dict[str, Any], workers: int, path: str, findings: Findings) -> dict[str, Any]:
    """Give as many requests at a time as FluxMQ's workers make, and their processes room."""
    count = processes(workers)
    default = LIMITS[Endpoint]["concurrency"]
    usual = Endpoint(name="", url="").concurrency
    if workers <= usual:
        return section
    at_a_time = min(-(-workers // count) * count, count * IN_FLIGHT, int(default.high))  # type: ignore[arg-type]
    defaults = {} if is_null(section.get("defaults")) else section["defaults"]
    if isinstance(defaults, dict) and is_null(defaults.get("concurrency")):
        section = {**section, "defaults": {**defaults, "concurrency": at_a_time}}
        more = "" if at_a_time >= workers else ", the most there are"
        findings.notice(
            f"{path}.workers",
            f"{workers} of FluxMQ's workers make as many requests at a time: concurrency is "
            f"{at_a_time} for each endpoint that has none of its own{more}",
        )
    return section


def _adapt_url(endpoint: dict[str, Any], path: str, findings: Findings) -> None:
    """Go sends a URL's user and password as Basic credentials, and no fragment."""
    url = endpoint.get("url")
    if not isinstance(url, str):
        return
    plain, userinfo, fragment = split_url(url)
    if userinfo is not None:
        headers = endpoint.get("headers")
        headers = headers if isinstance(headers, dict) else {}
        if "authorization" not in map(str.lower, headers):
            user, _, password = userinfo.partition(":")
            token = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
            endpoint["headers"] = {**headers, "Authorization": f"Basic {token}"}
        findings.notice(
            f"{path}.url", "its user name and password are sent as Authorization: Basic"
        )
    if fragment:
        findings.notice(f"{path}.url", "its fragment (#...) is left out: it is never sent")
    if userinfo is not None or fragment:
        endpoint["url"] = plain


def _adapt_headers(
    endpoint: dict[str, Any], written: Mapping[str, Any], path: str, findings: Findings
) -> None:
    headers = endpoint.get("headers")
    if not isinstance(headers, dict):
        return
    as_written = written.get("headers")
    kept = {}
    for name, value in headers.items():
        said = as_written.get(name, value) if isinstance(as_written, dict) else value
        if reason := engine_header(name):
            findings.notice(f"{path}.headers.{name}", f"is left out: {reason}")
        elif is_null(said) or (isinstance(said, str) and not said.strip()):
            findings.notice(f"{path}.headers.{name}", "is left out: its value is empty")
        else:
            kept[name] = value
    endpoint["headers"] = kept


def _adapt_filters(endpoint: dict[str, Any], path: str, findings: Findings) -> None:
    filters = endpoint.get("topic_filters")
    if not isinstance(filters, list):
        return
    adapted = []
    for i, topic_filter in enumerate(filters):
        where = f"{path}.topic_filters[{i}]"
        if isinstance(topic_filter, str):
            levels = topic_filter.split("/")
            if "#" in levels[:-1]:
                cut = "/".join(levels[: levels.index("#") + 1])
                findings.notice(where, f"what follows its # has no effect: it is {cut}")
                topic_filter = cut
            if levels[0] in ("#", "+"):
                findings.notice(
                    where,
                    f"{topic_filter} does not match topics that begin with $ (MQTT 5.0 section "
                    "4.7.2); FluxMQ's does",
                )
        adapted.append(topic_filter)
    endpoint["topic_filters"] = adapted


def tell_of_room(config: Config, path: str, findings: Findings) -> None:
    """Give a notice where `ring_bytes` is full before the queue is, unless events are very small."""
    if not findings.sound(f"{path}queue_size", f"{path}ring_bytes"):
        return
    each = int(config.ring_bytes) // config.queue_size
    if each < _USUAL_BYTES:
        findings.notice(
            f"{path}queue_size",
            f"{config.queue_size:,} events fit in ring_bytes ({config.ring_bytes}) only if none takes "
            f"more than {each} bytes; raise ring_bytes for larger ones",
        )


def ring_room(layer: Layer, path: str, findings: Findings) -> Layer:
    """Return a configuration's layer with `ring_bytes` for all of its processes, where it says nothing
    of them."""
    workers, largest = layer.get("workers"), layer.get("max_event_bytes")
    if not workers or workers < 1 or "ring_bytes" in layer:
        return layer
    config = Config()
    needed = Size(4 * int(largest or config.max_event_bytes) * processes(workers))
    if needed <= config.ring_bytes:
        return layer
    findings.notice(f"{path}.ring_bytes", f"is {needed}, for {processes(workers)} workers")
    return {**layer, "ring_bytes": needed}
