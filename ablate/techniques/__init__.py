"""The techniques, one file each. A new file here, or an entry point `ablate.techniques`, is a new one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ablate.techniques.base import Context, InPhases, Technique, View

__all__ = ["Context", "InPhases", "Technique", "View", "build", "registry"]


@cache
def registry() -> dict[str, type[Technique]]:
    """All techniques by name: those in this folder, then those of other packages."""
    found: dict[str, type[Technique]] = {}
    for module in pkgutil.iter_modules(__path__):
        for member in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if _is_technique(member) and member.__module__ == f"{__name__}.{module.name}":
                found[member.name] = member
    for entry in entry_points(group="ablate.techniques"):
        member = entry.load()
        if _is_technique(member):
            found.setdefault(member.name, member)
    return dict(sorted(found.items()))


def build(name: str, options: dict[str, Any] | None = None) -> Technique:
    """A technique with its options checked.

    Raises:
        KeyError: There is no technique of that name.
        pydantic.ValidationError: The options are wrong.
    """
    return registry()[name].model_validate(options or {})


def _is_technique(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, Technique) and "name" in vars(member)


def __getattr__(name: str) -> type[Technique]:
    """`ablate.techniques.MixUp` and the like, by class name."""
    for technique in registry().values():
        if technique.__name__ == name:
            return technique
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
