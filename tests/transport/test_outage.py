"""What the log says of something that goes on failing."""

from __future__ import annotations

import logging

import pytest

from fluxhook.transport.outage import REMIND_S, Outage


def test_a_line_when_it_begins_one_each_minute_and_one_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often it is tried; another reason is told at once."""
    now = 0.0
    outage = Outage("it works again", lambda: now)
    with caplog.at_level(logging.INFO, "fluxhook"):
        outage.worked()
        for _ in range(2 * int(REMIND_S)):
            outage.failed("the disk is full")
            now += 0.499
        assert caplog.messages == ["the disk is full"]
        now = REMIND_S
        outage.failed("the disk is full")
        outage.failed("the disk is gone")
        outage.worked()
        outage.worked()
        outage.failed("the disk is full")
    assert caplog.messages == [
        "the disk is full",
        "the disk is full",
        "the disk is gone",
        "it works again",
        "the disk is full",
    ]
