"""The broker's events, with the fields and the order that FluxMQ's documentation gives them."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "BROKER",
    "AuthFailure",
    "AuthSuccess",
    "ClientConnected",
    "ClientDisconnected",
    "MessageDelivered",
    "MessagePublished",
    "MessageRetained",
    "PublishDenied",
    "SessionTakeover",
    "SubscribeDenied",
    "SubscriptionCreated",
    "SubscriptionRemoved",
]

#: MQTT 5.0 section 4.3
Qos = Annotated[int, Meta(ge=0, le=2)]
#: MQTT 5.0 section 3.1.2.10: two bytes, seconds
KeepAlive = Annotated[int, Meta(ge=0, le=65_535)]
#: MQTT 5.0 section 3.8.2.1.2
SubscriptionId = Annotated[int, Meta(ge=1, le=268_435_455)]
Bytes = Annotated[int, Meta(ge=0)]


class ClientConnected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    protocol: str
    clean_start: bool
    keep_alive: KeepAlive
    remote_addr: str


class ClientDisconnected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    reason: str
    remote_addr: str


class SessionTakeover(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    from_node: str
    to_node: str


class MessagePublished(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`payload` travels as base64, and only where the configuration says `include_payload`."""

    client_id: str
    topic: str
    qos: Qos
    retained: bool
    payload_size: Bytes
    payload: bytes | UnsetType = UNSET


class MessageDelivered(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    topic: str
    qos: Qos
    payload_size: Bytes


class MessageRetained(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    topic: str
    payload_size: Bytes
    cleared: bool


class SubscriptionCreated(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`subscription_id` is left out where the client gave none, as before MQTT 5.0."""

    client_id: str
    topic_filter: str
    qos: Qos
    subscription_id: SubscriptionId | UnsetType = UNSET


class SubscriptionRemoved(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    topic_filter: str


class AuthSuccess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    remote_addr: str


class AuthFailure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    reason: str
    remote_addr: str


class PublishDenied(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    topic: str
    reason: str


class SubscribeDenied(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    client_id: str
    topic_filter: str
    reason: str


BROKER: Final[dict[str, type[msgspec.Struct]]] = {
    "client.connected": ClientConnected,
    "client.disconnected": ClientDisconnected,
    "client.session_takeover": SessionTakeover,
    "message.published": MessagePublished,
    "message.delivered": MessageDelivered,
    "message.retained": MessageRetained,
    "subscription.created": SubscriptionCreated,
    "subscription.removed": SubscriptionRemoved,
    "auth.success": AuthSuccess,
    "auth.failure": AuthFailure,
    "authz.publish_denied": PublishDenied,
    "authz.subscribe_denied": SubscribeDenied,
}
