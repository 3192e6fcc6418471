"""What stages are tested with: small real phases, each optimizer in turn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from optimizers import OPTIMIZERS
from stages import Runner, tiny_recipe

from ablate.recipe.recipe import Recipe
from ablate.training.parts import Parts

torch.set_num_threads(1)


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def optimizer(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Each optimizer in turn, as fastai's `opt_func`."""
    return request.param


@pytest.fixture
def recipe(photos: Path) -> Callable[..., Recipe]:
    """Makes a recipe of two short phases: `recipe(batch_size=4, study__seeds=1)`."""
    return partial(tiny_recipe, photos)


@pytest.fixture
def parts(recipe: Callable[..., Recipe]) -> Callable[..., Parts]:
    """Makes the parts of one phase: `parts("head", on=["mixup"], seed=1, batch_size=4)`."""

    def make(phase: str = "body", on: tuple[str, ...] = (), seed: int = 0, **overrides: Any) -> Parts:
        import dataclasses

        made = recipe(**overrides).parts(phase, on, seed)
        return dataclasses.replace(made, workers=0, device="cpu")

    return make


@pytest.fixture
def runner(recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Runner]:
    """Makes a `Runner` of the tiny recipe: `runner("name of its folder", workers=2, **overrides)`."""

    def make(name: str = "stages", workers: int = 0, **overrides: Any) -> Runner:
        return Runner(recipe(**overrides), tmp_path / name, workers)

    return make
