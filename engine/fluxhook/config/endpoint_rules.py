"""The rules for one endpoint."""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise
from typing import Final

import msgspec

from fluxhook.config.findings import Findings
from fluxhook.config.headers import content_type, judge_header, media_type
from fluxhook.config.limits import check_limits
from fluxhook.config.networks import Network, judge
from fluxhook.config.schema import Endpoint, Retry, Tls
from fluxhook.config.subscription import check_subscription
from fluxhook.config.unicode import check_unicode
from fluxhook.config.url import PROXY_SCHEMES, Violation, judge_url, url_host

__all__ = ["check_endpoint", "check_options"]

#: RFC 9110 section 15: a 2xx is a success, and a 1xx never final.
_RETRY_ON: Final = re.compile(r"transport|timeout|[345]xx|[345][0-9][0-9]", re.ASCII)
#: Arbitrary; a name is a label in metrics, a word on the command line, a part of an admin URL.
_MAX_NAME: Final = 128
#: Arbitrary, as that of a condition (events/where.py); it is looked up in each event.
_MAX_ORDER_KEY: Final = 1024
#: Arbitrary; each request is signed with it.
_MAX_SECRET: Final = 4096


def check_endpoint(
    endpoint: Endpoint,
    path: str,
    known: frozenset[str],
    allowed: tuple[Network, ...] | None,
    findings: Findings,
) -> None:
    """Report all that is wrong with an endpoint as it is written; `path` ends in a dot.

    Whether its files, packages and keys are of use shows when it is built (transport/build.py).

    `known` are all event types of which the engine knows; `allowed` the networks that its URL may
    lead to, None if they are unknown.
    """
    check_unicode(endpoint, path, findings)
    check_options(endpoint, path, findings)
    check_subscription(endpoint, path, known, findings)
    _check_name(endpoint.name, path + "name", findings)
    _check_headers(endpoint, path + "headers", findings)
    _check_signing(endpoint, path, findings)
    _check_tls(endpoint.tls, path + "tls", findings)
    if findings.sound(path + "type"):  # another protocol's addresses are no URLs of ours
        _check_target(endpoint.url, judge_url(endpoint.url), path + "url", allowed, findings)
    if endpoint.proxy is not None:
        fault = judge_url(endpoint.proxy, schemes=PROXY_SCHEMES, userinfo=True)
        _check_target(endpoint.proxy, fault, path + "proxy", allowed, findings)
        if endpoint.http_version == "2" and _forwards(endpoint.url, endpoint.proxy):
            findings.problem(
                path + "http_version",
                "HTTP/2 to an http:// URL does not pass through an HTTP proxy",
                'write "1.1", an https:// URL, or a socks5 proxy',
            )
    _check_batch(endpoint, path, findings)
    if endpoint.order_key is not None and len(endpoint.order_key) > _MAX_ORDER_KEY:
        findings.problem(
            path + "order_key",
            f"has {len(endpoint.order_key):,d} characters",
            f"write the name of a field, of at most {_MAX_ORDER_KEY:,d} characters",
        )
    if not endpoint.ordered and findings.sound(path + "ordered"):
        if endpoint.order_key is not None:
            findings.problem(
                path + "order_key",
                f"{endpoint.order_key!r:.80} has no effect on an endpoint that is not ordered",
                "add ordered: true, or remove order_key",
            )
        if endpoint.on_head_failure != "block":
            findings.notice(path + "on_head_failure", "has no effect without ordered: true")


def check_options(endpoint: Endpoint, path: str, findings: Findings) -> None:
    """Report what is wrong with options that need not be the endpoint's own, but can be defaults."""
    check_limits(endpoint, path, findings)
    check_limits(endpoint.circuit_breaker, path + "circuit_breaker.", findings)
    check_limits(endpoint.aggregate, path + "aggregate.", findings)
    check_limits(endpoint.batch, path + "batch.", findings)
    _check_retry(endpoint.retry, path + "retry.", findings)


def _forwards(url: str, proxy: str) -> bool:
    """Return whether the proxy reads the requests itself: it tunnels https://, and SOCKS tunnels
    all."""
    return url.lower().startswith("http:") and proxy.lower().startswith("http")


def _check_batch(endpoint: Endpoint, path: str, findings: Findings) -> None:
    if endpoint.batch.max_events is None:
        return
    if endpoint.ordered and findings.sound(path + "ordered"):
        findings.problem(
            path + "batch",
            "an ordered endpoint gets one event at a time, each after the answer to the one before",
            "remove batch, or ordered: true",
        )
    if endpoint.batch.format == "cloudevents" and endpoint.envelope != "cloudevents":
        findings.problem(
            path + "batch.format",
            f"'cloudevents' is a format for CloudEvents, and envelope is {endpoint.envelope!r}",
            "write envelope: cloudevents, or the format json or ndjson",
        )


def _check_name(name: str, path: str, findings: Findings) -> None:
    if not name or not name.isprintable() or name != name.strip() or len(name) > _MAX_NAME:
        findings.problem(
            path,
            f"{name!r:.80} is empty, too long, or holds control characters or outer spaces",
            f"write 1 to {_MAX_NAME} printable characters",
        )


def _check_target(
    url: str,
    fault: Violation | None,
    path: str,
    allowed: tuple[Network, ...] | None,
    findings: Findings,
) -> None:
    """Check a target that is an address; a name is judged later, when it has become an address and a
    socket opens to it."""
    if not findings.sound(path):
        return  # a stand-in, or a variable that is not set
    if fault:
        findings.problem(path, *fault)
        return
    address = url_host(url)
    if address and allowed is not None and (refusal := judge(address, allowed)):
        findings.problem(path, refusal.message, refusal.remedy)


def _check_headers(endpoint: Endpoint, path: str, findings: Findings) -> None:
    spelled: dict[str, str] = {}
    for name, value in endpoint.headers.items():
        if fault := judge_header(name, value, signed=endpoint.signature != "none"):
            findings.problem(f"{path}.{name}", *fault)
        elif other := spelled.get(name.lower()):
            findings.problem(f"{path}.{name}", f"is the same header as {other}", "keep one of them")
        elif name.lower() == "content-type":
            _check_content_type(value, endpoint, f"{path}.{name}", findings)
        spelled[name.lower()] = name


def _check_content_type(written: str, endpoint: Endpoint, path: str, findings: Findings) -> None:
    """FluxMQ sends what its users write."""
    usual = content_type(msgspec.structs.replace(endpoint, headers={}))
    media = media_type(written)
    if media == usual:
        findings.notice(path, f"is not needed: requests are sent as {usual} without it")
    elif written != content_type(endpoint):
        findings.problem(
            path,
            f"{media!r:.80} is not what is sent: {usual}",
            "remove it; `envelope` and `batch.format` decide",
        )
    elif not media.endswith(("/json", "+json")):
        findings.notice(path, f"the body is JSON, and is sent as {media:.80}")


def _check_retry(retry: Retry, path: str, findings: Findings) -> None:
    check_limits(retry, path, findings)
    for i, token in enumerate(retry.retry_on):
        if not _RETRY_ON.fullmatch(token):
            findings.problem(
                f"{path}retry_on[{i}]",
                f"{token!r:.80} is nothing that can be tried again",
                'write transport, timeout, a class such as 5xx, or a status such as "429"',
            )
    schedule = retry.schedule or ()
    for i, (before, after) in enumerate(pairwise(schedule)):
        if before > after:
            findings.problem(
                f"{path}schedule[{i + 1}]",
                f"{after} comes before {before}, and all of them count from the first failure",
                "write them in ascending order",
            )
    first, last = path + "initial_interval", path + "max_interval"
    inverted = retry.schedule is None and retry.initial_interval > retry.max_interval
    if inverted and findings.sound(path + "schedule", first, last):
        findings.problem(
            last,
            f"{retry.max_interval} is below initial_interval ({retry.initial_interval})",
            "raise max_interval, or lower initial_interval",
        )


def _check_signing(endpoint: Endpoint, path: str, findings: Findings) -> None:
    for i, secret in enumerate(endpoint.secrets):
        where = f"{path}secrets[{i}]"
        if findings.sound(where) and (fault := _secret_fault(secret, endpoint.signature)):
            findings.problem(where, *fault)
    if not findings.sound(path + "signature", path + "secrets"):
        return
    if endpoint.signature == "none" and endpoint.secrets:
        findings.notice(path + "secrets", "they are not used: signature is none")
    if endpoint.signature != "none" and not endpoint.secrets:
        findings.problem(
            path + "signature",
            f"{endpoint.signature!r} has no secret to sign with",
            "add a secret, or write signature: none to send without a signature",
        )
    if endpoint.signature == "github" and len(endpoint.secrets) > 1:
        findings.problem(
            path + "secrets",
            "there are several, and the header of the profile 'github' has room for one signature",
            "keep one secret",
        )


def _secret_fault(secret: str, signature: str) -> Violation | None:
    if not secret or secret != secret.strip():
        # A line break at the end of a secret's file is the usual reason why no signature verifies.
        return Violation("is empty or has white space around it", "write the secret alone")
    if len(secret) > _MAX_SECRET:
        return Violation(
            f"has {len(secret):,d} characters", f"write at most {_MAX_SECRET:,d} characters"
        )
    if signature != "standard":
        return None
    prefix, _, encoded = secret.partition("_")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    # Standard Webhooks 1.0; an ed25519 key is its seed, or the seed and the public key.
    if (prefix == "whsec" and 24 <= len(key) <= 64) or (prefix == "whsk" and len(key) in (32, 64)):
        return None
    return Violation(
        "is not a Standard Webhooks secret",
        "write whsec_ and the base64 of 24 to 64 random bytes, or whsk_ and that of an ed25519 key",
    )


def _check_tls(tls: Tls, path: str, findings: Findings) -> None:
    for name, missing in (("cert", "key"), ("key", "cert")):
        if getattr(tls, name) is not None and getattr(tls, missing) is None:
            findings.problem(
                f"{path}.{name}", f"is given without a {missing}", f"add tls.{missing}"
            )
