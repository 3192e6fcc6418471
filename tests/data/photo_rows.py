"""The photos of `tests/conftest.py` with a table that has more columns, and recipes that show them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ablate.recipe.recipe import Recipe


def with_rows(photos: Path) -> Path:
    """The photos, their table with an age and a site; one site is that of a single validation image."""
    with (photos / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for i, row in enumerate(rows):
        row |= {"age": "" if i == 2 else str(20 + i), "site": ["back", "trunk", "unknown"][i % 3]}
    rows[7]["site"] = "scalp"
    write(photos / "table.csv", rows)
    return photos


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def change(path: Path, number: int, column: str, value: str) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[number][column] = value
    write(path, rows)


def data(root: Path, **changes: Any) -> dict[str, Any]:
    columns = {"numeric": ["age"], "categorical": ["site"], "missing": ["", "unknown"]}
    own = {"root": str(root), "table": "table.csv", "split": {"column": "is_val"}, "tabular": columns}
    return {name: value for name, value in {**own, **changes}.items() if value is not None}


def recipe(root: Path, **changes: Any) -> Recipe:
    study: dict[str, Any] = {"study": {"baseline": ["tabular"]}} if changes.get("tabular", 1) else {}
    phases = [{"name": "one", "epochs": 1}]
    return Recipe.from_dict(
        {"name": "t", "data": data(root, **changes), "phases": phases, "size": 16, **study}
    )
