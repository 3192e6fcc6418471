"""Recipes written to files, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.errors import RecipeError
from ablate.recipe.recipe import Recipe

START = """\
name: tiny
size: 32
phases:
  - {name: head, epochs: 1, freeze: true}
  - {name: tune, epochs: 2}
"""
"""Five lines that are a recipe; what tests add begins on line 6."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe: START and some more, or a whole text."""

    def write(more: str = "", whole: str | None = None, name: str = "r.yaml") -> Path:
        path = tmp_path / name
        path.write_text(START + more if whole is None else whole, encoding="utf-8")
        return path

    return write


@pytest.fixture
def told(write: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """What loading a recipe that is wrong says, with the folder taken out."""

    def told(more: str = "", whole: str | None = None) -> str:
        with pytest.raises(RecipeError) as caught:
            Recipe.load(write(more, whole))
        return str(caught.value).replace(f"{tmp_path}/", "")

    return told
