"""The techniques, one file each. A new file here, or an entry point `ablate.techniques`, is a new one.

A recipe may bring techniques of its own as text, see `ablate.written`; they belong to that recipe
alone, so two recipes in one process may have two versions of one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ablate.techniques.base import Context, InPhases, Technique, View
from ablate.written import modules

__all__ = ["Context", "InPhases", "Technique", "View", "build", "known", "registry"]


@cache
def registry() -> dict[str, type[Technique]]:
    """All techniques that are installed, by name: those in this folder, then those of other packages."""
    found: dict[str, type[Technique]] = {}
    for module in pkgutil.iter_modules(__path__):
        for member in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if modules.is_technique(member) and member.__module__ == f"{__name__}.{module.name}":
                found[member.name] = member
    for entry in entry_points(group="ablate.techniques"):
        member = entry.load()
        if modules.is_technique(member):
            found.setdefault(member.name, member)
    return dict(sorted(found.items()))


def known(sources: Mapping[str, str]) -> dict[str, type[Technique]]:
    """All techniques that a recipe can name: those that are installed, and its own.

    Args:
        sources: The texts of its own techniques, by file name, as `RecipeFields.technique_sources` has them.

    Raises:
        AblateError: A text cannot be imported, or has no technique.
    """
    own = {name: one for file, source in sources.items() for name, one in modules.load(file, source).items()}
    return registry() | own


def build(
    name: str, options: dict[str, Any] | None = None, sources: Mapping[str, str] | None = None
) -> Technique:
    """A technique with its options checked.

    Args:
        name: Its name.
        options: Its options.
        sources: The texts of a recipe's own techniques; see `known`.

    Raises:
        AblateError: A text cannot be imported.
        KeyError: There is no technique of that name.
        pydantic.ValidationError: The options are wrong.
    """
    return known(sources or {})[name].model_validate(options or {})


def __getattr__(name: str) -> type[Technique]:
    """`ablate.techniques.MixUp` and the like, by class name."""
    for technique in registry().values():
        if technique.__name__ == name:
            return technique
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
