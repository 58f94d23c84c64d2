"""Where an endpoint's requests go, in libcurl's options."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import pycurl

from fluxhook.config.url import url_host, url_hostname
from fluxhook.policy.proxy import proxy_use

__all__ = ["MAX_ANSWER_BYTES", "Options", "Target", "one_of_each"]

#: what is read of an answer before the rest is refused; nobody needs more than an error page
MAX_ANSWER_BYTES = 65_536
#: the longest Retry-After that libcurl tells, in seconds (RETRY_AFTER_MAX in its lib/http.c)
_TOLD_RETRY_AFTER_S = 21_600

Options = tuple[tuple[int, Any], ...]


@lru_cache(1024)
def one_of_each(value: Any) -> Any:
    """Return, of equal tuples, always the same object: `is` compares them, and those of a thousand
    endpoints take the room of one in the processor's cache."""
    return value


#: scheme and authority, path, and query of a sound URL
_PARTS = re.compile(rb"([^:]*://[^/?]*)([^?]*)(.*)", re.DOTALL)
#: libcurl writes the escapes of a path in capitals, which to a receiver may be another path
_REWRITTEN = re.compile(rb"%(?:[a-f]|.[a-f])")


def _lookup_url(url: str) -> bytes:
    """Return a URL of the same host; empty where it is an address, which was judged in the
    configuration."""
    return b"" if url_host(url) else f"http://{url_hostname(url)}/".encode()


class Target:
    """How an endpoint is reached. Compared by identity, so keep one for each endpoint.

    Targets with equal `options` (all but the URL) are the cheap case when a handle goes from one to
    the other. With `http2` requests share connections: over https:// where the server agrees (ALPN),
    over http:// in any case, for there it has to know (RFC 9113 section 3.3).
    """

    __slots__ = (
        "distrusted",
        "heeded",
        "heeded_always",
        "looked_up",
        "lookup_url",
        "options",
        "proxy_use",
        "request_target",
        "rewritten",
        "secure",
        "shares",
        "url",
    )

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: int,
        connect_timeout_ms: int,
        proxy: str | None = None,
        http2: bool = False,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_retry_after_s: float = 0.0,
    ) -> None:
        if not http2:
            version = pycurl.CURL_HTTP_VERSION_1_1
        elif url.lower().startswith("https:"):
            version = pycurl.CURL_HTTP_VERSION_2TLS
        else:
            version = pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE
        self.url = url.encode()
        self.proxy_use = proxy_use(url, proxy)
        match = _PARTS.fullmatch(self.url)
        origin, path, query = match.groups() if match else (b"", b"", b"")
        #: what the request line has to hold, and whether libcurl has to be told
        self.request_target = (path or b"/") + query
        self.rewritten = bool(_REWRITTEN.search(path))
        if self.proxy_use == "forward":
            self.request_target = origin + self.request_target  # RFC 9112 section 3.2.2
        #: requests open connections of their own (`Sender.distrust`)
        self.distrusted = False
        #: the heads of answers are read (`Sender.heed`); and always, for they may ask for long waits,
        #: or tell which answer is the proxy's own
        self.heeded = True
        self.heeded_always = max_retry_after_s > _TOLD_RETRY_AFTER_S or self.proxy_use == "forward"
        #: what is looked up before a proxy is asked for it; empty where there is none, or no name
        self.lookup_url = _lookup_url(url) if self.proxy_use else b""
        #: until when that holds (monotonic, in ns), and under which rules
        self.looked_up = (0, -1)
        #: whether requests share connections, as far as is known
        self.shares = http2
        #: whether there is TLS on the connection, to the receiver or to a proxy
        self.secure = "https:" in (url[:6].lower(), (proxy or "")[:6].lower())
        self.options: Options = one_of_each(
            (
                (pycurl.TIMEOUT_MS, timeout_ms),
                (pycurl.CONNECTTIMEOUT_MS, connect_timeout_ms),
                # An empty proxy switches off what the environment says (CURLOPT_PROXY).
                (pycurl.PROXY, proxy or ""),
                (pycurl.HTTP_VERSION, version),
                # While a connection comes about that many requests may share, the others wait.
                (pycurl.PIPEWAIT, int(http2)),
                (pycurl.MAXFILESIZE, max_answer_bytes),
            )
        )
