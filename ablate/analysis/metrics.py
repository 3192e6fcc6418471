"""Metrics as what each item adds: n values whose plain mean is the metric of the n items.

An analysis over items works on these values. For metrics that are no plain mean, value − metric is the item's
influence (delta method): the derivative of the metric by the item's weight, times n. So what holds for means,
such as the variance of a mean, holds for all metrics, to first order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablate.analysis import names
from ablate.analysis.predicted import TRIAL, Predicted, check_complete, trials_of
from ablate.analysis.ranking import average_precision_values, roc_auc_values
from ablate.errors import AblateError

BINS = 15
"""Of equal width, of the expected calibration error."""


@dataclass(frozen=True)
class Metric:
    """A metric of predictions.

    Attributes:
        name: As `names` has it.
        values: From n predictions to n numbers whose mean is the metric; NaN where it is not defined, as that
            of a class which no item has.
        within_class: Whether it is made of means over the items of each class, whose numbers count as given;
            items are then compared with items of their own class.
        pooled: Whether scores of different models can stand in one order. If not, a cross-validation takes
            the mean over folds, else the metric of all out-of-fold predictions together.
    """

    name: str
    values: Callable[[Predicted], np.ndarray]
    within_class: bool = False
    pooled: bool = True

    def score(self, predicted: Predicted) -> float:
        """The metric; NaN where it is not defined."""
        return float(self.values(predicted).mean())


def find_metric(name: str, classes: Sequence[str] | None = None) -> Metric:
    """The metric of that name; `classes` are the names of the codes 0, 1, …, for those such as `recall:cat`.

    Raises AblateError that lists the names when there is no such metric or class.
    """
    parts = names.parse(name)
    if parts is None:
        known = ", ".join(names.known_metrics())
        raise AblateError(f"There is no metric {name!r}; choose one of {known}.")
    if classes is not None and (why := names.why_not(name, classes)):
        raise AblateError(f"The metric {name!r} {why}")
    if parts.k is not None:
        k = parts.k
        return Metric(name, lambda predicted: _top_k(predicted, k))
    if parts.family in _PLAIN:
        return Metric(name, _PLAIN[parts.family], within_class=parts.family == "balanced_accuracy")
    of = None if parts.of is None else _OneClass.find(parts.of, classes)
    if parts.family in _RANKINGS:
        rank = _RANKINGS[parts.family]
        return Metric(
            name, lambda predicted: _ranked(predicted, name, rank, of), parts.family == "roc_auc", False
        )
    count = _COUNTED[parts.family]
    return Metric(
        name, lambda predicted: count(predicted, _averaged(predicted, of)), parts.family == "recall"
    )


@dataclass(frozen=True)
class _OneClass:
    """A class: by name for tables of names, by code, None where it has none, for tables of codes."""

    name: str
    code: int | None

    @classmethod
    def find(cls, name: str, classes: Sequence[str] | None) -> _OneClass:
        if classes is None:
            return cls(name, int(name) if name.isdecimal() else None)
        return cls(name, list(classes).index(name))


def metric_values(
    predictions: pd.DataFrame,
    metrics: Sequence[str],
    split: str = "valid",
    classes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A row per variant, seed and fold with its scores on one split: `variant, seed, fold`, then the metrics.

    Trials come in the order of the table; a metric that is not defined for them is NaN. Raises AblateError
    for an unknown metric, for missing columns, and for missing or NaN predictions, naming the trial.
    """
    chosen = [find_metric(name, classes) for name in metrics]
    rows = []
    for key, trial in trials_of(predictions, split):
        check_complete(trial, key)
        predicted = Predicted.read(trial)
        rows.append((*key, *(metric.score(predicted) for metric in chosen)))
    return pd.DataFrame(rows, columns=[*TRIAL, *metrics])


def _surprise(predicted: Predicted) -> np.ndarray:
    """−log of the true class's probability in nats, shape (n,), clipped as scikit-learn does."""
    chosen = predicted.chance_of_target("log_loss")
    epsilon = np.finfo(chosen.dtype).eps
    return -np.log(np.clip(chosen.astype(float), epsilon, 1 - epsilon))


def _top_k(predicted: Predicted, k: int) -> np.ndarray:
    """1.0 where the true class is one of the k most probable; of equal ones the later class comes first."""
    if predicted.rank_target is not None:
        return (predicted.rank_target <= k).astype(float)
    table, target = predicted.table(f"top_{k}_accuracy"), predicted.target.astype(int)[:, None]
    if table.shape[1] < k:
        raise AblateError(f"top_{k}_accuracy needs {k} classes or more; there are {table.shape[1]}.")
    own = np.take_along_axis(table, target, axis=1)
    later = np.arange(table.shape[1]) > target
    return (((table > own) | ((table == own) & later)).sum(axis=1) < k).astype(float)


def _calibration_error(predicted: Predicted) -> np.ndarray:
    """How far confidence and hits are apart, within bins of equal confidence (Guo et al., ICML 2017).

    The confidence is the probability of the predicted class. Each item counts with the sign of its bin's gap.
    """
    confidence = predicted.chance_of_pred("expected_calibration_error").astype(float)
    gap = confidence - predicted.hits
    bins = confidence_bin(confidence)
    return np.sign(np.bincount(bins, weights=gap, minlength=BINS))[bins] * gap


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence, from 0 to BINS − 1; what lies on an edge is in the bin below."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _averaged(predicted: Predicted, of: _OneClass | None) -> np.ndarray:
    """The classes whose mean a metric is: one, or all that some item has; none where nothing has that one."""
    present = predicted.present
    if of is None:
        return present
    return present[present == (of.code if np.issubdtype(present.dtype, np.integer) else of.name)]


def _recall(predicted: Predicted, classes: np.ndarray) -> np.ndarray:
    """Class-weighted hits: n / (classes × the class's items) for a hit, so that classes count alike."""
    if not len(classes):
        return np.full(len(predicted), np.nan)
    position, has = _positions(predicted.target, classes)
    items = np.bincount(position[has], minlength=len(classes))
    return np.where(has, predicted.hits * len(predicted) / (len(classes) * items[position]), 0.0)


def _precision(predicted: Predicted, classes: np.ndarray) -> np.ndarray:
    """Hits among what was predicted to be of a class; 0 for a class that never was."""
    return _ratio_of_hits(predicted, classes, of_targets=0.0)


def _f1(predicted: Predicted, classes: np.ndarray) -> np.ndarray:
    """Twice the hits over what was predicted to be of a class plus what is."""
    return _ratio_of_hits(predicted, classes, of_targets=1.0)


def _ratio_of_hits(predicted: Predicted, classes: np.ndarray, of_targets: float) -> np.ndarray:
    """Per class, hits × (1 + of_targets) / (predicted + of_targets × targets), and the mean over classes.

    With of_targets 0 that is the precision, with 1 the F1 score. The influence of an item on a ratio a/b is
    (its part of a − ratio × its part of b) × n / b.
    """
    n, k = len(predicted), len(classes)
    if not k:
        return np.full(n, np.nan)
    given, is_given = _positions(predicted.pred, classes)
    target, is_target = _positions(predicted.target, classes)
    hits = (1 + of_targets) * np.bincount(target[is_target], weights=predicted.hits[is_target], minlength=k)
    size = np.bincount(given[is_given], minlength=k).astype(float)
    size += of_targets * np.bincount(target[is_target], minlength=k)
    per_item = np.divide(n / k, size, out=np.zeros(k), where=size > 0)
    ratio = hits * per_item * k / n
    values = np.full(n, ratio.mean())
    values += is_target * (1 + of_targets) * predicted.hits * per_item[target]
    values -= is_given * (ratio * per_item)[given]
    return values - is_target * of_targets * (ratio * per_item)[target]


def _positions(codes: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each code stands among the classes, which are sorted, and whether it does."""
    position = np.clip(np.searchsorted(classes, codes), 0, len(classes) - 1)
    return position, classes[position] == codes


def _ranked(
    predicted: Predicted,
    name: str,
    rank: Callable[[np.ndarray, np.ndarray], np.ndarray],
    of: _OneClass | None,
) -> np.ndarray:
    """A ranking metric by the probability of one class; of class 1 of two, else the mean over all."""
    table = predicted.table(name)
    if of is not None and (of.code is None or of.code >= table.shape[1]):
        raise AblateError(f"The metric {name!r} is about no class of these data; they have {table.shape[1]}.")
    if of is not None:
        return rank(table[:, of.code], predicted.target == of.code)
    classes = [1] if table.shape[1] == 2 else predicted.present.tolist()
    return np.mean([rank(table[:, c], predicted.target == c) for c in classes], axis=0)


_PLAIN: dict[str, Callable[[Predicted], np.ndarray]] = {
    "accuracy": lambda predicted: predicted.hits,
    "balanced_accuracy": lambda predicted: _recall(predicted, predicted.present),
    "log_loss": _surprise,
    "expected_calibration_error": _calibration_error,
}
_COUNTED = {"recall": _recall, "precision": _precision, "f1": _f1}
_RANKINGS = {"roc_auc": roc_auc_values, "average_precision": average_precision_values}
