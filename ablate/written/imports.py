"""Where something of a session can be imported from, and the import statements that do it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from ablate.written.cells import Text
from ablate.written.modules import PREFIX

_LINE = 100


def importable(name: str, value: Any, text: Text, home: str) -> tuple[str, str | None] | None:
    """Module and name to import something from (no name for a module itself); None if there is no such place.

    Its own module comes first, then what the text imports everything from, then any that has it.
    """
    if isinstance(value, ModuleType):
        return (value.__name__, None) if _exists(value.__name__) else None
    called = [str(getattr(value, "__qualname__", name)), str(getattr(value, "__name__", name)), name]
    likely = [str(getattr(value, "__module__", "")), *text.star_imports]
    for module in [*likely, *sorted(sys.modules, key=_privacy)]:
        if module in ("__main__", home) or module not in sys.modules or module.startswith(PREFIX):
            continue
        for attribute in dict.fromkeys(called):
            if getattr(sys.modules[module], "__dict__", {}).get(attribute) is value:
                return module, attribute
    return None


def _privacy(module: str) -> tuple[bool, int, str]:
    """Public modules first, and those near the top of their package."""
    parts = module.split(".")
    return any(part.startswith("_") for part in parts), len(parts), module


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def import_lines(imports: Mapping[str, tuple[str, str | None]]) -> Iterator[str]:
    """Import statements in the usual order: modules first, then names by module."""
    whole = {name: module for name, (module, attribute) in imports.items() if attribute is None}
    for name, module in sorted(whole.items(), key=lambda item: (item[1], item[0])):
        yield f"import {module}" if name == module else f"import {module} as {name}"
    taken: dict[str, list[str]] = {}
    for name, (module, attribute) in imports.items():
        if attribute is not None:
            taken.setdefault(module, []).append(name if name == attribute else f"{attribute} as {name}")
    for module, names in sorted((module, sorted(names)) for module, names in taken.items()):
        line = f"from {module} import {', '.join(names)}"
        if len(line) > _LINE:
            line = f"from {module} import (\n    " + ",\n    ".join(names) + ",\n)"
        yield line
