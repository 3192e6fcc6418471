"""Which global names a statement uses: those that it cannot do without, and those of annotations alone."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator


def used(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The global names that a statement needs, and those that only annotations name."""
    everything = set(_globals(symtable.symtable(ast.unparse(statement), "text", "exec")))
    for node in ast.walk(statement):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            everything |= _named(annotation.value)
    plain = ast.fix_missing_locations(_WithoutAnnotations().visit(ast.parse(ast.unparse(statement))))
    required = set(_globals(symtable.symtable(ast.unparse(plain), "text", "exec")))
    return required, everything - required


def _globals(table: symtable.SymbolTable) -> Iterator[str]:
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() if top else symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals(child)


def _named(annotation: str) -> set[str]:
    """The names in an annotation that is a string."""
    try:
        tree = ast.parse(annotation, mode="eval")
    except SyntaxError:
        return set()
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


class _WithoutAnnotations(ast.NodeTransformer):
    """Takes annotations out of functions; those of a class's fields are what pydantic goes by."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for inner in ast.walk(node):
            if isinstance(inner, ast.arg):
                inner.annotation = None
            elif isinstance(inner, ast.AnnAssign):
                inner.annotation = ast.Constant(None)
            elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                inner.returns = None
        return node
