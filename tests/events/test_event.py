"""The order key of an event."""

from __future__ import annotations

import enum
import http
import uuid
from typing import Any

import msgspec
import pytest

from events.samples import sample
from fluxhook.events.event import order_key_of
from fluxhook.events.factory import EventFactory


class Order(msgspec.Struct):
    order: int


class Tenant(enum.Enum):
    A = "tenant-a"


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"k": "tenant-7"}, "tenant-7"),
        ({"k": 7}, "7"),
        ({"k": True}, "True"),
        ({"k": None}, ""),
        ({"k": {"b": 1, "a": [2]}}, '{"a":[2],"b":1}'),
        ({"k": {"a": [2], "b": 1}}, '{"a":[2],"b":1}'),
        ({"k": ["a\0"]}, r'["a\u0000"]'),
        ({"k": uuid.UUID(int=7)}, "00000000-0000-0000-0000-000000000007"),
        ({"k": Tenant.A}, "tenant-a"),
        ({"k": http.HTTPStatus(503)}, "503"),
        ({}, ""),
        ({"k": "a\0b"}, "a�b"),
        (Order(order=1), ""),
    ],
)
def test_order_key(data: Any, key: str) -> None:
    """An order key is the field's text as it is sent, an object's JSON whatever the order of its
    fields, empty where there is none, and never holds a NUL."""
    assert order_key_of(EventFactory().make("order.created", data), "k") == key


def test_order_key_of_a_struct() -> None:
    """Fields of structs are order keys as those of dicts are."""
    assert order_key_of(sample("message.published"), "client_id") == "publisher-1"
