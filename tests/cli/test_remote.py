"""How a command finds the admin API, and what it says where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from cli.conftest import READER, CommandSite, Invoke, json
from fluxhook import Admin, Config, Engine
from fluxhook.cli import remote
from fluxhook.cli.exit_codes import ExitCode
from fluxhook.cli.remote import STARTING_S
from fluxhook.transport.process import Child


def test_without_an_engine_it_says_how_to_start_one(invoke: Invoke, stopped: Path) -> None:
    """It says so if there was one before, and if there was none."""
    for directory in ("nowhere", stopped):
        said = invoke("webhook", "list", "--data-dir", directory)
        assert said.exit_code == ExitCode.NOT_RUNNING
        assert f"no engine runs on {Path(directory).absolute()}" in said.stderr
        assert f"`fluxhook serve -c FILE --data-dir {directory}`" in said.stderr
        assert "--data-dir or --api" in said.stderr
    assert not Path("nowhere").exists()


def test_an_engine_without_its_api_gets_one_by_fluxhook_admin(
    invoke: Invoke, tmp_path: Path
) -> None:
    """Nor is an API of the engine's own waited for where the clock was set back since it started; it is
    not started a second time."""
    data = tmp_path / "data"
    with Engine(Config(workers=1), data):
        said = invoke("webhook", "list", "--data-dir", "data")
        engine = json((data / "engine.json").read_bytes())
        later = {**engine, "started": time.time() + 3600, "companion": "fluxhook.admin"}
        (data / "engine.json").write_bytes(msgspec.json.encode(later))
        before = time.monotonic()
        again = invoke("webhook", "list", "--data-dir", "data")
        assert time.monotonic() - before < STARTING_S
    assert said.exit_code == again.exit_code == ExitCode.UNREACHABLE
    assert f"`fluxhook admin --data-dir {tmp_path / 'data'}`" in said.stderr
    assert "does not answer" in again.stderr
    assert "fluxhook admin" not in again.stderr


def test_a_message_names_commands_about_the_same_engine(site: CommandSite) -> None:
    """The options that lead there are those that were given: what it says can be pasted."""
    remote = ("--api", site.admin.url, "--token", site.admin.token)
    for options in (("--data-dir", str(site.data_dir)), remote):
        said = site.run("webhook", "show", "nobody", *options)
        assert said.exit_code == ExitCode.NOT_FOUND
        assert f"`fluxhook webhook list {' '.join(options[:2])}`" in said.stderr
        assert site.admin.token not in said.output
    assert "`fluxhook webhook list`" in site.run("webhook", "show", "nobody").stderr


def test_an_api_that_is_about_to_start_is_waited_for(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after `fluxhook serve` a command finds it; a killed engine's is not waited for."""
    monkeypatch.setattr(remote, "STARTING_S", 60.0)  # a busy machine takes over 10 s to start it
    data = tmp_path / "data"
    config = Config(workers=1, admin=Admin(listen="127.0.0.1:0", dashboard=False))
    with Engine(config, data):
        engine = json((data / "engine.json").read_bytes())
        beginning = {**engine, "started": time.time(), "companion": "fluxhook.admin"}
        (data / "engine.json").write_bytes(msgspec.json.encode(beginning))
        child = Child("serve", str(data), module="fluxhook.admin")
        try:
            said = invoke("webhook", "list", "--data-dir", data)
            assert said.exit_code == ExitCode.OK, said.output
        finally:
            child.drain()
            child.reap()
    (data / "engine.json").write_bytes(msgspec.json.encode(beginning))
    before = time.monotonic()
    assert invoke("webhook", "list", "--data-dir", data).exit_code == ExitCode.NOT_RUNNING
    assert time.monotonic() - before < STARTING_S


def test_what_a_killed_api_has_left_leads_nowhere(invoke: Invoke, stopped: Path) -> None:
    """Its port may be another program's by now: the token must not go there."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    file = stopped / "admin.json"
    file.write_text(f'{{"url": "http://127.0.0.1:9", "token": "t", "pid": {ended.pid}}}')
    said = invoke("webhook", "list", "--data-dir", stopped)
    assert said.exit_code == ExitCode.NOT_RUNNING
    # A pid may be another's by now as well.
    file.write_text(f'{{"url": "http://127.0.0.1:9", "token": "t", "pid": {os.getpid()}}}')
    assert invoke("webhook", "list", "--data-dir", stopped).exit_code == ExitCode.NOT_RUNNING


@pytest.mark.parametrize("content", ["", "[]", '{"url": 1}', "\xff"])
def test_a_damaged_admin_file_is_one_message(invoke: Invoke, stopped: Path, content: str) -> None:
    (stopped / "admin.json").write_bytes(content.encode("latin-1"))
    said = invoke("webhook", "list", "--data-dir", stopped)
    assert said.exit_code == ExitCode.FAILURE
    assert "admin.json is damaged" in said.stderr


def test_a_url_with_a_token_is_asked_instead(site: CommandSite, tmp_path: Path) -> None:
    """The token from an option, a file, standard input or the variable; and never shown."""
    file = tmp_path / "token"
    file.write_text(f"{site.admin.token}\n")
    for options in (("--token", site.admin.token), ("--token-file", file)):
        said = site.run("webhook", "list", "--api", site.admin.url, *options)
        assert said.exit_code == ExitCode.OK, said.output
        assert "filed" in said.stdout
    said = site.run(
        "webhook", "list", "--api", site.admin.url, "--token-file", "-", stdin=site.admin.token
    )
    assert said.exit_code == ExitCode.OK
    variables = {"FLUXHOOK_API": site.admin.url, "FLUXHOOK_TOKEN": "not-this-one"}
    said = site.run("webhook", "list", **variables)
    assert said.exit_code == ExitCode.DENIED
    assert "not-this-one" not in said.output
    said = site.run("webhook", "list", "--data-dir", site.data_dir, **variables)
    assert said.exit_code == ExitCode.OK, "what is written goes before a variable"


def test_a_token_that_allows_too_little_is_told_which_scope_it_lacks(site: CommandSite) -> None:
    said = site.run("webhook", "pause", "filed", "--api", site.admin.url, "--token", READER)
    assert said.exit_code == ExitCode.DENIED
    assert "lacks the scope 'write'" in said.stderr
    assert READER not in said.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--api ftp://x", "https:// or http://"),
        ("--api http://user:pw@x", "user name or password"),
        ("--api http://x?token=y", "has a query"),
        ("--api http://x --data-dir y", "not both"),
        ("--token t", "goes with --api"),
        ("--api http://x --token é", "no token has"),
        ("--api http://x --token t --token-file pyproject.toml", "not both"),
        ("--api http://x --token-file /dev/null", "is empty"),
        ("--api http://x --token-file nowhere", "nowhere"),
        ("--api http://x --token-file binary", "not text in UTF-8"),
    ],
)
def test_options_that_make_no_sense_are_refused(invoke: Invoke, options: str, words: str) -> None:
    Path("pyproject.toml").touch()
    Path("binary").write_bytes(b"\xff")
    said = invoke("webhook", "list", *options.split())
    assert said.exit_code == ExitCode.USAGE
    assert words in said.stderr.replace("\n", " ")
    assert "pw" not in said.stderr


def test_a_token_in_the_clear_is_warned_of(invoke: Invoke) -> None:
    """Only beyond this machine."""
    said = invoke("webhook", "list", "--api", "http://nobody.invalid", "--token", "t")
    assert "travels unencrypted" in said.stderr
    said = invoke("webhook", "list", "--api", "http://127.0.0.1:1", "--token", "t")
    assert "travels unencrypted" not in said.stderr
