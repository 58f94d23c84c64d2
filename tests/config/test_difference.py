"""What a new configuration changes, by name."""

from __future__ import annotations

import msgspec

from fluxhook import Config, Duration, Endpoint
from fluxhook.config.difference import difference, shortened

A = Endpoint(name="a", url="http://h/a", secrets=("sk_secret_1",))
B = Endpoint(name="b", url="http://h/b")


def test_endpoints_and_options_are_named_and_no_value_is() -> None:
    """Added, removed and changed endpoints, the paths of their options, and the engine's own."""
    changed = msgspec.structs.replace(
        A,
        secrets=("sk_secret_2",),
        retry=msgspec.structs.replace(A.retry, initial_interval=Duration.parse("7s")),
    )
    found = difference(
        Config(endpoints=(A, B)),
        Config(endpoints=(changed, Endpoint(name="c", url="http://h/c")), queue_size=7),
    )
    assert found.added == ["c"]
    assert found.removed == ["b"]
    assert {name: set(paths) for name, paths in found.changed.items()} == {
        "a": {"secrets", "retry.initial_interval"}
    }
    assert found.options == ["queue_size"]
    assert "sk_secret" not in str(found)
    assert str(found).startswith("added c; removed b; changed a (")


def test_the_same_configuration_says_so() -> None:
    """A reload that changes nothing is no change of everything."""
    assert str(difference(Config(endpoints=(A,)), Config(endpoints=(A,)))) == "nothing changed"


def test_many_names_are_shortened() -> None:
    """A line stays one that can be read."""
    names = [f"e{n}" for n in range(1000)]
    assert shortened(names)[-1] == "and 980 more"
    assert (
        len(
            str(
                difference(
                    Config(),
                    Config(endpoints=tuple(Endpoint(name=name, url="http://h/") for name in names)),
                )
            )
        )
        < 200
    )
