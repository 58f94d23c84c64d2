"""The section `admin`: tokens, addresses, and that no token is ever shown."""

from __future__ import annotations

from typing import Any

import pytest

from fluxhook.config import codec
from fluxhook.config.check import validate
from fluxhook.config.load import loads
from fluxhook.config.schema import Admin, Config, Token
from fluxhook.config.units import Size
from fluxhook.errors import ConfigError, Problem

GOOD = "0123456789abcdef"


def problems(**options: Any) -> list[Problem]:
    try:
        validate(Config(admin=Admin(**options)))
    except ConfigError as error:
        return error.problems
    return []


def file_problems(text: str, environ: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loads(f"webhook: {{admin: {text}}}", environ=environ or {})
    return caught.value.problems


@pytest.mark.parametrize(
    ("options", "path", "piece"),
    [
        ({"tokens": (Token(token=GOOD[:-1]),)}, "admin.tokens[0].token", "shorter than 16"),
        ({"tokens": (Token(token=""),)}, "admin.tokens[0].token", "openssl rand"),
        ({"tokens": (Token(token=GOOD), Token(token="x" * 20 + " "))}, "admin.tokens[1].token", ""),
        ({"tokens": (Token(token="\u00e9" * 20),)}, "admin.tokens[0].token", "some that no token"),
        ({"listen": "8090"}, "admin.listen", "127.0.0.1:8090"),
        *(
            ({"root_path": path, "tokens": (Token(token=GOOD),)}, "admin.root_path", "/hooks")
            for path in (
                "hooks",
                "/",
                "/hooks/",
                "//h",
                "/a b",
                "/../x",
                "/x/.",
                "/é",
                "/a?b",
                "/<",
            )
        ),
        (
            {"root_path": "/v1", "tokens": (Token(token=GOOD),)},
            "admin.root_path",
            "begins as a path",
        ),
        ({"root_path": "/hooks"}, "admin.root_path", "there is no token"),
        ({"trusted_proxies": ("127.0.0.1",)}, "admin.trusted_proxies", "there is no token"),
        (
            {"trusted_proxies": ("127.0.0.1", "*"), "tokens": (Token(token=GOOD),)},
            "admin.trusted_proxies[1]",
            "127.0.0.1",
        ),
        ({"listen": "0.0.0.0:8090"}, "admin.listen", "there is no token"),
        ({"listen": ":8090"}, "admin.listen", "other machines"),
        ({"listen": "[::]:0"}, "admin.listen", "other machines"),
        ({"cert": "/a.pem"}, "admin.cert", "add admin.key"),
        ({"key": "/a.key"}, "admin.key", "add admin.cert"),
        ({"max_body": Size(1)}, "admin.max_body", "out of range"),
    ],
)
def test_each_rule(options: dict[str, Any], path: str, piece: str) -> None:
    """One fault, one problem, at the field, with what would be right."""
    (problem,) = problems(**options)
    assert problem.path == path
    assert piece in str(problem)


@pytest.mark.parametrize(
    "options",
    [
        {"listen": "127.0.0.1:0"},
        {"listen": "[::1]:8090"},
        {"listen": "0.0.0.0:8090", "tokens": (Token(token=GOOD),)},
        {"listen": "0.0.0.0:8090", "enabled": False},
        {"tokens": (Token(token="abc-._~+/DEF0123=="),)},
    ],
)
def test_what_is_sound(options: dict[str, Any]) -> None:
    """Loopback needs no token, other addresses do; what is switched off listens nowhere."""
    assert problems(**options) == []


def test_the_default_is_safe() -> None:
    """Without a word the API can be reached from this machine alone."""
    assert Admin().listen == "127.0.0.1:8090"


def test_tokens_from_the_environment() -> None:
    """`${NAME}` in a token is the variable's value, which need not be quoted in any way."""
    text = "webhook: {admin: {tokens: [{token: '${T}', name: ops}, {token: 'lit$$eral${T}'}]}}"
    with pytest.raises(ConfigError):
        loads(text, environ={"T": GOOD})  # a dollar sign is none of a token's characters
    config = loads(text.replace("$$", "-"), environ={"T": GOOD}).config
    assert [token.token for token in config.admin.tokens] == [GOOD, f"lit-eral{GOOD}"]
    assert config.admin.tokens[0].scopes == ("read", "write", "emit")


def test_a_variable_that_is_not_set_opens_no_door() -> None:
    """Neither missing nor empty: the engine does not start."""
    (problem,) = file_problems("{tokens: [{token: '${T}'}]}")
    assert problem.path == "webhook.admin.tokens[0].token"
    assert "T is not set" in problem.message
    (problem,) = file_problems("{tokens: [{token: '${T}'}]}", {"T": ""})
    assert "shorter than" in problem.message


@pytest.mark.parametrize(
    ("text", "path", "piece"),
    [
        ("[]", "admin", "not a mapping"),
        ("{tokens: abc}", "admin.tokens", "not a list"),
        ("{tokens: [abc]}", "admin.tokens[0]", "not a mapping"),
        ("{tokens: [{}]}", "admin.tokens[0].token", "is missing"),
        ("{tokens: [{token: null}]}", "admin.tokens[0].token", "is missing"),
        (f"{{tokens: [{{token: {GOOD}, scopes: [all]}}]}}", "admin.tokens[0].scopes[0]", "'all'"),
        (f"{{tokens: [{{token: {GOOD}, scope: [read]}}]}}", "admin.tokens[0].scope", "scopes"),
        ("{lissten: x}", "admin.lissten", "listen"),
        ("{listen: 8090}", "admin.listen", "host:port"),
    ],
)
def test_what_a_file_may_get_wrong(text: str, path: str, piece: str) -> None:
    """Faults of the section have the paths at which they were written."""
    found = {problem.path: str(problem) for problem in file_problems(text)}
    assert piece in found[f"webhook.{path}"]


def test_a_token_is_never_shown() -> None:
    """Not in a repr, not in a problem, whatever is wrong with it or beside it."""
    secret = "s3cret/" * 4
    config = Config(admin=Admin(tokens=(Token(token=secret),)))
    assert "s3cret" not in repr(config)
    assert "***" in repr(config.admin.tokens)
    for text in (
        "{tokens: [{token: 's3cret s3cret s3cret'}]}",
        "{tokens: [{token: [s3cret]}]}",
        "{tokens: [{token: {s3cret: 1}}]}",
        "{tokens: [s3cret]}",
        "{tokens: {token: s3cret}}",
        "{tokens: [{token: '${s3cret'}]}",
        "{tokens: [{token: s3cret, scopes: [everything]}]}",
    ):
        assert "s3cret" not in str(file_problems(text)), text


def test_secrets_of_the_defaults_are_never_shown() -> None:
    """`defaults` holds what was written for all endpoints, secrets among it."""
    config = loads(
        """
        webhook:
          preset: fluxgate
          defaults:
            secrets: [s3cret-1, s3cret-2]
            headers: {Authorization: "${H}"}
            proxy: http://u:s3cret@p.example
          endpoints: [{name: a, url: "https://a.example/"}]
        """,
        environ={"H": "Bearer s3cret"},
    ).config
    assert "s3cret" not in repr(config)
    again = codec.decode(codec.encode(config), Config)
    assert again == config
    assert again.defaults["headers"] == {"Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(again)
    for key in ("secret", "secrets", "headers", "proxy"):
        with pytest.raises(ConfigError) as caught:
            validate(Config(defaults={key: {"s3cret": ["s3cret"]} if key == "headers" else 5}))
        assert "s3cret']" not in repr(caught.value)


def test_a_token_that_is_needed_and_not_there_is_told() -> None:
    """It is sound: the command line of the engine's user has a token of its own."""
    (notice,) = validate(Config(admin=Admin(require_token=True)))
    assert notice.path == "admin.require_token"
    assert validate(Config(admin=Admin(require_token=True, tokens=(Token(token=GOOD),)))) == []
