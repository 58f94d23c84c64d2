"""Endpoints that come, change and go at run time, beside those of the configuration file.

Both make one configuration. The file's own can be paused and resumed; anything else about them is
the file's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from fluxhook.config import definition
from fluxhook.config.definition import (
    free_name,
    merge_patch,
    new_secret,
    normalized,
    signature_of,
    written_as,
)
from fluxhook.config.findings import Notice
from fluxhook.config.schema import Config, Endpoint
from fluxhook.config.units import Duration
from fluxhook.errors import ConfigError, Conflict, Problem, UnknownEndpoint
from fluxhook.events.names import hint
from fluxhook.logs.log import Log
from fluxhook.store import DeliveryStore, SubscriptionRow
from fluxhook.transport.build import build
from fluxhook.transport.engine_clock import EngineClock

__all__ = ["Record", "Subscriptions"]

#: hears of the endpoint before and after a change, None where there is none, once the change is found
#: sound and before it is made; what it raises prevents the change
Record = Callable[[Endpoint | None, Endpoint | None], None]


def _unrecorded(before: Endpoint | None, after: Endpoint | None) -> None:
    pass


log = Log("config")


class _Built(NamedTuple):
    """What a row came to, and why the rules refuse that, if they do."""

    row: SubscriptionRow
    endpoint: Endpoint
    fault: str


class Subscriptions:
    """Keeps them in the store. Nothing takes effect before the supervisor publishes `effective`.

    Every change raises UnknownEndpoint for a name that there is not, Conflict where the endpoint is
    the file's, ConfigError for what cannot be used, StoreError where the disk fails. `now_ns` is
    engine time. `record` hears of a change before it is made; of an `expire`, for which nobody asks,
    afterwards.
    """

    def __init__(self, store: DeliveryStore, config: Config, clock: EngineClock) -> None:
        self._store = store
        self._clock = clock
        self._rows = {row.name: row for row in store.subscriptions()}
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Take over what the file says now. Its endpoints hide those of the same name."""
        self.config = config
        #: what the rows came to under this configuration
        self._built: dict[str, _Built] = {}
        self._of_file = {endpoint.name: endpoint for endpoint in config.endpoints}
        for name in self._rows.keys() & self._of_file.keys():
            log.warning("the file's endpoint %s hides the one that was created at run time", name)
        if config.defaults.get("headers") and not config.share_default_headers and self.created:
            log.warning(
                "the headers of webhook.defaults are not sent to endpoints that were created at run "
                "time, of which there are %d; share_default_headers: true would send them",
                len(self.created),
            )

    def effective(self) -> Config:
        """Return the configuration with all endpoints as they are now."""
        paused = {row.name for row in self._store.endpoints() if row.paused}
        created = [self._build(row).endpoint for row in self._created()]
        endpoints = (*self.config.endpoints, *created)
        return msgspec.structs.replace(
            self.config,
            endpoints=tuple(
                msgspec.structs.replace(e, paused=True) if e.name in paused else e
                for e in endpoints
            ),
        )

    @property
    def refused(self) -> dict[str, str]:
        """Those that the rules refuse now, and why: a default that they leaned on is gone, say."""
        built = {row.name: self._build(row) for row in self._created()}
        return {name: one.fault for name, one in built.items() if one.fault}

    @property
    def created(self) -> frozenset[str]:
        """The names of those that were created at run time."""
        return frozenset(row.name for row in self._created())

    def expire(self, now_ns: int, record: Record = _unrecorded) -> bool:
        """Forget secrets that have signed for long enough; True if there were any."""
        changed = False
        for row in list(self._rows.values()):
            over = {secret for secret, until_ns in row.expiring.items() if until_ns <= now_ns}
            if over:
                kept = [secret for secret in row.layer.get("secrets", ()) if secret not in over]
                left = {secret: ns for secret, ns in row.expiring.items() if secret not in over}
                before = self._build(row).endpoint
                layer = {**row.layer, "secrets": kept}
                self._change(row, now_ns, layer=layer, expiring=left)
                record(before, self._build(self._rows[row.name]).endpoint)
                changed = True
        return changed

    # ---- changes ---------------------------------------------------------------------------

    def create(
        self, written: dict[str, Any], now_ns: int, record: Record = _unrecorded
    ) -> tuple[str, str | None, list[Notice]]:
        """Return its name, its secret if one was asked for, and what its owner should know."""
        layer = normalized(written)
        taken = self._of_file.keys() | self._rows.keys()
        name = layer.pop("name", None)
        if name is None:
            name = free_name(layer.get("url"), taken)
        known = {row.name: row.id for row in self._store.endpoints()}
        if isinstance(name, str):
            if name in taken:
                raise Conflict(f"there is an endpoint {name!r:.80} already; choose another name")
            if waiting := self._store.pending.get(known.get(name, -1)):
                raise Conflict(
                    f"an endpoint {name!r:.80} was deleted just now, and deliveries of it ({waiting}) "
                    "are still being put away; try again in a moment"
                )
            if name not in known and len(known) >= self.config.max_endpoints:
                raise Conflict(
                    f"the data directory has room for {self.config.max_endpoints} names of "
                    "endpoints, and as many were used; give the name of one that was deleted"
                )
        secret = None
        if _flag(layer, "generate_secret"):
            if "secrets" in layer:
                raise ConfigError(
                    Problem("generate_secret", "stands beside a secret", "keep one of them")
                )
            secret = new_secret(signature_of(layer, self.config))
            layer["secrets"] = [secret]
        endpoint, notices = self._define(name, layer, {})
        name = endpoint.name
        record(None, endpoint)
        if name in known:  # what was said of one that was deleted
            self._store.pause_endpoint(known[name], False)
            self._store.enable_endpoint(known[name])
        wall_ns = self._clock.wall_ns(now_ns)
        self._save(SubscriptionRow(name, layer, wall_ns, wall_ns, {}))
        return name, secret, notices

    def update(
        self, name: str, patch: dict[str, Any], now_ns: int, record: Record = _unrecorded
    ) -> list[Notice]:
        """Change the fields that a JSON merge patch (RFC 7396) names; null takes one back to its
        default."""
        row = self._own(name)
        if patch.get("name", name) != name:
            raise ConfigError(
                Problem("name", "cannot be changed", "create another endpoint, and delete this one")
            )
        patch = {key: value for key, value in patch.items() if key != "name"}
        if "secret" in patch:  # null too
            if "secrets" in patch:
                raise ConfigError(Problem("secret", "stands beside secrets", "keep one of them"))
            secret = patch.pop("secret")
            patch["secrets"] = None if secret is None else [secret]
        layer = merge_patch(row.layer, patch)
        endpoint, notices = self._define(name, layer, row.layer)
        before = self._build(row).endpoint
        definition.check_move(before, endpoint, row.layer, patch)
        record(before, endpoint)
        # Secrets that are written out are there to stay.
        expiring = {} if "secrets" in patch else row.expiring
        self._change(row, now_ns, layer=layer, expiring=expiring)
        return notices

    def delete(self, name: str, record: Record = _unrecorded) -> None:
        record(self._build(self._own(name)).endpoint, None)
        self._store.delete_subscription(name)
        del self._rows[name]
        self._built.pop(name, None)

    def check_resumable(self, name: str) -> None:
        """Raise Conflict where the pause stands in the file."""
        if name in self._of_file:
            if self._of_file[name].paused:
                raise Conflict(
                    f"{name!r:.80} is paused in the configuration file; change it there and reload"
                )
        elif name not in self._rows:
            raise self._unknown(name)

    def resume(self, name: str, now_ns: int) -> None:
        """Take back a pause that stands in the definition itself."""
        row = self._rows.get(name)
        if name not in self._of_file and row is not None and row.layer.get("paused"):
            layer = {key: value for key, value in row.layer.items() if key != "paused"}
            self._change(row, now_ns, layer=layer)

    def rotate(
        self,
        name: str,
        secret: str | None,
        overlap: Duration,
        now_ns: int,
        record: Record = _unrecorded,
    ) -> tuple[str, int]:
        """Give an endpoint a new secret; those that it had sign beside it until the engine
        time that is returned."""
        row = self._own(name)
        endpoint = self._build(row).endpoint
        if endpoint.signature == "none":
            raise Conflict(f"{name!r:.80} signs nothing: its signature is none")
        new = new_secret(endpoint.signature) if secret is None else secret
        if new in endpoint.secrets:
            raise ConfigError(
                Problem("secret", "is one that the endpoint has already", "write a new one")
            )
        until_ns = now_ns + overlap.ns
        old = list(endpoint.secrets) if overlap.ns else []
        if old and endpoint.signature == "github":
            raise ConfigError(
                Problem(
                    "overlap",
                    f"{overlap} cannot be: the header of the profile 'github' has room for one "
                    "signature",
                    'write "0s"; the former secret ends at once',
                )
            )
        layer = {**row.layer, "secrets": [new, *old]}
        after, _ = self._define(name, layer, row.layer)
        record(endpoint, after)
        expiring = {s: min(row.expiring.get(s, until_ns), until_ns) for s in old}
        self._change(row, now_ns, layer=layer, expiring=expiring)
        return new, until_ns

    # ---- helpers ---------------------------------------------------------------------------

    def _created(self) -> list[SubscriptionRow]:
        return [row for row in self._rows.values() if row.name not in self._of_file]

    def _define(
        self, name: object, layer: dict[str, Any], former: dict[str, Any]
    ) -> tuple[Endpoint, list[Notice]]:
        """Return the endpoint. Raise ConfigError for what the rules refuse, and for what a worker
        could not build. `former` is the layer that there was."""
        endpoint, notices = definition.define(name, layer, self.config)
        definition.check_tls_paths(layer, former, self.config.tls_folder)
        try:
            build(endpoint)
        except ConfigError as e:
            problems = [p._replace(path=written_as(p.path)) for p in e.problems]
            raise ConfigError(problems, e.more) from None
        return endpoint, notices

    def _build(self, row: SubscriptionRow) -> _Built:
        """Build an endpoint once for each row: a change of one endpoint must not cost time for each
        of the others."""
        known = self._built.get(row.name)
        if known is None or known.row is not row:
            endpoint, fault = definition.build(row.name, row.layer, self.config), ""
            try:
                definition.define(row.name, row.layer, self.config)
            except ConfigError as e:
                fault = "; ".join(map(str, e.problems))
            known = self._built[row.name] = _Built(row, endpoint, fault)
        return known

    def _own(self, name: str) -> SubscriptionRow:
        if name in self._of_file:
            raise Conflict(
                f"{name!r:.80} stands in the configuration file; change it there and reload "
                "(SIGHUP). Here it can be paused, resumed and tested"
            )
        if name not in self._rows:
            raise self._unknown(name)
        return self._rows[name]

    def _change(self, row: SubscriptionRow, now_ns: int, **fields: Any) -> None:
        self._save(row._replace(updated_ns=self._clock.wall_ns(now_ns), **fields))

    def _save(self, row: SubscriptionRow) -> None:
        self._store.save_subscription(row)
        self._rows[row.name] = row

    def _unknown(self, name: str) -> UnknownEndpoint:
        known = self._of_file.keys() | self._rows.keys()
        return UnknownEndpoint(f"there is no endpoint {name!r:.80}{hint(name, known)}")


def _flag(layer: dict[str, Any], key: str) -> bool:
    """Take a key that is true or false out of a layer."""
    value = layer.pop(key, False)
    if not isinstance(value, bool):
        raise ConfigError(
            Problem(key, f"{value!r:.80} is not true or false", "write true or false")
        )
    return value
