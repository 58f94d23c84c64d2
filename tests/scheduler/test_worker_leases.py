"""What is out with which worker."""

from __future__ import annotations

import pytest

from fluxhook.scheduler.worker_leases import WorkerLeases


@pytest.fixture
def leases() -> WorkerLeases:
    leases = WorkerLeases()
    for _ in range(2):
        leases.add_worker()
    return leases


def test_a_report_ends_it(leases: WorkerLeases) -> None:
    """With the worker that reports, and however it got there; what is not known is no error."""
    leases.sent[0] |= {1, 2}
    leases.sent[1] |= {1}
    leases.take_over(0, 3, 7)
    assert leases.sent_in_all == 3
    for id in (1, 3, 99):
        leases.reported(0, id)
    assert leases.sent == [{2}, {1}]
    assert leases.taken_over == [{}, {}]
    assert leases.sent_in_all == 2


def test_what_is_taken_back_is_forgotten(leases: WorkerLeases) -> None:
    """From the worker that is meant, and of what was taken over only what came before."""
    leases.sent[0] |= {1, 2}
    leases.sent[1] |= {3}
    assert leases.take_back_sent(0) == {1, 2}
    assert leases.sent == [set(), {3}]
    for id, seq in ((4, 6), (5, 7), (6, 8)):
        leases.take_over(1, id, seq)
    leases.take_over(0, 9, 1)
    assert leases.take_back_taken_over(1, 7) == [4]
    assert leases.taken_over == [{9: 1}, {5: 7, 6: 8}]
