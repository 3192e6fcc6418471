"""Find the text in which a function or a class was written: a notebook's cell, a script or a module.

`inspect.getsource` knows no cell for a class; but its methods know their file, and a cell is one to
`linecache`.
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import linecache
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from ablate.errors import AblateError

_WRAPPED = ("fget", "func", "__func__", "wrapped")
"""Where properties, cached ones, class and static methods and pydantic's decorators keep a function."""


@dataclass(frozen=True)
class Text:
    """The text of a cell, a script or a module, and what its top level defines."""

    source: str
    package: str = ""
    """The package that its relative imports start from."""

    @cached_property
    def _tree(self) -> ast.Module:
        return ast.parse(self.source)

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """The statements at the top level that define each name, in the text's order."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self._tree.body:
            for name in dict.fromkeys(_defined(statement)):
                found.setdefault(name, []).append(statement)
        return found

    @cached_property
    def star_imports(self) -> list[str]:
        """The modules that everything is imported from."""
        imports = [node for node in self._tree.body if isinstance(node, ast.ImportFrom)]
        return [node.module for node in imports if node.module and node.names[0].name == "*"]

    def part(self, statement: ast.stmt) -> str:
        """A statement as it was written, with the comments above it."""
        lines = self.source.split("\n")
        first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", []))])
        last = statement.end_lineno or first
        shares = [one for one in self._tree.body if one is not statement and _overlap(one, first, last)]
        if shares:  # `a = 1; b = 2`
            return ast.get_source_segment(self.source, statement) or ast.unparse(statement)
        while first > 1 and lines[first - 2].startswith("#"):
            first -= 1
        return "\n".join(lines[first - 1 : last])


def _overlap(statement: ast.stmt, first: int, last: int) -> bool:
    return statement.lineno <= last and (statement.end_lineno or statement.lineno) >= first


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top level defines, as far as it can stand in a module by itself."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
        case ast.Assign():
            nodes = [node for target in statement.targets for node in ast.walk(target)]
            yield from (node.id for node in nodes if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            yield name
        case ast.AugAssign(target=ast.Name(id=name)):
            yield name
        case ast.If() | ast.Try():
            inner = [one for one in ast.walk(statement) if isinstance(one, ast.stmt) and one is not statement]
            # such as a choice between imports, but not what a script does when it is run
            if not any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement)):
                yield from (name for one in inner for name in _defined(one))


def text_of(member: Any) -> Text | None:
    """The text that a function or a class was written in; None if it cannot be found.

    A class without methods is looked for among the cells that were run, the latest first.
    """
    package = str(vars(sys.modules.get(member.__module__, sys)).get("__package__") or "")
    for function in _methods(member) if isinstance(member, type) else [member]:
        written = inspect.unwrap(function)
        file = written.__code__.co_filename
        linecache.checkcache(file)
        if lines := linecache.getlines(file, written.__globals__):
            return _parsed("".join(lines), package)
    if not isinstance(member, type):
        return None
    for source in _other_sources(member):
        text = _parsed(source, package)
        if text and any(isinstance(one, ast.ClassDef) for one in text.definitions.get(member.__name__, [])):
            return text
    return None


@functools.cache
def _parsed(source: str, package: str) -> Text | None:
    text = Text(source.replace("\r\n", "\n").rstrip("\n"), package)
    try:
        text.definitions  # noqa: B018
    except SyntaxError:
        return None
    return text


def postpones_annotations(kind: type) -> bool:
    """Whether a class was compiled under `from __future__ import annotations`, maybe of a cell before."""
    flag = __future__.annotations.compiler_flag
    return any(method.__code__.co_flags & flag for method in _methods(kind))


def _methods(kind: type) -> Iterator[FunctionType]:
    """The functions that were written in a class's own body."""
    for member in vars(kind).values():
        for name in _WRAPPED:
            member = getattr(member, name, None) or member
        unwrapped = inspect.unwrap(member) if callable(member) else member
        if isinstance(unwrapped, FunctionType) and unwrapped.__qualname__.startswith(f"{kind.__qualname__}."):
            yield unwrapped


def _other_sources(kind: type) -> Iterator[str]:
    """The texts that a class without methods may stand in."""
    shell = _shell()
    if kind.__module__ == "__main__" and shell is not None:
        yield from reversed(shell.user_ns.get("In", []))
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file:
        yield "".join(linecache.getlines(file))


def namespace_of(kind: type) -> Mapping[str, Any]:
    """The global names where a class was written.

    Raises:
        AblateError: They cannot be found.
    """
    for method in _methods(kind):
        return method.__globals__
    shell = _shell()
    if kind.__module__ == "__main__" and shell is not None:
        return dict(shell.user_ns)
    if kind.__module__ in sys.modules:
        return vars(sys.modules[kind.__module__])
    raise AblateError(f"{kind.__name__}: where it was written cannot be found; write it in a cell or a file.")


def _shell() -> Any:
    """The running IPython, if there is one."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
