"""YAML text as a tree."""

from __future__ import annotations

from typing import Any

import pytest

from fluxhook.config.findings import Findings
from fluxhook.config.source import MAX_BYTES, Plain, parse
from fluxhook.errors import ConfigError


def tree(text: str) -> Any:
    return parse(text, "file.yaml", Findings(), root="webhook")


def test_unquoted_scalars_stay_text() -> None:
    """No unquoted scalar is guessed at: it is the text that was written, marked as plain."""
    text = "[on, off, yes, 1.10, 1:30, 0x10, 010, 2024-01-01, ~, null, .inf]"
    assert tree(text) == text.strip("[]").split(", ")
    assert all(type(item) is Plain for item in tree(text))
    assert all(type(item) is str for item in tree("['on', \"1\"]"))


def test_anchors_aliases_and_merges() -> None:
    """Aliases stand for their anchors, and `<<` merges below the mapping's own keys."""
    text = """
    base: &base {a: 1, b: 2}
    more: &more {b: 3, c: 4}
    own: {<<: [*base, *more], a: 0}
    one: {<<: *base}
    """
    assert tree(text)["own"] == {"a": "0", "b": "2", "c": "4"}
    assert tree(text)["one"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "--- \n...\n"])
def test_empty(text: str) -> None:
    """A text without a value is empty."""
    assert tree(text) is None


@pytest.mark.parametrize("end", ["---", "---\n", "---\n# nothing\n", "...\n---\n~\n---\n"])
def test_an_empty_document_at_the_end(end: str) -> None:
    """Templates leave a separator there; it holds nothing that could be overlooked."""
    assert tree(f"a: 1\n{end}") == {"a": "1"}


@pytest.mark.parametrize(
    ("text", "path", "piece", "remedy"),
    [
        ("a:\n\tb: 1", "file.yaml:2:1", "not YAML", "indent with spaces"),
        ("a: 'x", "file.yaml:", "not YAML", "brackets"),
        ("a: [1, 2", "file.yaml:", "not YAML", "brackets"),
        ("- a\nb: c", "file.yaml:2:1", "not YAML", "indentation"),
        ('a: "\\q"', "file.yaml:1:", "not YAML", "quotes"),
        ("a: %b", "file.yaml:1:4", "not YAML", "quotes"),
        ("a: *b", "file.yaml:1:4", "alias", "quote it"),
        ("a: &b [*b]", "file.yaml:1:8", "alias", "quote it"),
        ("a: 1\n---\n---\nb: 2", "file.yaml:3:1", "second document", "one document"),
        ("a: 1\n---\nb: 2", "file.yaml:2:1", "second document", "one document"),
        ("? [a]\n: b", "file.yaml:1:3", "list or a mapping", "text as key"),
        ("<<: 1", "file.yaml:1:1", "<< without a mapping", "merge"),
        ("a: \x00", "file.yaml", "a character that YAML does not allow", "UTF-8"),
        ("a: \x01", "file.yaml", "a character that YAML does not allow", "UTF-8"),
        ("a: \ud800", "file.yaml", "a character that YAML does not allow", "UTF-8"),
        ("[" * 100_000, "file.yaml:1:66", "nested over 64", "nest less"),
        ("- " * 50_000, "file.yaml:1:", "nested over 64", "nest less"),
        ("? " * 50_000, "file.yaml:1:", "nested over 64", "nest less"),
        ("a:\n  b: " + "{a: " * 5000, "file.yaml:2:", "nested over 64", "nest less"),
        ('{"a":[' * 5000, "file.yaml:1:", "nested over 64", "nest less"),
        ("[" * 66 + "]" * 66, "file.yaml:1:66", "nested over 64", "nest less"),
        ("[\n" * 66, "file.yaml:66:1", "nested over 64", "nest less"),
        ("\n".join(" " * i + "a:" for i in range(1200)), "file.yaml:65:", "nested", "nest less"),
    ],
)
def test_not_yaml(text: str, path: str, piece: str, remedy: str) -> None:
    """A text that is no YAML of ours is one problem with its line and column; deep nesting is no
    crash."""
    with pytest.raises(ConfigError) as caught:
        tree(text)
    (problem,) = caught.value.problems
    assert problem.path.startswith(path)
    assert piece in problem.message
    assert remedy in problem.remedy


def test_a_text_that_is_too_large() -> None:
    """Its size is judged before anybody parses it."""
    with pytest.raises(ConfigError, match="over 64 MiB"):
        tree("- " * (MAX_BYTES // 2) + "[")


def test_aliases_that_explode() -> None:
    """Aliases of aliases count as often as they are used: no small file fills the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="use fewer aliases"):
        tree("\n".join(lines))
    lines = ["a0: &a0 []"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 100)]
    with pytest.raises(ConfigError, match="too deep"):
        tree("\n".join(lines))


def test_duplicate_keys() -> None:
    """A key that stands twice is a problem with both lines; other programs' sections are theirs."""
    findings = Findings()
    parse(
        "server: {a: 1, a: 2}\nwebhook:\n  x: 1\n  y: [{z: 1}]\n  x: 2\n",
        "f",
        findings,
        root="webhook",
    )
    ((path, message, _),) = findings.problems
    assert path == "webhook.x"
    assert message == "the key stands twice, in lines 3 and 5"


def test_unknown_tags() -> None:
    """A tag that asks for another type is a problem under our key, and passed over elsewhere."""
    findings = Findings()
    parse("server: !include x\nwebhook: {a: !s3cret, b: !!str 5}", "f", findings, root="webhook")
    ((path, message, _),) = findings.problems
    assert path == "webhook.a"
    assert "unknown tag" in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "text",
    [
        "secret: *s3cret",
        "secret: 's3cret",
        'secret: "s3cret \\q"',
        "secret: s3cret: s3cret",
        "secret: %s3cret",
        "secret: @s3cret",
        "secret: `s3cret",
        "secret: s3cret\n\tx",
        "secret: [s3cret",
        "secret: !<s3cret",
        "secret: |s3cret",
        "secret: &s3cret *s3cret",
    ],
)
def test_errors_show_no_secret(text: str) -> None:
    """No syntax error quotes the text, which may hold a secret."""
    with pytest.raises(ConfigError) as caught:
        tree(text)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
