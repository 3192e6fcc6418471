"""What one trial predicted, as arrays, read from a table of predictions and checked on the way.

A table of predictions has a row per item: `target` and `pred` are class codes, `p_0 … p_{K-1}` probabilities.
Above 1,000 classes only the top ones are kept: `top_1` is the most probable class and `p_top_1` its
probability, and so on; `p_target` holds the probability of the true class, and `rank_target` its rank, 1 for
the most probable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import pandas as pd

from ablate.errors import AblateError

TRIAL = ["variant", "seed", "fold"]
"""The columns that name a trial."""


@dataclass(frozen=True)
class Predicted:
    """Predictions of n items: classes of shape (n,), probabilities of shape (n, K) where they are known."""

    target: np.ndarray
    pred: np.ndarray
    probabilities: np.ndarray | None = None
    p_target: np.ndarray | None = None
    rank_target: np.ndarray | None = None
    p_pred: np.ndarray | None = None

    @classmethod
    def read(cls, table: pd.DataFrame) -> Predicted:
        """The predictions of one trial, in the order of the table."""
        columns = probability_columns(table)
        whole = bool(columns) and "p_target" not in table
        return cls(
            target=_codes(table["target"]),
            pred=_codes(table["pred"]),
            probabilities=_floats(table[columns]) if whole else None,
            p_target=_floats(table["p_target"]) if "p_target" in table else None,
            rank_target=_floats(table["rank_target"]) if "rank_target" in table else None,
            p_pred=_floats(table["p_top_1"]) if "p_top_1" in table else None,
        )

    @classmethod
    def join(cls, parts: Sequence[Predicted]) -> Predicted:
        """The predictions of several trials, one after the other, as those of the folds of one seed."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, np.ndarray | None] = {}
        for name in (field.name for field in fields(cls)):
            arrays = [getattr(part, name) for part in parts]
            columns[name] = None if any(array is None for array in arrays) else np.concatenate(arrays)
        return cls(**columns)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.target)

    def equals(self, other: Predicted) -> bool:
        """Whether everything that is known of them is the same, item by item."""
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return all(a is b is None or np.array_equal(a, b) for a, b in pairs)

    @cached_property
    def present(self) -> np.ndarray:
        """The classes that some item has, sorted."""
        return np.unique(self.target)

    @cached_property
    def is_constant(self) -> bool:
        """Whether every item is given the same class."""
        return len(self) > 0 and bool((self.pred == self.pred[0]).all())

    @cached_property
    def hits(self) -> np.ndarray:
        """1.0 where the predicted class is the true one, else 0.0; shape (n,)."""
        return (self.target == self.pred).astype(float)

    def table(self, metric: str) -> np.ndarray:
        """All probabilities, shape (n, K), with every target among the K columns.

        Raises AblateError, naming the metric, where they were not kept or the targets are no codes of theirs.
        """
        if self.probabilities is None:
            raise AblateError(
                f"{metric} needs the probabilities p_0, p_1, … of all classes; add them or ask for other "
                "metrics."
            )
        n_classes = self.probabilities.shape[1]
        coded = np.issubdtype(self.target.dtype, np.integer) or self.target.dtype == bool
        if not coded or (len(self) and (self.target.min() < 0 or self.target.max() >= n_classes)):
            raise AblateError(
                f"{metric} needs targets that are class codes from 0 to {n_classes - 1}, as p_0, p_1, … are."
            )
        return self.probabilities

    def chance_of_target(self, metric: str) -> np.ndarray:
        """The probability of the true class, shape (n,)."""
        if self.p_target is not None:
            return self.p_target
        return np.take_along_axis(self.table(metric), self.target.astype(int)[:, None], axis=1)[:, 0]

    def chance_of_pred(self, metric: str) -> np.ndarray:
        """The probability of the predicted class, shape (n,)."""
        if self.p_pred is not None:
            return self.p_pred
        table = self.table(metric)
        if len(self) and self.pred.max() >= table.shape[1]:
            raise AblateError(f"{metric} needs a probability p_K for every class K in `pred`.")
        return np.take_along_axis(table, self.pred.astype(int)[:, None], axis=1)[:, 0]


def _codes(column: pd.Series) -> np.ndarray:
    """Classes as numpy has them: whole numbers, or else what was given."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.int64)
    return column.to_numpy(dtype=object).astype(str)


def _floats(table: pd.DataFrame | pd.Series) -> np.ndarray:
    """Probabilities in the precision that they came in; whole numbers and pandas' own types as float64."""
    array = table.to_numpy()
    return array if array.dtype in (np.float32, np.float64) else table.to_numpy(dtype=float)


def has_probabilities(predictions: pd.DataFrame) -> bool:
    """Whether a table says how probable the classes are, or at least the true one."""
    return "p_target" in predictions or bool(probability_columns(predictions))


def trials_of(predictions: pd.DataFrame, split: str = "valid") -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Each trial of one split in the order of the table, as ((variant, seed, fold), its rows).

    A table without `split` or `fold` is one split, one fold. Raises AblateError when a needed column is
    missing.
    """
    require_columns(predictions, ["variant", "seed", "target", "pred"], "predictions")
    if "split" in predictions:
        there = predictions["split"].unique()
        predictions = predictions[predictions["split"] == split]
        if not len(predictions) and len(there):
            raise AblateError(
                f"The table of predictions has no row of the split {split!r}; it has "
                f"{', '.join(map(str, there))}."
            )
    for column in ("variant", "seed"):
        if predictions[column].isna().any():
            raise AblateError(f"The table of predictions has rows without a {column}; give each its trial.")
    yield from with_fold(predictions).groupby(TRIAL, sort=False)


def with_fold(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its fold, which is 0 where none is given."""
    if "fold" not in table:
        return table.assign(fold=0)
    return table.fillna({"fold": 0}) if table["fold"].isna().any() else table


def require_columns(table: pd.DataFrame, columns: list[str], what: str) -> None:
    """Raises AblateError when the table lacks one of the columns."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise AblateError(
            f"The table of {what} has no column {', '.join(missing)}; it has {', '.join(table.columns)}."
        )


def check_complete(trial: pd.DataFrame, key: Sequence[object]) -> None:
    """Raises AblateError when a trial's classes or probabilities are missing or cannot be; `key` names it."""
    variant, seed, fold = key
    where = f"Variant {variant}, seed {seed}, fold {fold}"
    numbers = [pd.api.types.is_numeric_dtype(trial[name].dtype) for name in ("target", "pred")]
    if numbers[0] != numbers[1]:
        kinds = " and ".join(f"{name} of type {trial[name].dtype}" for name in ("target", "pred"))
        raise AblateError(f"{where} has {kinds}; name classes alike in both.")
    further = [name for name in ("p_target", "rank_target", "p_top_1") if name in trial]
    columns = ["target", "pred", *probability_columns(trial), *further]
    broken = trial[columns].isna()
    if broken.to_numpy().any():
        column = columns[int(broken.any().to_numpy().argmax())]
        raise AblateError(
            f"{where} has predictions that are missing or NaN in "
            f"{column} ({int(broken.any(axis=1).sum())} of {len(trial)} items); mark that trial as diverged "
            "or leave it out."
        )
    probable = [*probability_columns(trial), *(name for name in further if name.startswith("p_"))]
    outside = [name for name in probable if trial[name].min() < -1e-3 or trial[name].max() > 1 + 1e-3]
    if outside:
        raise AblateError(f"{where} has probabilities in {outside[0]} that are not between 0 and 1.")


def probability_columns(predictions: pd.DataFrame) -> list[str]:
    """The columns p_0, p_1, … in the order of their classes."""
    found = [column for column in predictions.columns if re.fullmatch(r"p_\d+", str(column))]
    return sorted(found, key=lambda column: int(column[2:]))
