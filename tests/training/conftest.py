"""Small real phases: tiny timm networks on the photos of `tests/conftest.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.recipe.recipe import Recipe
from ablate.training.parts import Parts

torch.set_num_threads(1)


@pytest.fixture
def recipe(photos: Path) -> Callable[..., Recipe]:
    """Makes a recipe of two short phases, with fields overridden by dotted name."""

    def make(**overrides: Any) -> Recipe:
        values = {
            "name": "tiny",
            "data": {
                "root": str(photos),
                "table": "table.csv",
                "split": {"column": "is_val"},
            },
            "model": {"arch": "test_efficientnet", "pretrained": False},
            "size": 32,
            "presize": 40,
            "batch_size": 6,
            "phases": [
                {"name": "head", "epochs": 1, "lr": 1e-3, "freeze": True},
                {"name": "body", "epochs": 2, "lr": [1e-4, 1e-3]},
            ],
            "study": {"baseline": ["normalize"], "vary": ["mixup"], "seeds": 2},
        }
        return Recipe.from_dict(values, {name.replace("__", "."): value for name, value in overrides.items()})

    return make


@pytest.fixture
def parts(recipe: Callable[..., Recipe]) -> Callable[..., Parts]:
    """Makes the parts of one phase: `parts("head", on=["mixup"], seed=1, batch_size=4)`."""

    def make(phase: str = "body", on: tuple[str, ...] = (), seed: int = 0, **overrides: Any) -> Parts:
        import dataclasses

        made = recipe(**overrides).parts(phase, on, seed)
        return dataclasses.replace(made, workers=0, device="cpu")

    return make
