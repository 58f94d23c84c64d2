"""Whether a configuration can be used. The file loader and hosts that build one in Python both ask
here, so that there is one set of rules."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from fluxhook.config.endpoint_rules import check_endpoint, check_options
from fluxhook.config.findings import Findings, Notice
from fluxhook.config.layers import assemble
from fluxhook.config.limits import check_limits
from fluxhook.config.listen_address import parse_listen
from fluxhook.config.networks import Network, carries, parse_network
from fluxhook.config.schema import Admin, Config, Endpoint
from fluxhook.config.typecheck import check_types
from fluxhook.config.typed_values import read_struct
from fluxhook.config.unicode import check_unicode
from fluxhook.config.units import Duration, Size
from fluxhook.config.workers import DEFAULT_WORKERS, IN_FLIGHT, processes
from fluxhook.events.catalog import TYPES
from fluxhook.events.names import declared_fault

__all__ = ["EVENTS_PER_RING", "OWN_PATHS", "check", "known_types", "unencrypted", "validate"]

#: A ring of fewer of the largest events would stand full or empty most of the time.
EVENTS_PER_RING: Final = 4
#: Linux's PATH_MAX; far above any sensible name.
_MAX_LABEL: Final = 4096
#: Arbitrary: 96 bits in hexadecimal.
MIN_TOKEN: Final = 16
#: RFC 6750 section 2.1
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
#: segments of RFC 3986 section 3.3, without what a page would have to escape
_ROOT_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+){1,16}", re.ASCII)
#: how paths of the admin process begin
OWN_PATHS: Final = frozenset(
    (
        *("v1", "schema", "healthz", "readyz", "metrics", "login", "logout", "favicon.ico"),
        *(
            "endpoints",
            "deliveries",
            "retries",
            "dead-letters",
            "lists",
            "audit",
            "changes",
            "history",
        ),
        *("_dashboard", "_nicegui", "_nicegui_ws"),
    )
)


def validate(config: Config) -> list[Notice]:
    """Check a configuration built in Python; paths are `endpoints[0].url`.

    Returns what the operator should know; raises one ConfigError with every problem (problems with
    types first, as no other rule can be asked about a value of the wrong type). Touches no file.
    """
    findings = Findings()
    check_types(config, "", findings)
    findings.raise_problems()
    check(config, "", findings)
    findings.raise_problems()
    return findings.notices


def check(config: Config, path: str, findings: Findings) -> None:
    """Report all that is wrong with the values of a configuration whose types are right.

    `path` ends in a dot or is empty. Where `findings` already holds a problem with a field, the
    field is taken to hold its default, and rules about several fields leave it alone.
    """
    check_unicode(msgspec.structs.replace(config, endpoints=()), path, findings)
    check_limits(config, path, findings)
    _check_workers(config.workers, path + "workers", findings)
    _check_durability(config.durability, path + "durability", findings)
    for name in ("gateway_node", "broker_id", "data_dir", "tls_folder"):
        _check_label(getattr(config, name), path + name, findings)
    for i, name in enumerate(config.event_types):
        if fault := declared_fault(name):
            findings.problem(f"{path}event_types[{i}]", fault, 'write one such as "order.created"')
    _check_ring(config, path, findings)
    allowed = _check_networks(config, path + "allow_networks", findings)
    known = known_types(config)
    _check_admin(config.admin, path + "admin.", findings)
    _check_defaults(config.defaults, path + "defaults", findings)
    if findings.sound(path + "max_endpoints") and len(config.endpoints) > config.max_endpoints:
        findings.problem(
            path + "endpoints",
            f"there are {len(config.endpoints)}, more than max_endpoints ({config.max_endpoints})",
            "raise max_endpoints",
        )
        return
    first: dict[str, int] = {}
    for i, endpoint in enumerate(config.endpoints):
        where = f"{path}endpoints[{i}]."
        check_endpoint(endpoint, where, known, allowed, findings)
        if i != first.setdefault(endpoint.name, i):
            findings.problem(
                where + "name",
                f"{endpoint.name!r:.80} is also the name of endpoints[{first[endpoint.name]}]",
                "give each endpoint a name of its own",
            )


def _check_defaults(defaults: dict[str, Any], path: str, findings: Findings) -> None:
    """Check the defaults, which endpoints that are created at run time have too, whatever the file's
    own say."""
    layer = read_struct(Endpoint, defaults, path, findings, extra={"secret": str})
    if {"secret", "secrets"} <= defaults.keys():
        findings.problem(path + ".secret", "stands beside secrets", "keep one of them")
    layer.pop("secret", None)
    check_options(assemble(Endpoint, {**layer, "name": "", "url": ""}), path + ".", findings)


def known_types(config: Config) -> frozenset[str]:
    """Return every event type that the engine knows of."""
    return frozenset((*TYPES, *config.event_types))


def _check_admin(admin: Admin, path: str, findings: Findings) -> None:
    check_limits(admin, path, findings)
    for i, token in enumerate(admin.tokens):
        # Not judged by their strength, but an empty variable must not open the door.
        if len(token.token) < MIN_TOKEN or not _TOKEN.fullmatch(token.token):
            findings.problem(
                f"{path}tokens[{i}].token",
                f"is shorter than {MIN_TOKEN} characters, or has some that no token may have",
                "write a random text of letters and digits, as `openssl rand -hex 32` gives one",
            )
    if admin.require_token and not admin.tokens and findings.sound(path + "tokens"):
        findings.notice(
            path + "require_token",
            "there are no tokens: nobody but the command line of the engine's user gets in",
        )
    for name, missing in (("cert", "key"), ("key", "cert")):
        if getattr(admin, name) is not None and getattr(admin, missing) is None:
            findings.problem(
                f"{path}{name}", f"is given without a {missing}", f"add admin.{missing}"
            )
    _check_proxy(admin, path, findings)
    try:
        listen = parse_listen(admin.listen)
    except ValueError as error:
        findings.problem(
            path + "listen", str(error), 'write an address and a port, such as "127.0.0.1:8090"'
        )
        return
    if admin.enabled and not admin.tokens and not listen.loopback:
        findings.problem(
            path + "listen",
            f"{admin.listen} can be reached from other machines, and there is no token",
            "add admin.tokens, or listen on 127.0.0.1",
        )
    if admin.enabled and (said := unencrypted(admin)):
        findings.notice(path + "listen", said)


def _check_proxy(admin: Admin, path: str, findings: Findings) -> None:
    """Check what is said of a proxy before the API. All that it lets through comes from an address of
    this machine, so being here stands for nothing any more."""
    if admin.root_path and not _ROOT_PATH.fullmatch(admin.root_path):
        findings.problem(
            path + "root_path",
            f"{admin.root_path!r:.80} is not a path below which pages can stand",
            'write one such as "/hooks", without a slash at its end',
        )
    elif admin.root_path and admin.root_path.split("/")[1] in OWN_PATHS:
        findings.problem(
            path + "root_path",
            f"{admin.root_path!r} begins as a path of the API or the dashboard itself",
            'choose another, such as "/hooks"',
        )
    for i, text in enumerate(admin.trusted_proxies):
        try:
            parse_network(text)
        except ValueError as error:
            findings.problem(
                f"{path}trusted_proxies[{i}]", str(error), 'write one such as "127.0.0.1"'
            )
    for name in ("root_path", "trusted_proxies"):
        if getattr(admin, name) and not admin.tokens and not admin.require_token:
            findings.problem(
                path + name,
                "everybody that the proxy lets through could do everything, as there is no token",
                "add admin.tokens, or require_token: true",
            )


def unencrypted(admin: Admin) -> str:
    """Return what to say of tokens that travel unencrypted beyond this machine; "" if none do."""
    if admin.cert is not None or parse_listen(admin.listen).loopback:
        return ""
    return (
        f"{admin.listen} can be reached from other machines, and tokens travel there unencrypted; give "
        "admin.cert and admin.key, or listen on 127.0.0.1 behind a proxy that speaks TLS"
    )


def _check_workers(workers: int | None, path: str, findings: Findings) -> None:
    if workers is not None and findings.sound(path) and (count := processes(workers)) < workers:
        findings.notice(
            path,
            f"{workers} become {count} processes, each with up to {IN_FLIGHT:,} requests at a time",
        )


def _check_durability(value: str, path: str, findings: Findings) -> None:
    if value in ("process", "power"):
        return
    kind, _, interval = value.partition(":")
    try:
        if kind == "interval" and Duration.parse(interval):
            return
    except ValueError:
        pass
    findings.problem(
        path,
        f"{value!r:.80} is not a durability",
        "write process, power or an interval such as interval:100ms",
    )


def _check_label(value: str | None, path: str, findings: Findings) -> None:
    """Check a name that goes into every event, or a path."""
    if value is None:
        return
    if not value or not value.isprintable() or value != value.strip() or len(value) > _MAX_LABEL:
        findings.problem(
            path,
            f"{value!r:.80} is empty, very long, or holds control characters or outer spaces",
            "write a plain text, or leave it out",
        )


def _check_networks(config: Config, path: str, findings: Findings) -> tuple[Network, ...] | None:
    """Return the allowed networks; None if one is not sound, so that no address can be judged."""
    networks = []
    for i, text in enumerate(config.allow_networks):
        try:
            network = parse_network(text)
        except ValueError as error:
            findings.problem(
                f"{path}[{i}]", str(error), 'write one such as "10.0.0.0/8" or "fd00::/8"'
            )
            continue
        networks.append(network)
        if not network.prefixlen:
            findings.notice(
                f"{path}[{i}]",
                f"{text} allows every private and special IPv{network.version} address",
            )
        elif carries(network):
            findings.notice(
                f"{path}[{i}]",
                f"an address in {text} carries an IPv4 address, which has to be public or allowed too",
            )
    return tuple(networks) if findings.sound(path) else None


def _check_ring(config: Config, path: str, findings: Findings) -> None:
    if not findings.sound(*(path + name for name in ("ring_bytes", "workers", "max_event_bytes"))):
        return
    workers = DEFAULT_WORKERS if config.workers is None else processes(config.workers)
    needed = Size(config.max_event_bytes * EVENTS_PER_RING * workers)
    if config.ring_bytes < needed:
        findings.problem(
            path + "ring_bytes",
            f"{config.ring_bytes} shared by {workers} workers is too little: a worker's share must "
            f"hold {EVENTS_PER_RING} events of max_event_bytes ({config.max_event_bytes})",
            f"raise ring_bytes to {needed}, or lower max_event_bytes or workers",
        )
