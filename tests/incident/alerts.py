"""The alerts that Debian's Prometheus raises over scraped metrics, by the rules that are shipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from incident.figures import View
from support.prometheus import fired, scraped

__all__ = ["alerts_view", "of"]

RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "fluxhook.rules.yaml"
SCRAPE_S: Final = 15
#: for each page: longer than any rule waits, and than it looks back
_LASTS_S: Final = 600


def of(alerts: Iterable[str]) -> str:
    """Return the names of alerts as a text, without what they all begin with."""
    return ", ".join(sorted({one.removeprefix("Fluxhook") for one in alerts})) or "none"


def alerts_view(pages: Sequence[str], names: Iterable[str], folder: Path) -> View:
    """Return the alerts of each endpoint that fire at any time since the last of these pages of metrics
    holds; each page holds for ten minutes, which pass at once."""
    scrapes = [scraped(page) for page in pages for _ in range(_LASTS_S // SCRAPE_S)]
    began_s = (len(pages) - 1) * _LASTS_S
    found: dict[str, set[str]] = defaultdict(set)
    for alert in fired(scrapes, RULES, folder, since_s=began_s, at_s=began_s + _LASTS_S - SCRAPE_S):
        found[alert.get("endpoint", "")].add(alert["alertname"])
    return {name: {"alerts": of(found[name])} for name in names}
