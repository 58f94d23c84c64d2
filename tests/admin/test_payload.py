"""Bodies of requests whose names are of any length."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest

from fluxhook.admin.models import ReplayRequest
from fluxhook.admin.payload import decode_object, struct_of
from fluxhook.admin.problem_details import RequestError


def test_a_long_name_is_not_kept_with_each_value_below_it() -> None:
    """The memory that a body takes grows with its length, and not with the square of it."""
    body = msgspec.json.encode({"x" * 30_000: {f"k{i}": [1] for i in range(3000)}})
    tracemalloc.start()
    try:
        decode_object(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20  # such paths would take 90 MB


def test_the_first_fault_is_named_by_its_steps() -> None:
    """Each step is cut where it is long."""
    value = {"fine": {"a": [1, {}, []]}, "y" * 5000: [{"b": 0}, {"c": [0, 1 << 63]}], "z": 1 << 64}
    with pytest.raises(RequestError) as refused:
        decode_object(msgspec.json.encode(value))
    assert refused.value.faults[0].field == f"{'y' * 80}[1].c[1]"


def test_an_unknown_name_is_cut() -> None:
    """An answer is not as long as what was sent."""
    with pytest.raises(RequestError) as refused:
        struct_of(ReplayRequest, {"x" * 100_000: 1})
    assert len(str(refused.value)) < 400
    assert "its fields are endpoint" in refused.value.faults[0].remedy
