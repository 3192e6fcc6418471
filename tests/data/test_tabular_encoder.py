"""The table's columns as inputs: scikit-learn's numbers, and a sentence for what cannot be used."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photo_rows import change, data, recipe, with_rows
from sklearn.compose import make_column_transformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ablate.data.items import Cells, load_items
from ablate.data.tabular import TabularEncoder, read_cells
from ablate.errors import AblateError, RecipeError
from ablate.recipe.data_schema import Data, Tabular
from ablate.study.prepare import prepare

COLUMNS = Tabular(numeric=["age", "size"], categorical=["sex", "site"])
ROWS: list[Cells] = [
    (45.0, 1.5, "male", "back"),
    (None, 2.5, "female", "trunk"),
    (70.0, 4.0, "male", None),
    (30.0, 0.5, "female", "back"),
]


def by_sklearn(train: list[Cells], rows: list[Cells]) -> np.ndarray:
    """The same features in scikit-learn's words; what is missing of the categories is one of them."""

    def table(rows: list[Cells]) -> np.ndarray:
        numbers = [[np.nan if value is None else value for value in row[:2]] for row in rows]
        names = [[value or "?" for value in row[2:]] for row in rows]
        return np.array([[*a, *b] for a, b in zip(numbers, names, strict=True)], dtype=object)

    scaled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    numeric = make_union(scaled, MissingIndicator(error_on_new=False))
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((numeric, [0]), (numeric, [1]), (one_hot, [2]), (one_hot, [3]))
    return np.asarray(columns.fit(table(train)).transform(table(rows)), float)


def test_the_features_are_those_of_scikit_learn():
    new: list[Cells] = [
        (50.0, 9.0, "male", "trunk"),
        (None, 0.0, "female", None),
        (20.0, 3.0, "female", "back"),
    ]
    encoder = TabularEncoder.fit(COLUMNS, ROWS)
    for rows in (ROWS, new):
        encoded = encoder.encode(rows)
        assert encoded.dtype == np.float32
        # what is missing is our last feature of a column, and "?" the first of scikit-learn's categories
        expected = by_sklearn(ROWS, rows)
        site = expected[:, -3:]
        np.testing.assert_allclose(encoded[:, :-3], expected[:, :-3], atol=1e-6)
        np.testing.assert_allclose(encoded[:, -3:], site[:, [1, 2, 0]], atol=1e-6)


def test_by_hand():
    encoder = TabularEncoder.fit(COLUMNS, ROWS)
    assert encoder.features == [
        *("age", "age is missing", "size"),
        *("sex=female", "sex=male", "site=back", "site=trunk", "site is missing"),
    ]
    # ages 45, 45 (the median of 45, 70, 30), 70, 30: mean 47.5, deviation √(2·2.5² + 22.5² + 17.5²)/2
    deviation = np.sqrt((2 * 2.5**2 + 22.5**2 + 17.5**2) / 4)
    np.testing.assert_allclose(
        encoder.encode(ROWS)[:, 0], np.array([-2.5, -2.5, 22.5, -17.5]) / deviation, rtol=1e-6
    )
    assert encoder.encode(ROWS)[:, 1].tolist() == [0, 1, 0, 0]
    assert encoder.encode(ROWS)[:, 5:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_what_training_never_shows():
    encoder = TabularEncoder.fit(COLUMNS, ROWS)
    row = encoder.encode([(45.0, None, None, "scalp")])[0]
    assert row[2] == encoder.encode([(45.0, 2.0, None, None)])[0, 2]  # the median, without an indicator
    assert row[3:5].tolist() == [0, 0]  # no sex is missing in training
    assert row[5:].tolist() == [0, 0, 1]  # a new site counts as a missing one
    assert encoder.unseen([(1.0, 1.0, "male", "scalp"), (1.0, 1.0, None, "scalp")]) == {
        "site": Counter(scalp=2)
    }


def test_a_column_that_never_varies_is_0_whatever_comes():
    columns = Tabular(numeric=["age"])
    for same in (50.0, 0.1, 1e-300):
        encoder = TabularEncoder.fit(columns, [(same,)] * 7)
        assert encoder.encode([(same,), (same + 20,), (None,)]).tolist() == [[0], [0], [0]]


NUMBERS = st.one_of(st.none(), st.integers(-(10**6), 10**6).map(lambda number: number / 100))


@given(st.lists(NUMBERS, min_size=1, max_size=9).filter(any), st.lists(NUMBERS, min_size=1))
def test_never_a_nan(train: list[float | None], values: list[float | None]):
    encoder = TabularEncoder.fit(Tabular(numeric=["x"]), [(value,) for value in train])
    assert np.isfinite(encoder.encode([(value,) for value in values])).all()


def test_its_state_survives_json():
    encoder = TabularEncoder.fit(COLUMNS, ROWS)
    again = TabularEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again == encoder
    np.testing.assert_array_equal(again.encode(ROWS), encoder.encode(ROWS))


def test_what_a_row_says():
    encoder = TabularEncoder.fit(COLUMNS, ROWS)
    told = [encoder.told(features) for features in encoder.encode([*ROWS, (45.0, 1.0, "other", "back")])]
    assert told == [
        "45, 1.5, male, back",
        "no age, 2.5, female, trunk",
        "70, 4, male, no site",
        "30, 0.5, female, back",
        "45, 1, no sex, back",
    ]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (
            [(None, 1.0, "a", "b")] * 2,
            "data.tabular.numeric: column 'age' has no number in a training split; drop it",
        ),
        (
            [(1.0, 1.0, "a", None)],
            "data.tabular.categorical: column 'site' has no value in a training split; drop",
        ),
    ],
)
def test_columns_that_say_nothing(rows: list[Cells], why: str):
    with pytest.raises(AblateError, match=why):
        TabularEncoder.fit(COLUMNS, rows)


def test_reading_a_row():
    columns = Tabular(numeric=["age"], categorical=["sex"], missing=["", "unknown"])
    assert read_cells({"age": "45", "sex": "male", "id": "1"}, columns, "t.csv:2") == (45.0, "male")
    assert read_cells({"age": "", "sex": "unknown"}, columns, "t.csv:2") == (None, None)
    assert read_cells({"age": "-1.5e1", "sex": "NA"}, columns, "t.csv:2") == (-15.0, "NA")


@pytest.mark.parametrize("text", ["old", "1,5", "NaN", "inf", "1_000", "1e300"])
def test_a_cell_that_is_no_number(text: str):
    columns = Tabular(numeric=["age"], missing=[""])
    with pytest.raises(
        AblateError, match=rf"t.csv:7: column 'age' has '{text}', which is no number; correct it, or"
    ):
        read_cells({"age": text}, columns, "t.csv:7")


@pytest.fixture
def table(photos: Path) -> Path:
    return with_rows(photos)


def test_items_carry_their_rows(table: Path):
    items = load_items(Data.model_validate(data(table)))
    assert [item.cells for item in items.items[:4]] == [
        (20.0, "back"),
        (21.0, "trunk"),
        (None, None),
        (23.0, "back"),
    ]
    assert load_items(Data.model_validate(data(table, tabular=None))).items[0].cells == ()


def test_a_test_table_has_the_columns_too(table: Path):
    (table / "test.csv").write_text((table / "table.csv").read_text().replace(",age,", ",years,"))
    with pytest.raises(
        AblateError, match=r"data.tabular.numeric: .*test.csv has no column 'age'; it has image, label"
    ):
        load_items(Data.model_validate(data(table, test={"table": "test.csv"})))


def test_cells_that_cannot_be_used_are_named_with_their_line(table: Path):
    change(table / "table.csv", 4, "age", "fifty")
    with pytest.raises(AblateError, match=r"table.csv:6: column 'age' has 'fifty', which is no number"):
        load_items(Data.model_validate(data(table)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"tabular": {"numeric": ["years"]}},
            "data.tabular.numeric: .* has no column 'years'; it has image, label",
        ),
        ({"tabular": {"categorical": ["Site"]}}, "data.tabular.categorical: .* has no column 'Site'; it has"),
    ],
)
def test_columns_that_do_not_exist(table: Path, changes: dict[str, Any], why: str):
    with pytest.raises(AblateError, match=why):
        load_items(Data.model_validate(data(table, **changes)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"table": None}, "tabular names columns of a table, but the source is folders"),
        ({"table": None, "shards": "a.tar", "split": {"random": 0.2}}, "but the source is webdataset"),
        (
            {"tabular": {"categorical": ["site", "label"]}},
            "tabular has 'label', the label; the network must not see",
        ),
        ({"tabular": {}}, "give numeric or categorical columns"),
        ({"tabular": {"numeric": ["age"], "categorical": ["age"]}}, "a column stands twice"),
    ],
)
def test_recipes_that_cannot_mean_it(photos: Path, changes: dict[str, Any], why: str):
    with pytest.raises(RecipeError, match=why):
        recipe(photos, **changes)


def test_rows_are_part_of_the_datas_identity(table: Path):
    def identity(**changes: Any) -> tuple[str | None, str | None]:
        (fold,) = prepare(recipe(table, **changes)).identities
        return fold.train, fold.valid

    plain, before = identity(tabular=None), identity()
    assert plain[0] != before[0]
    change(table / "table.csv", 1, "age", "21.0")  # the same number
    assert identity() == before
    change(table / "table.csv", 1, "age", "22")
    after = identity()
    assert after[0] != before[0]
    assert after[1] == before[1]  # no validation image has another row
    change(table / "table.csv", 7, "site", "")
    assert identity()[1] != before[1]
    assert identity(tabular=None) == plain
