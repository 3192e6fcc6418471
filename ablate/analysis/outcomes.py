"""What the trials of a study predicted on the validation split, as arrays: what the report counts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ablate.analysis.metrics import BINS, confidence_bin

MOST_VALUES = 20_000_000
"""So many probabilities are in memory at once."""


@dataclass(frozen=True)
class Outcomes:
    """The predictions of V variants on I items among K classes; n rows, one per finished trial and item.

    Args:
        variants: V names, in the order of the trials.
        items: I ids.
        classes: K.
        trials: The number of finished trials of each variant, int of shape (V,).
        variant: Each row's variant, as a position in `variants`; shape (n,), like all below.
        trial: Each row's trial, numbered from 0.
        item: Each row's item, as a position in `items`.
        target: The true class.
        pred: The predicted class.
        confidence: The probability of the predicted class, NaN where unknown; None without probabilities.
    """

    variants: list[str]
    items: list[str]
    classes: int
    trials: np.ndarray
    variant: np.ndarray
    trial: np.ndarray
    item: np.ndarray
    target: np.ndarray
    pred: np.ndarray
    confidence: np.ndarray | None

    @property
    def hit(self) -> np.ndarray:
        """Whether each row's prediction is right, bool of shape (n,)."""
        return self.target == self.pred

    @property
    def class_counts(self) -> np.ndarray:
        """The number of items of each class, shape (K,)."""
        _, first = np.unique(self.item, return_index=True)
        return np.bincount(self.target[first], minlength=self.classes)

    def recalls(self) -> np.ndarray:
        """The recall of each class over all trials of a variant, (V, K); NaN where the class is missing."""
        cell = self.variant * self.classes + self.target
        size = len(self.variants) * self.classes
        return _ratio(_count(cell, size, self.hit), _count(cell, size)).reshape(-1, self.classes)

    def confusion(self, variant: str) -> np.ndarray:
        """Of the items of each class (row), the share that was given each class (column); (K, K)."""
        table = self._confused(variant)
        return _ratio(table, table.sum(axis=1, keepdims=True))

    def class_report(self, variant: str) -> np.ndarray:
        """Precision, recall and F1 of each class over all trials, (K, 3); NaN where nothing says."""
        table = self._confused(variant)
        hits, given, there = table.diagonal(), table.sum(axis=0), table.sum(axis=1)
        return np.stack([_ratio(hits, given), _ratio(hits, there), _ratio(2 * hits, given + there)], axis=1)

    def _confused(self, variant: str) -> np.ndarray:
        """How often items of each class (row) were given each class (column); (K, K)."""
        rows = self.variant == self.variants.index(variant)
        cell = self.target[rows] * self.classes + self.pred[rows]
        return _count(cell, self.classes**2).reshape(self.classes, self.classes)

    def mistakes(self) -> pd.DataFrame:
        """Mistakes per trial: a row per pair of classes, `target, pred`, then a column per variant.

        The pairs that some variant confuses most often come first.
        """
        wrong = ~self.hit
        pair = self.target[wrong].astype(np.int64) * self.classes + self.pred[wrong]
        pairs, code = np.unique(pair, return_inverse=True)
        cell = self.variant[wrong].astype(np.int64) * len(pairs) + code
        counts = _count(cell, len(self.variants) * len(pairs)).reshape(len(self.variants), -1)
        table = pd.DataFrame((counts / self.trials[:, None]).T, columns=self.variants)
        table.insert(0, "target", pairs // self.classes)
        table.insert(1, "pred", pairs % self.classes)
        order = np.argsort(-counts.max(axis=0, initial=0) if len(pairs) else [], kind="stable")
        return table.iloc[order]

    def right_shares(self) -> np.ndarray:
        """The share of a variant's trials that are right on each item, (V, I); NaN where it has none."""
        cell = self.variant.astype(np.int64) * len(self.items) + self.item
        size = len(self.variants) * len(self.items)
        return _ratio(_count(cell, size, self.hit), _count(cell, size)).reshape(len(self.variants), -1)

    def most_changed(self, baseline: str, top: int) -> list[int]:
        """Items on which some variant is right most more or less often than the baseline; at most `top`.

        Among equals, those come first on which more variants differ. Items without a change are left out.
        """
        if baseline not in self.variants or len(self.variants) < 2:
            return []
        shares = self.right_shares()
        change = np.nan_to_num(np.abs(shares - shares[self.variants.index(baseline)]))
        largest, total = change.max(axis=0), change.sum(axis=0)
        order = np.lexsort((np.arange(len(largest)), -total.round(9), -largest.round(9)))
        return [int(item) for item in order[:top] if largest[item] > 0]

    def votes(self, items: Sequence[int]) -> dict[int, dict[str, list[tuple[int, int]]]]:
        """Per item and variant: the predicted classes with the number of trials, most frequent first."""
        rows = np.flatnonzero(np.isin(self.item, items))
        found: dict[int, dict[str, list[tuple[int, int]]]] = {item: {} for item in items}
        frame = pd.DataFrame(
            {"item": self.item[rows], "variant": self.variant[rows], "pred": self.pred[rows]}
        )
        counts = frame.value_counts(sort=False).reset_index(name="n").sort_values(["n", "pred"])[::-1]
        for item, variant, pred, n in counts.itertuples(index=False):
            found[item].setdefault(self.variants[variant], []).append((int(pred), int(n)))
        return found

    def target_of(self, item: int) -> int:
        """An item's true class."""
        return int(self.target[np.argmax(self.item == item)])

    def reliability(self, variant: str) -> pd.DataFrame:
        """A row per bin of confidence that is not empty: `confidence, accuracy, count`, over all trials."""
        assert self.confidence is not None
        rows = (self.variant == self.variants.index(variant)) & np.isfinite(self.confidence)
        confidence, hit = self.confidence[rows].astype(float), self.hit[rows]
        place = confidence_bin(confidence)
        count = _count(place, BINS)
        table = pd.DataFrame(
            {
                "confidence": _ratio(_count(place, BINS, confidence), count),
                "accuracy": _ratio(_count(place, BINS, hit), count),
                "count": count.astype(int),
            }
        )
        return table[table["count"] > 0].reset_index(drop=True)

    def calibration_errors(self) -> np.ndarray:
        """The expected calibration error of a variant, the mean over its trials, (V,); NaN where unknown.

        Guo et al., On Calibration of Modern Neural Networks (ICML 2017), with bins of equal width.
        """
        assert self.confidence is not None
        known = np.isfinite(self.confidence)
        confidence, trial = self.confidence[known].astype(float), self.trial[known]
        cell, size = trial * BINS + confidence_bin(confidence), int(self.trials.sum()) * BINS
        gap = np.abs(_count(cell, size, confidence) - _count(cell, size, self.hit[known])).reshape(-1, BINS)
        error = _ratio(gap.sum(axis=1), _count(trial, len(gap)))
        _, first = np.unique(self.trial, return_index=True)
        of_trial = pd.Series(error).groupby(self.variant[first]).mean()
        return of_trial.reindex(range(len(self.variants))).to_numpy()


def read_outcomes(path: Path, finished: pd.DataFrame, classes: int = 0) -> Outcomes | None:
    """The validation predictions of the finished trials; None where there are none.

    Args:
        path: `predictions.parquet`.
        finished: `variant, seed` and perhaps `fold` of the trials that count, in their order.
        classes: K, if more classes are known than occur.
    """
    known = set(pq.read_schema(path).names)
    names = ("variant", "seed", "fold", "split", "item", "target", "pred")
    table = pq.read_table(path, columns=[name for name in names if name in known])
    trial_of = _trial_numbers(table, finished)
    keep = trial_of >= 0
    if "split" in known:
        keep &= pc.equal(table["split"], "valid").to_numpy()
    if not keep.any():
        return None
    used, trial = np.unique(trial_of[keep], return_inverse=True)
    variant_names = finished["variant"].astype(str).to_numpy()[used]
    variants = list(dict.fromkeys(variant_names.tolist()))
    variant_of = np.array([variants.index(name) for name in variant_names])
    ids = _encoded(table["item"].filter(pa.array(keep)))
    target, pred = (table[name].to_numpy()[keep].astype(np.int32) for name in ("target", "pred"))
    return Outcomes(
        variants=variants,
        items=[str(item) for item in ids.dictionary.to_pylist()],
        classes=max(classes, int(target.max()) + 1, int(pred.max()) + 1),
        trials=np.bincount(variant_of),
        variant=variant_of[trial],
        trial=trial,
        item=ids.indices.to_numpy(),
        target=target,
        pred=pred,
        confidence=_confidence(path, known, keep, pred),
    )


def _trial_numbers(table: pa.Table, finished: pd.DataFrame) -> np.ndarray:
    """Each row's trial, as a position in `finished`; -1 where it is not there."""
    variants = _encoded(table["variant"])
    keys = {"variant": variants.indices.to_numpy(), "seed": table["seed"].to_numpy()}
    codes = {str(name): code for code, name in enumerate(variants.dictionary.to_pylist())}
    known = {"variant": finished["variant"].astype(str).map(codes).fillna(-1), "seed": finished["seed"]}
    if "fold" in table.column_names and "fold" in finished:
        keys["fold"], known["fold"] = pc.fill_null(table["fold"], 0).to_numpy(), finished["fold"].fillna(0)
    trials = pd.MultiIndex.from_frame(pd.DataFrame(known).astype(int))
    rows = pd.DataFrame(keys).astype(int)
    # trials stand in one piece: look up where a piece begins, not every row
    begins = (rows != rows.shift()).any(axis=1).to_numpy()
    place = trials.get_indexer(pd.MultiIndex.from_frame(rows[begins]))
    return place[np.cumsum(begins) - 1]


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _confidence(path: Path, known: set[str], keep: np.ndarray, pred: np.ndarray) -> np.ndarray | None:
    """The probability of the predicted class, read a few columns at a time: all may not fit in memory."""
    if "p_top_1" in known:
        return pq.read_table(path, columns=["p_top_1"])["p_top_1"].to_numpy()[keep]
    if "p_target" in known:  # tables from elsewhere may have the top probabilities under p_0, p_1, …
        return None
    labels = [label for label in np.unique(pred).tolist() if f"p_{label}" in known]
    if not labels:
        return None
    confidence = np.full(len(pred), np.nan, dtype=np.float32)
    order = np.argsort(pred, kind="stable")
    begins, ends = (np.searchsorted(pred[order], labels, side=side) for side in ("left", "right"))
    places = np.flatnonzero(keep)
    at_once = max(MOST_VALUES // len(keep), 1)
    file = pq.ParquetFile(path)
    for start in range(0, len(labels), at_once):
        columns = file.read([f"p_{label}" for label in labels[start : start + at_once]])
        for number, label in enumerate(labels[start : start + at_once], start):
            rows = order[begins[number] : ends[number]]
            confidence[rows] = columns[f"p_{label}"].to_numpy()[places[rows]]
    return confidence


def _count(cell: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The number, or the sum of the weights, of the rows in each cell; float of shape (size,)."""
    return np.bincount(cell, weights=weights, minlength=size).astype(float)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)
