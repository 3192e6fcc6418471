"""Columns of the table as inputs of the network: what each means is learnt from the training split alone.

Numbers are imputed and scaled as by scikit-learn's `SimpleImputer(strategy="median", add_indicator=True)`
and `StandardScaler`, categories become one-hot as by its `OneHotEncoder(handle_unknown="ignore")`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from ablate.data.items import Cells, Item
from ablate.data.splits import Fold
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data, Tabular

_LARGEST = float(np.finfo(np.float32).max)


def read_cells(row: Mapping[str, str], tabular: Tabular, place: str) -> Cells:
    """The columns of one row: numbers, then categories; None for what is missing.

    Args:
        row: The row's text by column.
        tabular: The columns.
        place: The row's file and line.

    Raises:
        AblateError: A cell of a numeric column is no number.
    """
    numbers = [_number(row[name], name, tabular.missing, place) for name in tabular.numeric]
    return (*numbers, *(None if row[name] in tabular.missing else row[name] for name in tabular.categorical))


def _number(text: str, column: str, missing: Sequence[str], place: str) -> float | None:
    if text in missing:
        return None
    try:
        number = float(text.replace("_", "?"))  # Python, but nobody's table, has 1_000
    except ValueError:
        number = np.inf
    if not abs(number) <= _LARGEST:
        raise AblateError(
            f"{place}: column {column!r} has {text!r}, which is no number; correct it, or name it in "
            "data.tabular.missing."
        )
    return number


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers as the training split has it.

    Args:
        name: The column's.
        median: Stands for a missing number.
        mean: Of the training split's numbers, imputed.
        deviation: Their standard deviation; 0 for a constant column, which says nothing and becomes 0.
        has_missing: Whether some are missing there; then a further feature says where.
    """

    name: str
    median: float
    mean: float
    deviation: float
    has_missing: bool

    @classmethod
    def fit(cls, name: str, values: Sequence[Any]) -> Self:
        """Learn from the training split; None is missing."""
        numbers = np.array(values, np.float64)
        missing = np.isnan(numbers)
        if missing.all():
            raise AblateError(
                f"data.tabular.numeric: column {name!r} has no number in a training split; drop it."
            )
        median = float(np.median(numbers[~missing]))
        imputed = np.where(missing, median, numbers)
        deviation = float(imputed.std()) if np.ptp(imputed) else 0.0
        return cls(name, median, float(imputed.mean()), deviation, bool(missing.any()))

    @property
    def features(self) -> list[str]:
        """What each feature is called."""
        return [self.name, f"{self.name} is missing"][: 1 + self.has_missing]

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Of shape (n, features)."""
        numbers = np.array(values, np.float64)
        missing = np.isnan(numbers)
        from_mean = np.where(missing, self.median, numbers) - self.mean
        scaled = from_mean / self.deviation if self.deviation else np.zeros_like(from_mean)
        return np.stack([scaled, missing], axis=1)[:, : 1 + self.has_missing]

    def told(self, features: np.ndarray) -> str:
        """What the features of one row say."""
        if self.has_missing and features[1]:
            return f"no {self.name}"
        return f"{features[0] * self.deviation + self.mean:.6g}"

    def unseen(self, values: Sequence[Any]) -> Counter[str]:
        """None: every number can be scaled."""
        return Counter()


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories as the training split has it.

    Args:
        name: The column's.
        categories: Those of the training split, sorted, a feature each.
        has_missing: Whether some are missing there; then a further feature stands for what is missing, and
            for categories that the training split does not have.
    """

    name: str
    categories: tuple[str, ...]
    has_missing: bool

    @classmethod
    def fit(cls, name: str, values: Sequence[Any]) -> Self:
        """Learn from the training split; None is missing."""
        categories = tuple(sorted({value for value in values if value is not None}))
        if not categories:
            raise AblateError(
                f"data.tabular.categorical: column {name!r} has no value in a training split; drop it."
            )
        return cls(name, categories, None in values)

    @property
    def features(self) -> list[str]:
        """What each feature is called."""
        known = [f"{self.name}={category}" for category in self.categories]
        return [*known, *([f"{self.name} is missing"] if self.has_missing else [])]

    def encode(self, values: Sequence[Any]) -> np.ndarray:
        """Of shape (n, features)."""
        position = {category: i for i, category in enumerate(self.categories)}
        columns = np.array([position.get(value, len(position)) for value in values], np.int64)
        return np.eye(len(position) + 1)[columns][:, : len(position) + self.has_missing]

    def told(self, features: np.ndarray) -> str:
        """What the features of one row say."""
        known = features[: len(self.categories)]
        return self.categories[known.argmax()] if known.any() else f"no {self.name}"

    def unseen(self, values: Sequence[Any]) -> Counter[str]:
        """How often each category occurs that the training split does not have."""
        return Counter(value for value in values if value is not None and value not in self.categories)


@dataclass(frozen=True)
class TabularEncoder:
    """From the cells of rows to the features that the network sees, by what a training split has taught.

    What the training split never shows has no feature, since its weights would stay as they were drawn: a
    missing number is then the median and nothing else, a missing or new category none of those there are.
    """

    columns: tuple[NumericColumn | CategoricalColumn, ...]

    @classmethod
    def fit(cls, tabular: Tabular, rows: Sequence[Cells]) -> Self:
        """Learn from the rows of the training split.

        Raises:
            AblateError: A column is missing in all of them.
        """
        kinds: list[tuple[type[NumericColumn | CategoricalColumn], str]] = [
            *((NumericColumn, name) for name in tabular.numeric),
            *((CategoricalColumn, name) for name in tabular.categorical),
        ]
        by_column = _by_column(rows, len(kinds))
        return cls(
            tuple(kind.fit(name, values) for (kind, name), values in zip(kinds, by_column, strict=True))
        )

    @property
    def features(self) -> list[str]:
        """What each feature is called: `age`, `age is missing`, `sex=female`."""
        return [feature for column in self.columns for feature in column.features]

    def encode(self, rows: Sequence[Cells]) -> np.ndarray:
        """The features of some rows, float32 of shape (n, features)."""
        by_column = _by_column(rows, len(self.columns))
        encoded = [column.encode(values) for column, values in zip(self.columns, by_column, strict=True)]
        return np.concatenate(encoded, axis=1, dtype=np.float32)

    def unseen(self, rows: Sequence[Cells]) -> dict[str, Counter[str]]:
        """By column, how often each category occurs that the training split does not have."""
        by_column = _by_column(rows, len(self.columns))
        found = {
            column.name: column.unseen(values) for column, values in zip(self.columns, by_column, strict=True)
        }
        return {name: counts for name, counts in found.items() if counts}

    def told(self, features: np.ndarray) -> str:
        """What the features of one row, shape (features,), say: `45, female, back`."""
        told, start = [], 0
        for column in self.columns:
            end = start + len(column.features)
            told.append(column.told(features[start:end]))
            start = end
        return ", ".join(told)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        return {
            "numeric": [asdict(column) for column in self.columns if isinstance(column, NumericColumn)],
            "categorical": [
                asdict(column) | {"categories": list(column.categories)}
                for column in self.columns
                if isinstance(column, CategoricalColumn)
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` gave, also after JSON."""
        names = [
            CategoricalColumn(**{**own, "categories": tuple(own["categories"])})
            for own in values["categorical"]
        ]
        return cls((*(NumericColumn(**own) for own in values["numeric"]), *names))


def fit_encoder(data: Data, items: Sequence[Item], fold: Fold) -> TabularEncoder | None:
    """The encoder of a fold's training split; None where the recipe names no columns.

    Raises:
        AblateError: A column is missing in all of it.
    """
    return TabularEncoder.fit(data.tabular, rows_of(items, fold.train)) if data.tabular else None


def rows_of(items: Sequence[Item], numbers: np.ndarray) -> list[Cells]:
    """The rows of some items, given by number."""
    return [items[number].cells for number in numbers.tolist()]


def _by_column(rows: Sequence[Cells], count: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) or [()] * count
