"""Categories that a training split does not have are told, wherever they turn up."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from photo_rows import change, data, recipe, with_rows
from rich.console import Console

from ablate.data.check import check_data
from ablate.data.items import load_items
from ablate.data.splits import make_folds
from ablate.data.tabular import TabularEncoder
from ablate.data.unseen import new_categories, unseen_categories
from ablate.recipe.data_schema import Data, Tabular
from ablate.study.prepare import prepare
from ablate.study.show import print_check


@pytest.fixture
def table(photos: Path) -> Path:
    return with_rows(photos)


def test_unseen_categories_are_told(table: Path):
    told = (
        "fold 0: column 'site' has categories in validation that training does not have ('scalp'; 1 of 6 "
        "images); they count as missing"
    )
    notes: list[str] = []
    prepare(recipe(table), note=notes.append)
    assert told in notes
    report = check_data(recipe(table))
    assert report.unseen == [told]
    print_check(report, console := Console(record=True, width=200, file=StringIO()))
    assert f"categories that a training split does not have (1):\n  {told}" in console.export_text()
    change(table / "table.csv", 7, "site", "back")
    assert check_data(recipe(table)).unseen == []
    assert check_data(recipe(table, tabular=None)).unseen == []


def test_many_unseen_categories_are_told_in_short(table: Path):
    for number in (6, 7, 14, 15, 22, 23):
        change(table / "table.csv", number, "site", f"site {number}")
    given = Data.model_validate(data(table))
    items = load_items(given)
    (told,) = unseen_categories(given, items.items, {3: make_folds(items, given)[0]})
    assert told.startswith("fold 3: column 'site' has categories in validation that training does not have (")
    assert "('site 6', 'site 7', 'site 14', 'site 15', 'site 22', …; 6 of 6 images)" in told


def test_categories_that_only_some_have_learnt():
    columns = Tabular(categorical=["site"])
    one, other = (TabularEncoder.fit(columns, [(site,) for site in sites]) for sites in (["a", "b"], ["a"]))
    assert new_categories([one, other], [("a",), (None,)]) == []
    assert new_categories([one, other], [("a",), ("b",), ("c",), ("c",)]) == [
        "column 'site' has categories that not all networks were trained with ('c', 'b'; 3 of 4 images); "
        "there they count as missing"
    ]
