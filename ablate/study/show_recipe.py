"""What a notebook shows of a recipe: data, model, phases, techniques and study, each as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from ablate import techniques
from ablate.recipe.recipe import Recipe
from ablate.study.design import factors, phrase
from ablate.study.factors import Factor
from ablate.study.setting import resolved_phases

_ELSEWHERE = ("name", "data", "model", "phases", "techniques", "technique_files", "study")


def recipe_parts(recipe: Recipe) -> list[Table | str]:
    """A recipe in tables: its data and model, its phases, its techniques, its study."""
    found = factors(recipe.study, list(techniques.known(recipe.technique_sources)))
    return [_settings(recipe), _phases(recipe), _techniques(recipe, found), _study(recipe, found)]


def _settings(recipe: Recipe) -> Table:
    table = Table(title=recipe.name, show_header=False)
    table.add_column()
    table.add_column()
    given = recipe.to_dict()
    for name, value in given.get("data", {}).items():
        table.add_row(f"data.{name}", _told(value))
    for name, value in recipe.model.model_dump(exclude_none=True).items():
        table.add_row(f"model.{name}", _told(value))
    for name, value in given.items():
        if name not in _ELSEWHERE:
            table.add_row(name, _told(value))
    return table


def _phases(recipe: Recipe) -> Table:
    """The phases before techniques change them."""
    table = Table("phase", "trains", "epochs", "size", "batch size", "rate", title="phases")
    for phase in resolved_phases(recipe, []):
        trained = "the head" if phase.freeze else "all"
        numbers = (phase.epochs, phase.size, phase.batch_size)
        table.add_row(phase.name, trained, *map(str, numbers), _told(phase.lr))
    return table


def _techniques(recipe: Recipe, found: list[Factor]) -> Table:
    """Every technique that the recipe names."""
    table = Table("technique", "in the baseline", "varied", "options", title="techniques")
    varied = {factor.name: ", ".join(level.label for level in factor.levels) for factor in found}
    for variation in recipe.study.variations:
        varied |= dict.fromkeys([*variation.on, *variation.off], "by variant")
    known = techniques.known(recipe.technique_sources)
    named = dict.fromkeys([*recipe.study.baseline, *(name for name in varied if name in known)])
    for name in [*named, *(name for name in recipe.techniques if name not in named)]:
        options = recipe.techniques.get(name, {})
        baseline = "on" if name in recipe.study.baseline else "off"
        table.add_row(name, baseline, varied.get(name, "no"), _told(options) if options else "")
    return table


def _study(recipe: Recipe, found: list[Factor]) -> Table:
    table = Table(title="study", show_header=False)
    table.add_column()
    table.add_column()
    table.add_row("design", phrase(recipe.study, found))
    table.add_row("seeds", _told(recipe.study.seeds))
    table.add_row("metric", recipe.study.metric)
    table.add_row("smallest effect", _told(recipe.study.smallest_effect))
    for name, levels in _fields(recipe, found):
        table.add_row(f"varies {name}", levels)
    return table


def _fields(recipe: Recipe, found: list[Factor]) -> Iterator[tuple[str, str]]:
    """The recipe's fields that are varied, and their levels."""
    known = techniques.known(recipe.technique_sources)
    return (
        (factor.name, ", ".join(level.label for level in factor.levels))
        for factor in found
        if factor.name not in known
    )


def _told(value: Any) -> str:
    """A value much as it is written in a recipe; of a path from the root, its last part alone."""
    match value:
        case dict():
            return ", ".join(f"{name}: {_nested(own)}" for name, own in value.items())
        case list() | tuple():
            return ", ".join(map(_nested, value))
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case float():
            return f"{value:g}"
        case str() if Path(value).is_absolute():
            return f"…/{Path(value).name}"
        case _:
            return str(value)


def _nested(value: Any) -> str:
    told = _told(value)
    return f"{{{told}}}" if isinstance(value, dict) else f"[{told}]" if isinstance(value, list) else told
