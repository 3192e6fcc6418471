"""Metrics of one trial's predictions: the score, and the value that each item adds to it.

A table of predictions has a row per item: `target` and `pred` are class codes, `p_0 … p_{K-1}` probabilities.
Above 1,000 classes only the top ones are kept, and `p_target` holds the probability of the true class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import metrics as sklearn_metrics

from ablate.analysis.names import METRIC_NAMES
from ablate.errors import AblateError

TRIAL = ["variant", "seed", "fold"]
"""The columns that name a trial."""


@dataclass(frozen=True)
class Metric:
    """A metric of one trial's predictions.

    `score` maps a table of n predictions to a number; `item_values` maps it to n numbers, one per row, whose
    plain mean is the score. The second is what an analysis over items works on.
    """

    name: str
    higher_is_better: bool
    score: Callable[[pd.DataFrame], float]
    item_values: Callable[[pd.DataFrame], np.ndarray]


def hits(predictions: pd.DataFrame) -> np.ndarray:
    """1.0 where the predicted class is the true one, else 0.0; shape (n,)."""
    return (predictions["target"].to_numpy() == predictions["pred"].to_numpy()).astype(float)


def class_weighted_hits(predictions: pd.DataFrame) -> np.ndarray:
    """Hits × n / (K × n of the item's class), shape (n,); their mean is the mean recall."""
    _, code, count = np.unique(predictions["target"].to_numpy(), return_inverse=True, return_counts=True)
    return hits(predictions) * len(predictions) / (len(count) * count[code])


def surprise(predictions: pd.DataFrame) -> np.ndarray:
    """−log of the true class's probability in nats, shape (n,), clipped as scikit-learn does."""
    chosen = _target_probability(predictions)
    epsilon = np.finfo(chosen.dtype).eps
    return -np.log(np.clip(chosen.astype(float), epsilon, 1 - epsilon))


def _accuracy(predictions: pd.DataFrame) -> float:
    return float(sklearn_metrics.accuracy_score(predictions["target"], predictions["pred"]))


def _balanced_accuracy(predictions: pd.DataFrame) -> float:
    # recall over the classes present: balanced_accuracy_score without its warning for a class that is absent
    present = np.unique(predictions["target"].to_numpy())
    return float(
        sklearn_metrics.recall_score(
            predictions["target"], predictions["pred"], labels=present, average="macro"
        )
    )


def _log_loss(predictions: pd.DataFrame) -> float:
    if "p_target" in predictions:  # too many classes: the other probabilities were not kept
        return float(surprise(predictions).mean())
    table = np.clip(_probabilities(predictions), 0, 1)
    _target_codes(predictions, table.shape[1])
    return float(sklearn_metrics.log_loss(predictions["target"], table, labels=np.arange(table.shape[1])))


METRICS: dict[str, Metric] = {
    name: Metric(name, METRIC_NAMES[name], score, item_values)
    for name, score, item_values in [
        ("accuracy", _accuracy, hits),
        ("balanced_accuracy", _balanced_accuracy, class_weighted_hits),
        ("log_loss", _log_loss, surprise),
    ]
}


def find_metric(name: str) -> Metric:
    """The metric of that name; raises AblateError that lists the names when there is none."""
    if name not in METRICS:
        raise AblateError(f"There is no metric {name!r}; choose one of {', '.join(METRICS)}.")
    return METRICS[name]


def metric_values(predictions: pd.DataFrame, metrics: Sequence[str], split: str = "valid") -> pd.DataFrame:
    """A row per variant, seed and fold with its scores on one split: `variant, seed, fold`, then the metrics.

    Trials come in the order of the table. A table without `split` or `fold` is one split, one fold. Raises
    AblateError for an unknown metric, for missing columns, and for missing or NaN values, naming the trial.
    """
    chosen = [find_metric(name) for name in metrics]
    predictions = with_trial_columns(predictions, split)
    rows = []
    for key, trial in predictions.groupby(TRIAL, sort=False):
        check_complete(trial, key)
        rows.append((*key, *(metric.score(trial) for metric in chosen)))
    return pd.DataFrame(rows, columns=[*TRIAL, *metrics])


def with_trial_columns(predictions: pd.DataFrame, split: str = "valid") -> pd.DataFrame:
    """The rows of one split, with a `fold` column; raises AblateError when a needed column is missing."""
    require_columns(predictions, ["variant", "seed", "target", "pred"], "predictions")
    if "split" in predictions:
        predictions = predictions[predictions["split"] == split]
    return with_fold(predictions)


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
    columns = ["target", "pred", *_probability_columns(trial), *(["p_target"] if "p_target" in trial else [])]
    broken = trial[columns].isna()
    if broken.to_numpy().any():
        column = columns[int(broken.any().to_numpy().argmax())]
        variant, seed, fold = key
        raise AblateError(
            f"Variant {variant}, seed {seed}, fold {fold} has predictions that are missing or NaN in "
            f"{column} ({int(broken.any(axis=1).sum())} of {len(trial)} items); mark that trial as diverged "
            "or leave it out."
        )


def _probability_columns(predictions: pd.DataFrame) -> list[str]:
    found = [column for column in predictions.columns if re.fullmatch(r"p_\d+", str(column))]
    return sorted(found, key=lambda column: int(column[2:]))


def _probabilities(predictions: pd.DataFrame) -> np.ndarray:
    columns = _probability_columns(predictions)
    if not columns:
        raise AblateError("log_loss needs the probabilities p_0, p_1, …; add them or ask for other metrics.")
    return predictions[columns].to_numpy()


def _target_codes(predictions: pd.DataFrame, n_classes: int) -> np.ndarray:
    target = predictions["target"].to_numpy()
    if not np.issubdtype(target.dtype, np.integer) or target.min() < 0 or target.max() >= n_classes:
        raise AblateError(
            f"log_loss needs targets that are class codes from 0 to {n_classes - 1}, as p_0, p_1, … are."
        )
    return target


def _target_probability(predictions: pd.DataFrame) -> np.ndarray:
    if "p_target" in predictions:
        return predictions["p_target"].to_numpy()
    table = _probabilities(predictions)
    return np.take_along_axis(table, _target_codes(predictions, table.shape[1])[:, None], axis=1)[:, 0]
