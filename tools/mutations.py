"""Changes to Python code, one at a time, each of which a test should notice.

Two kinds stand beside the usual ones because the code here is made of them: a statement that is left
out (a report, a swap, a count), and a word for another one of its set (`"dead"` for `"dropped"`, where
both are members of one Literal). Tables at the top of a module change like everything else.

Left alone is what no test can or should notice: annotations, `assert` (it is there for the type
checker), the options of a class, the wording of errors and log lines.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = ["NO_OP", "RAN", "Mutation", "Words", "mutations", "note_statements", "words_of"]

#: The sets of words in which a word stands, each in its order.
Words: TypeAlias = Mapping[str, list[tuple[str, ...]]]
_Path: TypeAlias = tuple[tuple[str, int | None], ...]

_COMPARED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLED: Final = {"min": "max", "max": "min", "any": "all", "all": "any", "lower": "upper"}
#: the fields of a node in which nothing changes
_LEFT_ALONE: Final = ("annotation", "returns", "decorator_list", "bases")


class Mutation(NamedTuple):
    """`new` stands where `path` leads, or nothing does if it is None. `name` is unique in its module,
    and tells what is changed where in a way that other lines do not alter."""

    name: str
    line: int
    path: _Path
    new: ast.AST | None
    #: the name and the first line of the outermost function in whose body it is, as in its code object;
    #: None if it takes effect while the module is loaded
    function: tuple[str, int] | None = None
    #: the line of the statement in which it is
    statement: int = 0

    def apply(self, source: str) -> ast.Module:
        """Return the module with this change."""
        tree = ast.parse(source)
        if not self.path:
            return tree
        node: Any = tree
        for field, index in self.path[:-1]:
            node = getattr(node, field)
            node = node if index is None else node[index]
        field, index = self.path[-1]
        if index is None:
            setattr(node, field, self.new)
        elif self.new is None:
            del getattr(node, field)[index]
        else:
            getattr(node, field)[index] = self.new
        return ast.fix_missing_locations(tree)


#: what `note_statements` calls
RAN: Final = "__ran__"
#: changes nothing: no test can notice it
NO_OP: Final = Mutation("no-op", 0, (), None)


def words_of(sources: Iterable[str]) -> Words:
    """Return the words of all Literal types in these modules; of the sets in which a word stands, two
    count: put the module that is to change first."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if not (isinstance(node, ast.Subscript) and _name(node.value) == "Literal"):
                continue
            members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            constants = [m.value for m in members if isinstance(m, ast.Constant)]
            words = tuple(value for value in constants if isinstance(value, str))
            for word in words:
                if words not in found.setdefault(word, []):
                    found[word].append(words)
    return found


def mutations(source: str, words: Words) -> list[Mutation]:
    """Return all changes to a module, in the order of its lines."""
    tree = ast.parse(source)
    names: Counter[str] = Counter()
    found = []
    for where, path, node, changes in _walk(tree, (), ""):
        for old, path_on, new, text in changes(node, words):
            name = f"{where}: {_text(old)} -> {text or _text(new)}"
            names[name] += 1
            if names[name] > 1:
                name += f" #{names[name]}"
            line = getattr(node, "lineno", getattr(old, "lineno", 0))
            place = _place(tree, path + path_on)
            found.append(Mutation(name, line, path + path_on, new, *place))
    return found


def note_statements(tree: ast.AST, module: str, *, inside: bool = False) -> None:
    """Have each statement of a module's functions call RAN with `module:line` before it runs."""
    for child in ast.iter_child_nodes(tree):
        note_statements(child, module, inside=inside or isinstance(child, ast.FunctionDef))
    for field in ("body", "orelse", "finalbody") if inside else ():
        if isinstance(statements := getattr(tree, field, None), list):
            statements[:] = [
                each
                for i, statement in enumerate(statements)
                for each in (
                    *(
                        ()
                        if i == 0 and _is_docstring(tree, statement)
                        else _note(module, statement)
                    ),
                    statement,
                )
            ]
    ast.fix_missing_locations(tree)


def _note(module: str, statement: ast.stmt) -> list[ast.stmt]:
    return ast.parse(f"{RAN}({f'{module}:{statement.lineno}'!r})").body


def _place(tree: ast.Module, path: _Path) -> tuple[tuple[str, int] | None, int]:
    """Return the outermost function into whose body a path leads, and the line of the innermost
    statement."""
    node: Any = tree
    function = None
    names: list[str] = []
    line = 0
    for field, index in path:
        if isinstance(node, ast.FunctionDef) and field == "body" and function is None:
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            function = ".".join(names), first
        node = getattr(node, field)
        node = node if index is None else node[index]
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        if isinstance(node, ast.stmt):
            line = node.lineno
    return function, line


def _text(node: ast.AST | None) -> str:
    if node is None:
        return "nothing"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _name(node: ast.AST) -> str:
    """Return the last name of a dotted one."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


# ---- where ---------------------------------------------------------------------------------------


def _walk(node: ast.AST, path: _Path, where: str) -> Iterator[tuple[str, _Path, ast.AST, Any]]:
    """Yield each node that may change, with its place."""
    if _is_left_alone(node):
        return
    yield where or "module", path, node, _changes
    for field, value in ast.iter_fields(node):
        if field in _LEFT_ALONE or (isinstance(node, ast.ClassDef) and field == "keywords"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or (index == 0 and _is_docstring(node, child)):
                continue
            inner = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{where}.{child.name}" if where else child.name
            elif not where and isinstance(child, ast.Assign | ast.AnnAssign):
                inner = _text(child.targets[0] if isinstance(child, ast.Assign) else child.target)
            if isinstance(node, ast.Raise) or _is_logging(node):
                continue  # the wording of errors and log lines
            yield from _walk(child, (*path, (field, index)), inner)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.JoinedStr() | ast.Global():
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(value=ast.Subscript(value=ast.Name(id="Literal"))):
            return True
        case ast.Call(func=ast.Name(id="TypeVar" | "cast")):
            return True
    return False


def _is_docstring(parent: ast.AST, child: ast.AST) -> bool:
    return isinstance(parent, ast.Module | ast.ClassDef | ast.FunctionDef) and (
        isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    )


def _is_logging(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and _name(node.func.value) == "log"
    )


# ---- what ----------------------------------------------------------------------------------------

#: the old part, the way from the node to it, the new part, and how that is written if it is nothing
_Change: TypeAlias = tuple[ast.AST, _Path, ast.AST | None, str]


def _changes(node: ast.AST, words: Words) -> Iterator[_Change]:
    match node:
        case ast.Constant():
            for value in _other_values(node.value, words):
                yield node, (), ast.Constant(value), ""
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp() | ast.BinOp():
            yield from _operator_changes(node)
        case ast.If() | ast.IfExp():
            for value in (True, False):
                yield node.test, (("test", None),), ast.Constant(value), f"{value}, always"
        case ast.While():
            yield node.test, (("test", None),), ast.Constant(False), "False, always"
        case ast.comprehension():
            for i, test in enumerate(node.ifs):
                for value in (True, False):
                    yield test, (("ifs", i),), ast.Constant(value), f"{value}, always"
        case ast.Call():
            yield from _call_changes(node)
        case ast.Dict():
            for i, key in enumerate(node.keys):
                keys, values = list(node.keys), list(node.values)
                del keys[i], values[i]
                yield key or node.values[i], (), ast.Dict(keys, values), "no entry"
        case ast.Set(elts=elements) | ast.List(elts=elements, ctx=ast.Load()):
            yield from _without_each(elements)
        case ast.Tuple(elts=elements, ctx=ast.Load()) if len(elements) > 1 and all(
            isinstance(e, ast.Constant | ast.Name) for e in elements
        ):
            yield from _without_each(elements)
    yield from _statement_changes(node)


def _operator_changes(
    node: ast.Compare | ast.BoolOp | ast.UnaryOp | ast.BinOp,
) -> Iterator[_Change]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                for other in _COMPARED[type(op)]:
                    ops = [*node.ops[:i], other(), *node.ops[i + 1 :]]
                    yield node, (), ast.Compare(node.left, ops, node.comparators), ""
        case ast.BoolOp():
            other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node, (), ast.BoolOp(other_op, node.values), ""
            for i in range(len(node.values)):
                rest = [*node.values[:i], *node.values[i + 1 :]]
                yield node, (), rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest), ""
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node, (), node.operand, ""
        case ast.BinOp():
            yield node, (), ast.BinOp(node.left, _COMPUTED[type(node.op)](), node.right), ""


def _call_changes(node: ast.Call) -> Iterator[_Change]:
    if _is_logging(node):
        return
    for i, keyword in enumerate(node.keywords):
        if keyword.arg:
            yield keyword, (("keywords", i),), None, "not given"
    if len(node.args) > 2 and all(isinstance(arg, ast.Call) for arg in node.args):  # a table
        for i, arg in enumerate(node.args):
            yield arg, (("args", i),), None, "no entry"
    if other := _CALLED.get(_name(node.func)):
        if isinstance(node.func, ast.Name):
            yield node.func, (("func", None),), ast.Name(other, ast.Load()), ""
        elif isinstance(node.func, ast.Attribute) and other == "upper":
            func = ast.Attribute(node.func.value, other, ast.Load())
            yield node.func, (("func", None),), func, ""


def _without_each(elements: list[ast.expr]) -> Iterator[_Change]:
    for i, element in enumerate(elements):
        yield element, (("elts", i),), None, "no element"


def _statement_changes(node: ast.AST) -> Iterator[_Change]:
    """Yield changes by which a statement of its body is left out, or works otherwise."""
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(node, field, None)
        if not isinstance(statements, list):
            continue
        for i, child in enumerate(statements):
            if _does_something(child) and not _is_left_alone(child):
                yield child, ((field, i),), ast.Pass(), "nothing"
            if isinstance(child, ast.AugAssign):
                other = _COMPUTED[type(child.op)]()
                yield child, ((field, i),), ast.AugAssign(child.target, other, child.value), ""


def _does_something(child: ast.AST) -> bool:
    match child:
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return True
        case ast.AugAssign() | ast.Return() | ast.Continue() | ast.Break() | ast.Raise():
            return True
        case ast.Delete():
            return True
    return False


def _other_values(value: object, words: Words) -> Iterator[Any]:
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
            yield value - 1
        case bytes():
            yield value + b"?"
        case str() if value in words:
            others = [members[members.index(value) - 1] for members in words[value]]
            yield from list(dict.fromkeys(other for other in others if other != value))[:2]
        case str() if " " not in value:  # others are sentences
            yield value + "?"
