"""ablate: which of my training tricks really help, by how much, and how sure can I be?

Everything here is imported on first use, so `import ablate` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate import techniques
    from ablate.analysis.effects import effects
    from ablate.errors import AblateError
    from ablate.recipe.recipe import Recipe
    from ablate.study.study import Study

__version__ = "0.1.0"
__all__ = ["AblateError", "Recipe", "Study", "effects", "techniques"]

_HOMES = {
    "AblateError": "ablate.errors",
    "Recipe": "ablate.recipe.recipe",
    "Study": "ablate.study.study",
    "effects": "ablate.analysis.effects",
}


def __getattr__(name: str) -> Any:
    if name == "techniques":
        return importlib.import_module("ablate.techniques")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ablate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
