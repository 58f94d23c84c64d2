"""What has to follow from each behaviour of the library (`fluxhook.receiver.faults`)."""

from __future__ import annotations

from typing import Final, NamedTuple

from fluxhook.receiver.faults import FAULTS

__all__ = ["OUTCOMES", "Outcome", "reach"]


class Outcome(NamedTuple):
    """Of one request. `kept`: the next one goes over the same connection."""

    #: of `fluxhook.policy.outcome.CAUSES`
    cause: str
    #: 0: no status that counts
    status: int = 0
    kept: bool = False
    #: a request that is answered is sent on the same connection before
    second: bool = False
    #: what libcurl may take it for as well, by what it notices first
    or_causes: tuple[str, ...] = ()


#: an HTTP/2 connection that goes wrong as a whole; libcurl may notice only when the time is over
_H2_ENDS: Final = Outcome("protocol", or_causes=("reset", "timeout"))

OUTCOMES: Final[dict[str, Outcome]] = {
    # timing, and how connections end
    "hang": Outcome("timeout"),
    "reset": Outcome("reset"),
    "close": Outcome("reset"),
    "slow_head": Outcome("timeout"),
    # heads: one that is no HTTP answers nothing, unless it says 2xx
    "garbage": Outcome("protocol"),
    "big_header": Outcome("server_error", 503),
    "partial_head": Outcome("reset"),
    "many_headers": Outcome("server_error", 503),
    "status_99": Outcome("protocol", 99),
    "status_999": Outcome("protocol", 999),
    "http_9": Outcome("protocol"),
    "nul_in_field": Outcome("protocol"),
    "no_colon": Outcome("protocol"),
    "foreign_bytes": Outcome("server_error", 503, kept=True),
    "interim_answers": Outcome("delivered", 200, kept=True),
    "endless_interim": Outcome("timeout", 103),
    "switching": Outcome("timeout", 101),
    # framing and bodies: the status counts, whatever becomes of the body
    "partial_body": Outcome("server_error", 503),
    "endless": Outcome("server_error", 503),
    "slow_body": Outcome("server_error", 503),
    "no_length": Outcome("server_error", 503),
    "two_lengths": Outcome("protocol"),
    "huge_length": Outcome("server_error", 503),
    "bad_chunk": Outcome("server_error", 503),
    "excess_body": Outcome("delivered", 200),
    # libcurl drops what it has read after the last chunk, and so nothing is left of it
    "excess_chunk": Outcome("delivered", 200, kept=True),
    "body_on_204": Outcome("delivered", 204),
    # kept connections: what came before the next request is not its answer
    "second_answer": Outcome("delivered", 200),
    "unasked_answer": Outcome("delivered", 200),
    "unasked_408": Outcome("delivered", 200),
    "stray_crlf": Outcome("delivered", 200),
    "late_continue": Outcome("delivered", 200),
    "idle_close": Outcome("delivered", 200),
    "idle_reset": Outcome("delivered", 200),
    "dead_after_first": Outcome("timeout", second=True),
    # libcurl sends again by itself, over a new connection, which answers
    "close_at_second": Outcome("delivered", 200, kept=True, second=True),
    # HTTP/2
    "h2_bad_status": _H2_ENDS,
    "h2_bad_value": Outcome("server_error", 503, kept=True),
    "h2_bad_name": Outcome("protocol", kept=True),
    "h2_bad_interim": Outcome("protocol", 103),
    "h2_bad_hpack": _H2_ENDS,
    "h2_reset_stream": Outcome("protocol"),
    "h2_goaway": _H2_ENDS,
    "h2_close": _H2_ENDS,
    "h2_http1": _H2_ENDS,
    "h2_big_frame": _H2_ENDS,
    "h2_push": _H2_ENDS,
    "h2_foreign_stream": _H2_ENDS,
    "h2_dead_after_first": Outcome("timeout", second=True),
    # proxies: their refusal is theirs, what is beyond the tunnel the receiver's
    "proxy_refuse": Outcome("proxy"),
    "proxy_garbage": Outcome("proxy"),
    "proxy_close": Outcome("proxy"),
    "proxy_hang": Outcome("connect_timeout"),
    "tunnel_close": Outcome("tls"),
    "tunnel_hang": Outcome("connect_timeout"),
    "tunnel_garbage": Outcome("tls"),
    "socks_refuse": Outcome("proxy"),
    "socks_auth": Outcome("proxy"),
    "socks_garbage": Outcome("proxy"),
    # TLS
    "open_close": Outcome("tls"),
    "tls_garbage": Outcome("tls"),
    "tls_alert": Outcome("tls"),
    "tls_hang": Outcome("connect_timeout"),
}


def reach(name: str, url: str) -> tuple[str, str | None]:
    """Return the URL of an endpoint, and its proxy, so that the behaviour's receiver at `url` is
    either."""
    kind = FAULTS[name].kind
    if name.startswith("socks"):
        return f"http://127.0.0.1:9/{name}", url.replace("http:", "socks5h:")
    if kind == "proxy":
        return f"https://127.0.0.1:9/{name}", url
    if kind == "opening":
        url = url.replace("http:", "https:")
    return f"{url}/{name}", None
