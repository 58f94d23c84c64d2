"""What is hidden goes only where it was given for, whatever is changed about an endpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook import Config
from fluxhook import control as c
from fluxhook.errors import ConfigError
from support.scheduler_harness import SchedulerHarness
from support.tls import Authority

URL = "https://hooks.example.com/fg"
MOVED = "https://evil.example/fg"
LAYER = {
    "name": "a",
    "url": URL,
    "events": ["*"],
    "secrets": ["sk_1"],
    "headers": {"Authorization": "Bearer s3cret", "X-Team": "ops"},
}
ANEW = {"secret": "sk_1", "headers": {"Authorization": "Bearer s3cret", "X-Team": "ops"}}
ALL = ["headers.Authorization", "headers.X-Team", "secret"]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data") as harness:
        yield harness


def create(harness: SchedulerHarness, **options: Any) -> None:
    layer = {key: value for key, value in (LAYER | options).items() if value is not None}
    harness.ask(c.Create(layer), c.Subscription)


def update(harness: SchedulerHarness, patch: dict[str, Any]) -> c.Subscription:
    return harness.ask(c.Update("a", patch), c.Subscription)


def refused(harness: SchedulerHarness, patch: dict[str, Any]) -> list[str]:
    """The paths of the problems; nothing was changed."""
    before = harness.endpoint("a")
    with pytest.raises(ConfigError) as caught:
        update(harness, patch)
    assert harness.endpoint("a") == before
    assert "s3cret" not in str(caught.value)
    assert "sk_1" not in str(caught.value)
    return [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize(
    "url",
    [
        MOVED,
        "http://hooks.example.com/fg",
        "https://hooks.example.com:8443/fg",
        "https://hooks.example.com.evil.example/fg",
        "https://evil.example/https://hooks.example.com/fg",
        "https://evil.example?hooks.example.com",
    ],
)
def test_another_origin_gets_nothing_hidden(harness: SchedulerHarness, url: str) -> None:
    """Scheme, host and port are the origin: a patch that moves the URL gives anew all that is hidden,
    and the error names each value."""
    create(harness)
    assert refused(harness, {"url": url}) == ALL
    assert refused(harness, {"url": url, "secret": "sk_2"}) == ALL[:2]
    assert refused(harness, {"url": url, **ANEW, "headers": {"X-Team": "ops"}}) == ALL[:1]
    update(harness, {"url": url, **ANEW})
    assert harness.endpoint("a").url == url
    assert harness.endpoint("a").headers == LAYER["headers"]


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example.com/other?x=1", "HTTPS://HOOKS.example.com:443/fg", URL],
)
def test_the_same_origin_is_no_move(harness: SchedulerHarness, url: str) -> None:
    """Another path or spelling changes nothing about who receives."""
    create(harness)
    update(harness, {"url": url})
    assert harness.endpoint("a").secrets == ("sk_1",)


def test_what_is_removed_needs_no_word(harness: SchedulerHarness) -> None:
    """A user who does not know a header may take it away with the move, one or all of them."""
    create(harness)
    gone: dict[str, Any] = {"Authorization": None, "X-Team": None}
    update(harness, {"url": MOVED, "secret": "sk_2", "headers": gone})
    assert harness.endpoint("a").headers == {}
    update(harness, {"headers": {"X-A": "1"}})
    update(harness, {"url": URL, "secrets": None, "signature": "none", "headers": None})
    assert harness.endpoint("a").headers == {}


def test_nothing_hidden_moves_freely(harness: SchedulerHarness) -> None:
    """An endpoint without headers and secrets goes wherever it is sent."""
    create(harness, headers=None, secrets=None, signature="none")
    update(harness, {"url": MOVED})


def test_a_secret_that_signs_nothing_stays_behind_too(harness: SchedulerHarness) -> None:
    """It could be made to sign by the next change."""
    create(harness, headers=None, signature="none")
    assert refused(harness, {"url": MOVED}) == ["secret"]
    assert refused(harness, {"url": MOVED, "signature": "fluxgate"}) == ["secret"]


def test_secrets_of_a_rotation_stay_behind(harness: SchedulerHarness) -> None:
    """The secrets that are given with the move are all that sign there."""
    create(harness, headers=None)
    harness.ask(c.Rotate("a", "sk_2", 3_600_000_000_000), c.Rotated)
    assert refused(harness, {"url": MOVED}) == ["secret"]
    update(harness, {"url": MOVED, "secret": "sk_3"})
    assert harness.endpoint("a").secrets == ("sk_3",)


@pytest.mark.parametrize("proxy", ["http://evil.example:3128", "socks5h://proxy.example:3128"])
def test_another_proxy_gets_nothing_hidden(harness: SchedulerHarness, proxy: str) -> None:
    """It reads what is sent to an http:// URL, and says where an https:// URL leads."""
    create(harness, url="http://hooks.example.com/fg")
    assert refused(harness, {"proxy": proxy}) == ALL
    update(harness, {"proxy": proxy, **ANEW})
    assert refused(harness, {"proxy": None}) == ALL


def test_a_hidden_query_goes_to_no_other_proxy(harness: SchedulerHarness) -> None:
    """The URL is given anew with the proxy."""
    url = "http://hooks.example.com/fg?token=s3cret"
    create(harness, url=url, headers=None, secrets=None, signature="none")
    assert refused(harness, {"proxy": "http://evil.example:3128"}) == ["url"]
    update(harness, {"proxy": "http://evil.example:3128", "url": url})


def test_the_same_proxy_may_have_another_password(harness: SchedulerHarness) -> None:
    """Its name and port are where requests go."""
    create(harness, proxy="http://user:s3cret@proxy.example:3128")
    update(harness, {"proxy": "http://user:other@PROXY.example:3128"})
    assert refused(harness, {"proxy": "http://user:other@proxy.example"}) == ALL


def test_other_authorities_get_nothing_hidden(harness: SchedulerHarness, tmp_path: Path) -> None:
    """`tls.ca` says who is believed to be the receiver; a client's key stays behind as well."""
    ours, theirs = (Authority(tmp_path / name, name) for name in ("ours", "theirs"))
    identity = ours.issue("client")
    cert, key, ca = (Path(p).read_text() for p in (identity.cert, identity.key, theirs.cert))
    create(harness, tls={"cert": cert, "key": key})
    assert refused(harness, {"tls": {"ca": ca}}) == [*ALL, "tls.key"]
    assert refused(harness, {"url": MOVED, **ANEW}) == ["tls.key"]
    update(harness, {"url": MOVED, **ANEW, "tls": {"cert": cert, "key": key}})
    update(harness, {"url": URL, **ANEW, "tls": None})
    assert harness.endpoint("a").tls.key is None


# ---- defaults of the file ----------------------------------------------------------------------

DEFAULTS = {"headers": {"Authorization": "Bearer s3cret"}, "timeout": "9s"}


def test_headers_of_the_defaults_are_the_files_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They do not reach an endpoint that is created at run time, whose URL may be anybody's; its owner
    is told, and the log says it of those that there are."""
    with SchedulerHarness(tmp_path / "data", defaults=DEFAULTS) as harness:
        made = harness.ask(c.Create(LAYER | {"headers": {"X-A": "1"}}), c.Subscription)
        assert harness.endpoint("a").headers == {"X-A": "1"}
        assert str(harness.endpoint("a").timeout) == "9s"
        assert any("share_default_headers" in notice for notice in made.notices)
        with caplog.at_level(logging.WARNING):
            harness.supervisor.live.load(Config(workers=1, defaults=DEFAULTS))
        assert "share_default_headers" in caplog.text
        assert "s3cret" not in caplog.text


def test_the_file_may_share_them(tmp_path: Path) -> None:
    """`share_default_headers` sends them to whatever is created; a move needs no word of them then."""
    with SchedulerHarness(
        tmp_path / "data", defaults=DEFAULTS, share_default_headers=True
    ) as harness:
        create(harness, headers=None)
        assert harness.endpoint("a").headers == DEFAULTS["headers"]
        update(harness, {"url": MOVED, "secret": "sk_2"})
        harness.supervisor.live.load(Config(workers=1, defaults=DEFAULTS))
        assert harness.endpoint("a").headers == {}
