"""Endpoints that share a name in a file, which FluxMQ allows."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.load import loads
from fluxhook.config.schema import Endpoint
from fluxhook.config.twins import distinguish, recognize


def endpoint(name: str = "a", url: str = "https://x.example/", **options: object) -> Endpoint:
    return Endpoint(name=name, url=url, signature="none", **options)  # type: ignore[arg-type]


def named(endpoints: list[Endpoint]) -> tuple[Endpoint, ...]:
    """As a file with these is loaded."""
    names = distinguish(endpoints)
    return tuple(
        msgspec.structs.replace(e, name=names.get(i, e.name)) for i, e in enumerate(endpoints)
    )


class Engine:
    """Loads one file after the other, and knows under which name each endpoint is."""

    def __init__(self) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.twins: dict[str, str] = {}

    def load(self, *endpoints: Endpoint) -> list[str]:
        self.endpoints, self.twins = recognize(named(list(endpoints)), self.endpoints, self.twins)
        return [e.name for e in self.endpoints]


A, B = endpoint(url="https://a.example/"), endpoint(url="https://b.example/")
C = endpoint(url="https://b.example/", events=("message.published",))
HEADED = endpoint(url="https://b.example/", headers={"Authorization": "x"})

kinds = st.builds(
    endpoint,
    st.sampled_from(["a", "b", "a-b"]),
    st.sampled_from(["https://x.example/", "https://y.example/"]),
    events=st.sampled_from([(), ("message.published",)]),
    headers=st.sampled_from([{}, {"A": "1"}]),
)


def test_each_has_a_name_and_a_notice() -> None:
    """The notice gives the name, and the others that share the written one."""
    text = """
    webhook:
      enabled: true
      endpoints:
      - {name: a, url: https://a.example/}
      - {name: b, url: https://b.example/}
      - {name: a, url: https://c.example/}
    """
    config, notices = loads(text, environ={})
    first, other, second = (e.name for e in config.endpoints)
    assert len({first, other, second}) == 3
    assert other == "b"
    assert [str(notice) for notice in notices] == [
        f"webhook.endpoints[{i}].name: 'a' is also the name of endpoints[{j}]; here it is "
        f"{name!r}, by its url, events and topic_filters"
        for i, j, name in ((0, 2, first), (2, 0, second))
    ]


@given(st.lists(kinds, max_size=6), st.randoms())
def test_the_order_changes_no_name(endpoints: list[Endpoint], random: object) -> None:
    """In whatever order a file lists them, all have names of their own, and each the same."""
    shuffled = list(range(len(endpoints)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before = named(endpoints)
    after = named([endpoints[i] for i in shuffled])
    assert len({e.name for e in before}) == len(endpoints)

    def content(e: Endpoint) -> Endpoint:
        return msgspec.structs.replace(e, name="")

    assert {e.name: content(e) for e in before} == {e.name: content(e) for e in after}


@given(st.lists(st.lists(kinds, max_size=5), max_size=5))
def test_no_name_goes_to_another_endpoint(files: list[list[Endpoint]]) -> None:
    """Whatever comes and goes, a twin's name stays with its URL."""
    engine = Engine()
    urls: dict[str, str] = {}
    for file in files:
        names = engine.load(*file)
        assert len(set(names)) == len(names)
        for written, e in zip(file, engine.endpoints, strict=True):
            if e.name in engine.twins:
                assert engine.twins[e.name] == written.name
                assert urls.setdefault(e.name, e.url) == e.url


def test_a_single_one_keeps_its_name_when_a_twin_comes() -> None:
    """Everything that was stored for it goes on."""
    engine = Engine()
    assert engine.load(A) == ["a"]
    before, twin = engine.load(A, B)
    assert before == "a"
    assert twin != "a"
    assert engine.load(B, A) == [twin, "a"]


def test_the_one_that_is_left_keeps_its_name() -> None:
    """It does not take what was stored for the one that went."""
    engine = Engine()
    first, second = engine.load(A, B)
    assert engine.load(B) == [second]
    assert engine.load(B, A) == [second, first] or first not in engine.load(B, A)
    assert engine.load(B)[0] == second


def test_a_changed_twin_keeps_its_name() -> None:
    """As long as it is sure which it was: other headers, or other events at the same URL."""
    engine = Engine()
    a, b = engine.load(A, B)
    assert engine.load(HEADED, A) == [b, a]
    assert engine.load(A, C) == [a, b]
    assert engine.load(A, endpoint(url="https://elsewhere.example/"))[1] not in (a, b)


def test_same_in_all_but_headers() -> None:
    """They are told apart all the same."""
    engine = Engine()
    x, y = (endpoint(headers={"Authorization": value}) for value in "xy")
    first, second = engine.load(x, y)
    assert first != second
    assert engine.load(y, x) == [second, first]
    z, w = (endpoint(headers={"Authorization": value}) for value in "zw")
    assert not {*engine.load(z, w)} & {first, second}


def test_the_same_in_all() -> None:
    """An endpoint that stands twice, or more often, is as many endpoints, which keep their names while
    the file has them: whichever is which, what is stored goes where it was to go."""
    engine = Engine()
    pair = engine.load(A, A)
    assert len(set(pair)) == 2
    assert engine.load(A, A) == pair
    three = engine.load(A, B, A, A)
    assert {*three} > {*pair}
    assert {*engine.load(A, A)} < {*three}
    assert {*engine.load(A)} < {*three}


def test_one_of_two_is_paused() -> None:
    """It keeps its name, which is that of another that is not; also where it was paused at run time."""
    paused = msgspec.structs.replace(A, paused=True)
    engine = Engine()
    first, second = engine.load(A, paused)
    assert engine.load(A, paused) == [first, second]
    assert engine.load(paused, A) == [second, first]
    assert {*engine.load(A, A)} == {first, second}


def test_names_that_only_look_like_a_twins() -> None:
    """Names that the file writes stay as they are written."""
    engine = Engine()
    lookalike = endpoint("a-0123abcd")
    assert engine.load(lookalike, endpoint("a")) == ["a-0123abcd", "a"]
    assert engine.load(endpoint("a")) == ["a"]
    assert engine.twins == {}
