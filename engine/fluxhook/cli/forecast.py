"""What a configuration will do, in words."""

from __future__ import annotations

from typing import Any

from fluxhook.cli.output import number, plural
from fluxhook.config.listen_address import parse_listen
from fluxhook.config.option import options, value_at, written
from fluxhook.config.pem import is_pem
from fluxhook.config.schema import Batch, Breaker, Config, Endpoint, Retry, Tls
from fluxhook.config.units import Duration
from fluxhook.config.url import shown_url
from fluxhook.policy.aggregate import gathered
from fluxhook.policy.compression import MIN_BYTES
from fluxhook.policy.retry import max_attempts, next_delay_ns
from fluxhook.policy.signature import HEADERS
from fluxhook.supervisor.children import worker_count
from fluxhook.supervisor.reservation import mib, reservation
from fluxhook.transport.snapshot import Snapshot

__all__ = ["attempts", "endpoint_facts", "engine_facts", "plan", "retry_times_ns"]

#: retries that are spelled out before "..."; arbitrary
SPELLED_OUT = 6

_ENVELOPES = {
    "native": "the event's own (gateway or broker)",
    "gateway": "gateway",
    "broker": "broker",
    "cloudevents": "CloudEvents 1.0, structured",
    "standard": "Standard Webhooks 1.0",
}
_FORMATS = {
    "json": "JSON array",
    "ndjson": "newline-delimited JSON",
    "cloudevents": "CloudEvents batch",
}
_DROPS = {
    "oldest": "a full queue drops its oldest event",
    "newest": "a full queue refuses the new event",
}
_DURABILITY = {
    "process": "what was accepted survives the death of every process, not of the machine",
    "interval": "what was accepted over {} ago survives a power loss",
    "power": "what was accepted survives a power loss; emit waits for the disk",
}


#: the options of which `endpoint_facts` speaks in sentences; any other is said as it is written
_SPOKEN_OF = frozenset(
    (
        *("name", "url", "type", "events", "topic_filters", "where", "sample", "threshold"),
        *("envelope", "signature", "secrets", "headers", "timeout", "connect_timeout"),
        *(f"retry.{name}" for name in Retry.__struct_fields__ if name != "max_retry_after"),
        *(f"circuit_breaker.{name}" for name in Breaker.__struct_fields__),
        *(f"batch.{name}" for name in Batch.__struct_fields__),
        *(f"tls.{name}" for name in Tls.__struct_fields__),
        *("concurrency", "rate_limit", "max_payload", "ttl", "aggregate.window", "aggregate.types"),
        *("compression", "http_version", "record", "ordered", "order_key", "on_head_failure"),
        *("proxy", "paused"),
    )
)


def endpoint_facts(endpoint: Endpoint, workers: int) -> dict[str, str]:
    """Return one line for each thing that the operator decides; what is off and off by default is
    left out."""
    e = endpoint
    facts = {
        "events": ", ".join(e.events) or "all",
        "topics": ", ".join(e.topic_filters) or "all",
        "where": " and ".join(e.where),
        "sample": f"{e.sample:.6g} of the events, chosen by their ids" if e.sample < 1 else "",
        "threshold": f"only what exceeds {e.threshold} of its type" if e.threshold else "",
        "envelope": _ENVELOPES[e.envelope],
        "signature": _signature(e),
        "headers": ", ".join(e.headers),
        "timeout": f"{e.timeout}, of which {min(e.connect_timeout, e.timeout)} to connect",
        "attempts": attempts(e.retry),
        "tried again": ", ".join(e.retry.retry_on) or "nothing",
        "breaker": f"opens after {plural(e.circuit_breaker.failure_threshold, 'failure')} in a row, "
        f"probes after {e.circuit_breaker.reset_timeout}",
        "requests": _requests(e, workers),
        "rate": f"at most {e.rate_limit}" if e.rate_limit else "",
        "payload": f"at most {e.max_payload}" if e.max_payload else "",
        "ttl": f"dropped {e.ttl} after it was accepted" if e.ttl else "",
        "aggregate": _aggregate(e),
        "batch": _batch(e),
        "compression": _compression(e),
        "http": "HTTP/2, many requests on a connection" if e.http_version == "2" else "",
        "record": "every delivery" if e.record == "all" else "",
        "order": _order(e),
        "proxy": shown_url(e.proxy) if e.proxy else "",
        "tls": _tls(e),
        "paused": "yes: deliveries wait in the store" if e.paused else "",
    }
    for option in options(Endpoint):
        value = value_at(endpoint, option.path)
        if option.path not in _SPOKEN_OF and value != option.default:
            facts[option.path.replace("_", " ")] = "yes" if value is True else written(value)
    return {name: fact for name, fact in facts.items() if fact}


def engine_facts(config: Config) -> dict[str, str]:
    workers = worker_count(config)
    sizes = Snapshot(version=0, workers=workers, config=config, ids={})
    kind, _, interval = config.durability.partition(":")
    facts = {
        "delivers": "" if config.enabled else "nothing: enabled is false",
        "workers": f"{workers}" + ("" if config.workers else ", one for each core up to 4"),
        "queue": f"{number(config.queue_size)} events in {config.ring_bytes} for each publisher; "
        f"{number(sizes.ring_queue_size)} in {mib(sizes.ring_bytes)} for each of its rings",
        "when full": _DROPS.get(
            config.drop_policy,
            f"emit waits for up to {config.block_timeout}, then the event is refused",
        ),
        "largest event": f"{config.max_event_bytes}",
        "payloads": "message.published carries its payload" if config.include_payload else "",
        "durability": f"{kind}: {_DURABILITY[kind].format(interval)}",
        "shutdown": f"delivers for up to {config.shutdown_timeout}; what is left waits for the next "
        "start",
        "reserved": f"{reservation(config)}; publishers are at most {number(config.max_publishers)}. "
        "On disk, as the files are made; held in memory as it is used",
        "admin": _admin(config),
        "data": config.data_dir or "",
        "networks": ", ".join(config.allow_networks) or "public addresses only",
    }
    return {name: fact for name, fact in facts.items() if fact}


def plan(config: Config) -> dict[str, Any]:
    """Return the same for scripts: what follows from the configuration and does not stand in it."""
    workers = worker_count(config)
    sizes = Snapshot(version=0, workers=workers, config=config, ids={})
    reserved = reservation(config)
    return {
        "workers": workers,
        "queue_size_per_ring": sizes.ring_queue_size,
        "ring_bytes_per_ring": sizes.ring_bytes,
        "reserved_bytes_engine": reserved.engine,
        "reserved_bytes_per_publisher": reserved.publisher,
        "reserved_bytes_per_worker": reserved.worker,
        "reserved_bytes": reserved.total,
        "endpoints": {
            endpoint.name: {
                "max_attempts": max_attempts(endpoint.retry),
                "retries_after_first_failure_s": [
                    ns / 1e9 for ns in retry_times_ns(endpoint.retry)
                ],
            }
            for endpoint in config.endpoints
        },
    }


def attempts(retry: Retry) -> str:
    """Return a sentence such as `5 attempts: at once, then 15s, 2m, 10m, 1h after the first
    failure`."""
    times = list(map(_coarse, retry_times_ns(retry)))
    if not times:
        return "1, never tried again"
    if len(times) > SPELLED_OUT:
        times[SPELLED_OUT:] = ["...", times[-1]]
    jitter = f", each wait up to {retry.jitter:.0%} shorter" if retry.jitter else ""
    return (
        f"{number(max_attempts(retry))}: at once, then {', '.join(times)} after the first failure"
        f"{jitter}"
    )


def retry_times_ns(retry: Retry) -> list[int]:
    """Return when each retry is due, in nanoseconds after the first failure, if to fail takes no time
    and jitter takes nothing off."""
    times: list[int] = []
    elapsed_ns = 0
    for failed in range(1, max_attempts(retry)):
        elapsed_ns += next_delay_ns(retry, failed, 0.0, since_first_ns=elapsed_ns) or 0
        times.append(elapsed_ns)
    return times


def _coarse(ns: int) -> str:
    """Return a duration in milliseconds; of a minute or more, in seconds."""
    unit_ns = 1_000_000_000 if ns >= 60_000_000_000 else 1_000_000
    return str(Duration(ns - ns % unit_ns))


def _requests(endpoint: Endpoint, workers: int) -> str:
    """Say how many requests go out at a time, and from how many workers."""
    if endpoint.ordered and endpoint.order_key is None:
        return "one at a time"
    limit = endpoint.concurrency
    if endpoint.ordered or limit < workers:
        return f"at most {number(limit)} at a time, all from one worker"
    share, over = divmod(limit, workers)
    each = number(share) if not over else f"{number(share)} or {number(share + 1)}"
    return f"at most {number(limit)} at a time, {each} from each worker"


def _signature(endpoint: Endpoint) -> str:
    if endpoint.signature == "none":
        return "none"
    header = HEADERS[endpoint.signature]
    return f"{endpoint.signature}: {header}, with {plural(len(endpoint.secrets), 'secret')}"


def _aggregate(endpoint: Endpoint) -> str:
    types = gathered(endpoint.aggregate, endpoint.events)
    if not types:
        return ""
    return f"{', '.join(types)} of {endpoint.aggregate.window} become one notification"


def _batch(endpoint: Endpoint) -> str:
    b = endpoint.batch
    if b.max_events is None:
        return ""
    return (
        f"{_FORMATS[b.format]}: up to {plural(b.max_events, 'event')} in one request of at most "
        f"{b.max_bytes}, after {b.max_delay} at the latest"
    )


def _compression(endpoint: Endpoint) -> str:
    if endpoint.compression == "none":
        return ""
    return f"{endpoint.compression}, for bodies of {MIN_BYTES} bytes or more"


def _order(endpoint: Endpoint) -> str:
    if not endpoint.ordered:
        return ""
    scope = f"of each {endpoint.order_key}" if endpoint.order_key else "of all events"
    then = "waits for it" if endpoint.on_head_failure == "block" else "goes on without it"
    return f"kept {scope}; what is behind a failing event {then}"


def _tls(endpoint: Endpoint) -> str:
    tls = endpoint.tls
    parts = [
        f"{name} {'written out' if is_pem(value) else value}"
        for name, value in (("ca", tls.ca), ("cert", tls.cert))
        if value
    ]
    return ", ".join(parts)


def _admin(config: Config) -> str:
    admin = config.admin
    if not admin.enabled:
        return "off"
    scheme = "https" if admin.cert else "http"
    if admin.tokens or admin.require_token:
        who = plural(len(admin.tokens), "token")
    else:
        who = "open to this machine's users"
    return f"{scheme}://{parse_listen(admin.listen).authority}, {who}"
