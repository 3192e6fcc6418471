"""Make a module of a class that was written in a notebook, a script or elsewhere, with all that it uses.

The text is as it was written. What the class uses comes with it: from its own text and from other cells the
functions, classes and constants, everything else as imports. So the module says all, and no pickle is needed.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.util
import math
import sys
from types import FunctionType, ModuleType
from typing import Any

from ablate.errors import AblateError
from ablate.techniques.base import Technique
from ablate.written import modules
from ablate.written.cells import Text, namespace_of, postpones_annotations, text_of
from ablate.written.imports import import_lines, importable
from ablate.written.names import used

_SESSION_ONLY = {"display", "get_ipython", "exit", "quit"}
"""What a notebook adds to Python's own names."""
_BUILTINS = set(dir(builtins)) - _SESSION_ONLY | {"__name__", "__doc__", "__file__"}
_MISSING = object()


def module_text(technique: type[Technique]) -> str:
    """The text of a module that defines a technique as it is in this session.

    Args:
        technique: A class at the top level of a cell, a script or a module.

    Raises:
        AblateError: Its text cannot be found, or it uses something that cannot be written into a file or has
            changed since it was defined.
    """
    if "<locals>" in technique.__qualname__ or "." in technique.__qualname__:
        raise AblateError(
            f"{technique.__name__}: is defined inside {technique.__qualname__.rsplit('.', 1)[0]}; define it "
            "at the top of a cell or a file."
        )
    found = _Extract(technique)
    text = found.text()
    found.compare(sys.modules[modules.load(technique.name, text)[technique.name].__module__])
    return text


class _Extract:
    """The parts of a module, gathered name by name from the class on."""

    def __init__(self, technique: type[Technique]):
        self.who, self.home = technique.__name__, technique.__module__
        self.names = namespace_of(technique)
        own = text_of(technique)
        if own is None or self.who not in own.definitions:
            raise AblateError(
                f"{self.who}: its source cannot be found; define it in a file, or in a notebook's cell "
                "without %% magics."
            )
        if self.names.get(self.who) is not technique:
            raise AblateError(
                f"{self.who}: another {self.who} has been defined since; make the technique anew from that."
            )
        self.own = own
        self.doc = f'"""The technique {technique.name}, as it was written in a notebook or a script."""'
        self.postponed = postpones_annotations(technique)
        self.seen: set[str] = set()
        self.imports: dict[str, tuple[str, str | None]] = {}
        self.parts: list[str] = []
        self.need(self.who, own)

    def text(self) -> str:
        """The module: imports, then what the class uses, then the class."""
        future = ["from __future__ import annotations"] if self.postponed else []
        head = "\n\n".join([self.doc, *future, "\n".join(import_lines(self.imports))]).rstrip("\n")
        return "\n\n\n".join([head, *self.parts]) + "\n"

    def need(self, name: str, text: Text) -> None:
        """Add what a name stands for that is used in a text, unless it is there.

        Raises:
            AblateError: It cannot be written into a file.
        """
        if name in self.seen or (name in _BUILTINS and name not in self.names):
            return
        self.seen.add(name)
        value = self.names.get(name, getattr(builtins, name, _MISSING))
        if value is _MISSING and name not in text.definitions:
            raise AblateError(f"{self.who}: uses {name}, which is not defined here; define it first.")
        text, defined = self._definition(name, value, text)
        statements = text.definitions.get(defined, [])
        if statements and all(isinstance(one, ast.Import | ast.ImportFrom) for one in statements):
            self._add_imports(name, statements, text)
        elif _is_plain(value) and not _stands_there(statements):
            self.parts.append(f"{name} = {value!r}")
        elif statements:
            for statement in statements:
                self._add(statement, text)
            if defined != name:
                self.parts.append(f"{name} = {defined}")
        elif (found := importable(name, value, text, self.home)) is not None:
            self.imports[name] = found
        else:
            raise AblateError(
                f"{self.who}: uses {name}, {_a(value)} of this session, which cannot be written into a file; "
                f"define it in the same cell as {self.who}, or make it an option of the technique."
            )

    def _definition(self, name: str, value: Any, text: Text) -> tuple[Text, str]:
        """The text in which a name is defined now, and the name that it has there."""
        cached = isinstance(value, functools._lru_cache_wrapper)
        if (cached or isinstance(value, type | FunctionType)) and value.__module__ == self.home:
            elsewhere = text_of(value)
            if elsewhere is not None and elsewhere != text:
                for called in (name, value.__name__):
                    if called in elsewhere.definitions:
                        return elsewhere, called
        return text, name

    def _add(self, statement: ast.stmt, text: Text) -> None:
        """Add a statement after all that it uses."""
        part = text.part(statement)
        if part in self.parts:  # it defines several names
            return
        order = [*text.definitions]
        required, optional = used(statement)
        for name in sorted(required, key=lambda one: (order.index(one) if one in order else -1, one)):
            self.need(name, text)
        for name in sorted(optional - required):
            self._need_if_possible(name, text)
        if part not in self.parts:
            self.parts.append(part)

    def _need_if_possible(self, name: str, text: Text) -> None:
        """Add what an annotation names, which need not be there."""
        seen, imports, parts = set(self.seen), dict(self.imports), list(self.parts)
        try:
            self.need(name, text)
        except AblateError:
            self.seen, self.imports, self.parts = seen, imports, parts

    def _add_imports(self, name: str, statements: list[ast.stmt], text: Text) -> None:
        """Add the imports that give a name, and none of what else stands in them."""
        for statement in statements:
            assert isinstance(statement, ast.Import | ast.ImportFrom)
            for alias in statement.names:
                if (alias.asname or alias.name.split(".")[0]) != name:
                    continue
                if isinstance(statement, ast.Import):
                    self.imports[alias.asname or alias.name] = (alias.name, None)
                elif statement.module != "__future__":
                    module = "." * statement.level + (statement.module or "")
                    home = importlib.util.resolve_name(module, text.package) if statement.level else module
                    self.imports[name] = (home, alias.name)

    def compare(self, module: ModuleType) -> None:
        """Refuse a name that means something else in the module than it does in the session."""
        for name, value in vars(module).items():
            now = self.names.get(name, value)
            changed = now is not value if name in self.imports else _is_data(value) and now != value
            if changed and not name.startswith("__"):
                raise AblateError(
                    f"{self.who}: uses {name}, which has changed since; run the cell that defines {name} "
                    f"again, and then that of {self.who}."
                )


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, text or a tuple of such, which its `repr` gives exactly."""
    if type(value) is tuple:
        return all(map(_is_plain, value))
    plain = value is None or type(value) in (bool, int, str, bytes)
    return plain or (type(value) is float and math.isfinite(value))


def _is_data(value: Any) -> bool:
    """Whether a value is plain, or a list or mapping of what is."""
    if type(value) is dict:
        return all(map(_is_data, [*value, *value.values()]))
    return all(map(_is_data, value)) if type(value) in (list, tuple) else _is_plain(value)


def _stands_there(statements: list[ast.stmt]) -> bool:
    """Whether a value need not be known, since statements give it: a single literal, or a choice."""
    if any(isinstance(one, ast.If | ast.Try) for one in statements):
        return True
    return len(statements) == 1 and _is_literal(statements[0])


def _is_literal(statement: ast.stmt) -> bool:
    """Whether a statement gives one name a value that stands there."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(targets[0], ast.Name):
        return False
    try:
        ast.literal_eval(statement.value or ast.Name("nothing"))
    except ValueError:
        return False
    return len(targets) == 1


def _a(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
