"""Every place that shows an endpoint's state knows every state that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from fluxhook.admin.metrics import SHOWN_STATES
from fluxhook.admin.models import Webhook, WebhookStatus
from fluxhook.cli.status_view import STATE_STYLES
from fluxhook.config.option import fields_of
from fluxhook.endpoint_state import StateName

ROOT = Path(__file__).parents[2]
STATES = get_args(StateName)
SCRIPT = (ROOT / "engine/fluxhook/admin/dashboard/static/dashboard.js").read_text()
STYLE = (ROOT / "engine/fluxhook/admin/dashboard/static/dashboard.css").read_text()


@pytest.mark.parametrize("kind", [Webhook, WebhookStatus])
def test_the_api(kind: type[msgspec.Struct]) -> None:
    """The types have them all, and the OpenAPI document is made of these."""
    assert set(get_args(fields_of(kind)["state"])) == set(STATES)


def test_metrics() -> None:
    """A removed endpoint has none."""
    assert {*SHOWN_STATES, "removed"} == set(STATES)


def test_the_command_line() -> None:
    """Each has a colour."""
    assert STATE_STYLES.keys() == set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_the_dashboard(state: str) -> None:
    """Each has a picture and a word; a colour too, but for one that is quiet."""
    for block in ("PATHS", "LABELS"):
        (found,) = re.findall(rf"const {block} = {{(.*?)}};", SCRIPT, re.DOTALL)
        assert re.search(rf'(^|\s)"?{state}"?: "', found), block
    assert f'[state="{state}"]' in STYLE or state in ("paused", "removed")


@pytest.mark.parametrize("page", ["cli.md", "api.md", "metrics.md"])
def test_the_documentation(page: str) -> None:
    """The page that shows states names them; of removed endpoints only the command line tells."""
    text = (ROOT / "docs" / page).read_text()
    (listed,) = re.findall(
        r"^(?:`state` is|.*its state \(|\*\*States\*\* are).*?(?=\n\n)", text, re.M | re.S
    )
    missing = {state for state in STATES if state not in listed}
    assert missing <= ({"removed"} if page != "cli.md" else set())
