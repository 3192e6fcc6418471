"""What one trial predicted, as arrays, read from a table of predictions and checked on the way.

A table of predictions has a row per item: `target` and `pred` are class codes, `p_0 … p_{K-1}` probabilities.
Above 1,000 classes only the top ones are kept; `p_target` then holds the probability of the true class, and
`rank_target` its rank, 1 for the most probable.
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

    @classmethod
    def read(cls, table: pd.DataFrame) -> Predicted:
        """The predictions of one trial, in the order of the table."""
        columns = probability_columns(table)
        whole = bool(columns) and "p_target" not in table
        return cls(
            target=table["target"].to_numpy(),
            pred=table["pred"].to_numpy(),
            probabilities=table[columns].to_numpy() if whole else None,
            p_target=table["p_target"].to_numpy() if "p_target" in table else None,
            rank_target=table["rank_target"].to_numpy() if "rank_target" in table else None,
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


def trials_of(predictions: pd.DataFrame, split: str = "valid") -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Each trial of one split in the order of the table, as ((variant, seed, fold), its rows).

    A table without `split` or `fold` is one split, one fold. Raises AblateError when a needed column is
    missing.
    """
    require_columns(predictions, ["variant", "seed", "target", "pred"], "predictions")
    if "split" in predictions:
        predictions = predictions[predictions["split"] == split]
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
    """Raises AblateError when a trial's classes or probabilities are missing or NaN; `key` names it."""
    further = [name for name in ("p_target", "rank_target") if name in trial]
    columns = ["target", "pred", *probability_columns(trial), *further]
    broken = trial[columns].isna()
    if broken.to_numpy().any():
        column = columns[int(broken.any().to_numpy().argmax())]
        variant, seed, fold = key
        raise AblateError(
            f"Variant {variant}, seed {seed}, fold {fold} has predictions that are missing or NaN in "
            f"{column} ({int(broken.any(axis=1).sum())} of {len(trial)} items); mark that trial as diverged "
            "or leave it out."
        )


def probability_columns(predictions: pd.DataFrame) -> list[str]:
    """The columns p_0, p_1, … in the order of their classes."""
    found = [column for column in predictions.columns if re.fullmatch(r"p_\d+", str(column))]
    return sorted(found, key=lambda column: int(column[2:]))
