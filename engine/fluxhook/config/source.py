"""YAML text as a tree of dicts, lists and texts, with nothing lost on the way.

YAML 1.1 guesses types before anyone knows what is wanted: `on` becomes true, `1:30` becomes 90,
1.10 becomes 1.1. Here an unquoted scalar stays the text that was written, marked `Plain`, and the
field that reads it decides, as in Go's yaml.v3, which reads these files for FluxMQ. Duplicate keys,
which PyYAML drops silently, are problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from fluxhook.config.findings import Findings
from fluxhook.config.flow import too_deep
from fluxhook.errors import ConfigError, Problem
from fluxhook.events.nesting import MAX_DEPTH

__all__ = ["MAX_BYTES", "NULLS", "Plain", "Tree", "is_null", "parse"]

Tree = dict[str, Any] | list[Any] | str

#: YAML 1.2 core schema, section 10.3.2
NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
#: Both arbitrary, far above any real file; aliases count as often as they are used.
MAX_BYTES: Final = 64 << 20
_MAX_NODES: Final = 1_000_000

_CORE_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")
)
# libyaml's scanner where PyYAML was built with it, ten times faster.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Plain(str):
    """An unquoted scalar, whose type is decided by the field that reads it."""

    __slots__ = ()


def is_null(value: object) -> bool:
    """Return whether a value says nothing: it is empty, or a null."""
    return value is None or (isinstance(value, Plain) and value in NULLS)


def parse(text: str, where: str, findings: Findings, *, root: str) -> Tree | None:
    """Return the tree of the one document in `text`; None if it is empty.

    Reports duplicate keys and unknown tags, but only under the key `root`: the rest of the file is
    another program's.

    Raises ConfigError, with `where:line:column`, where the text is not YAML. No error shows a part
    of the text, which may hold secrets.
    """
    try:
        if len(text.encode()) > MAX_BYTES:
            problem = Problem(where, f"is over {MAX_BYTES >> 20} MiB", "is it the right file?")
            raise ConfigError(problem)
        if (at := too_deep(text, MAX_DEPTH + 1)) >= 0:
            line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
            raise _nested(f"{where}:{line}:{column}")
        return _Builder(yaml.parse(text, Loader=_Loader), where, findings, root).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        message = f"not YAML: {error.problem or error.context}"
        remedy = "look there, and a line above, at indentation, quotes and brackets"
        if mark and "\t" in "".join(text.splitlines()[mark.line : mark.line + 1]):
            remedy = "indent with spaces: YAML takes no tabs"
        raise ConfigError(Problem(place, message, remedy)) from None
    except (yaml.YAMLError, UnicodeError):
        raise ConfigError(
            Problem(where, "holds a character that YAML does not allow", "save it as plain UTF-8")
        ) from None


class _Builder:
    """Builds the tree from the parser's events.

    Not from composed nodes: PyYAML composes by recursion in C, and deep nesting crashes it.
    """

    def __init__(
        self, events: Iterator[yaml.Event], where: str, findings: Findings, root: str
    ) -> None:
        self.events = events
        self.where = where
        self.findings = findings
        self.root = root
        #: each anchor's value, how many nodes it has, and how far down they go
        self.anchors: dict[str, tuple[Any, int, int]] = {}
        self.nodes = 0
        self.deepest = 0

    def build(self) -> Tree | None:
        tree: Tree | None = None
        start: yaml.Event | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                start = event
            elif start is not None and isinstance(event, yaml.NodeEvent):
                root = self.node(event, "", 0)
                if documents == 1:
                    tree = root
                elif not is_null(root):
                    raise self.fault(start, "a second document", "keep one document, without ---")
        return None if is_null(tree) else tree

    def node(self, event: yaml.Event, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            line, column = _place(event)
            raise _nested(f"{self.where}:{line}:{column}")
        before, above = self.nodes, self.deepest
        self.nodes += 1
        self.deepest = depth
        if isinstance(event, yaml.AliasEvent):
            # An anchor is known once its node is whole, so no node can hold itself.
            if event.anchor not in self.anchors:
                # Not named: it may be an unquoted secret that begins with a star.
                raise self.fault(
                    event, "an alias (*) without its anchor (&)", "quote it, or define it"
                )
            value, size, height = self.anchors[event.anchor]
            self.nodes += size
            self.deepest += height
        elif isinstance(event, yaml.ScalarEvent):
            value = Plain(event.value) if event.style in (None, "") else event.value
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
                value.append(self.node(item, f"{path}[{len(value)}]", depth + 1))
        else:
            value = self.mapping(path, depth)
        if self.nodes > _MAX_NODES or self.deepest > MAX_DEPTH:
            raise self.fault(
                event,
                "too large or too deep once its aliases stand for themselves",
                "use fewer aliases",
            )
        if (tag := getattr(event, "tag", None)) and tag not in _CORE_TAGS:
            self.report(path, "has an unknown tag (!)", "quote the value, or remove the tag")
        if not isinstance(event, yaml.AliasEvent) and (anchor := getattr(event, "anchor", None)):
            self.anchors[anchor] = value, self.nodes - before, self.deepest - depth
        self.deepest = max(above, self.deepest)
        return value

    def mapping(self, path: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line, _ = _place(event)
            key = self.node(event, path, depth + 1)
            if not isinstance(key, str):
                raise self.fault(event, "a key that is a list or a mapping", "use a text as key")
            child = f"{path}.{key}" if path else key
            value = self.node(next(self.events), child, depth + 1)
            if isinstance(key, Plain) and key == "<<":
                merged += value if isinstance(value, list) else [value]
                if not all(isinstance(other, dict) for other in merged):
                    raise self.fault(event, "<< without a mapping", "merge mappings, as <<: *name")
            elif key in own:
                lines_of = f"lines {lines[key]} and {line}"
                self.report(child, f"the key stands twice, in {lines_of}", "remove one of them")
            else:
                own[str(key)] = value
                lines[key] = line
        for other in merged:  # the first has precedence, and the mapping's own keys above all
            own |= {key: value for key, value in other.items() if key not in own}
        return own

    def report(self, path: str, message: str, remedy: str) -> None:
        if path.partition(".")[0] == self.root:
            self.findings.problem(path, message, remedy)

    def fault(self, event: yaml.Event, message: str, remedy: str) -> ConfigError:
        line, column = _place(event)
        return ConfigError(Problem(f"{self.where}:{line}:{column}", message, remedy))


def _nested(place: str) -> ConfigError:
    return ConfigError(Problem(place, f"nested over {MAX_DEPTH} deep", "nest less"))


def _place(event: yaml.Event) -> tuple[int, int]:
    """Return line and column, from 1."""
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)
