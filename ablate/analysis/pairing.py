"""From tables of trials and predictions to one table of seeds × cases per contrast, matched item by item."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablate.analysis.contrasts import Contrast
from ablate.analysis.metrics import Metric
from ablate.analysis.predicted import Predicted, check_complete, require_columns, trials_of, with_fold
from ablate.errors import AblateError

Key = tuple[Hashable, Hashable, Hashable]
"""A trial: variant, seed, fold."""
Folds = tuple[Hashable, ...]
SETTLED = ("ok", "diverged")
"""What a trial's status is when training it once more would change nothing."""


@dataclass(frozen=True)
class Cases:
    """A contrast's values of a metric: a row per paired seed, a column per case.

    Attributes:
        values: Shape (S, N); NaN where a seed has no paired prediction. A row's mean is the contrast of the
            seed's metric. Cases are items, or groups where items come in groups.
        strata: Shape (N,): cases are compared with cases of the same stratum.
        n_items: How many items the cases are made of.
    """

    values: np.ndarray
    strata: np.ndarray
    n_items: int


class PairedPredictions:
    """The validation predictions of the trials that finished, ready to be compared between variants."""

    def __init__(self, trials: pd.DataFrame, predictions: pd.DataFrame) -> None:
        """Splits the predictions by trial, each sorted by item.

        Only trials that stand in `trials`, with status `ok` where it has that column, are kept.
        Raises AblateError for missing columns, NaN values, items that occur twice in a trial, and items whose
        target or group differs between trials.
        """
        require_columns(predictions, ["item"], "predictions")
        if predictions["item"].isna().any():
            raise AblateError("The table of predictions has rows without an `item`; give each image an id.")
        self.asked = _statuses(trials)
        finished = {key for key, status in self.asked.items() if status == "ok"}
        # numbers instead of ids: sorted and compared once per trial, so that 2 million rows take seconds
        codes, self.items = pd.factorize(predictions["item"])
        predictions = predictions.assign(item=codes)
        self.groups = _groups(predictions, self.items)
        self._targets: np.ndarray | None = None
        self._rows: dict[Key, np.ndarray] = {}
        self._outcomes: dict[Key, Predicted] = {}
        for key, trial in trials_of(predictions):
            if key in finished:
                check_complete(trial, key)
                trial = trial.sort_values("item", ignore_index=True)
                self._rows[key] = trial["item"].to_numpy()
                self._outcomes[key] = Predicted.read(trial)
                self._check_items(key)
        if finished and not self._rows:
            raise AblateError(
                "None of the finished trials has predictions; write variant, seed and fold alike, and of the "
                "same type, in both tables."
            )
        self._values: dict[tuple[str, Hashable, Folds, str], np.ndarray] = {}

    def settled(self, contrast: Contrast, seeds: Sequence[Hashable]) -> bool:
        """Whether some seeds have been asked for in all variants of a contrast, and none is still to come."""
        open_ = {
            (variant, seed) for (variant, seed, _), status in self.asked.items() if status not in SETTLED
        }
        there = {key[:2] for key in self.asked}
        wanted = {(variant, seed) for variant in contrast.variants for seed in seeds}
        return wanted <= there and not wanted & open_

    def seeds(self, variants: Iterable[str]) -> dict[Hashable, Folds]:
        """The seeds, and for each its folds, that every one of the variants has a finished trial for."""
        pairs = [{key[1:] for key in self._rows if key[0] == variant} for variant in variants]
        shared = set.intersection(*pairs) if pairs else set()
        in_order = dict.fromkeys(key[1:] for key in self._rows if key[1:] in shared)
        seeds = dict.fromkeys(seed for seed, _ in in_order)
        return {seed: tuple(fold for other, fold in in_order if other == seed) for seed in seeds}

    def cases(self, contrast: Contrast, metric: Metric, seeds: dict[Hashable, Folds]) -> Cases:
        """The contrast's values on the seeds and folds given, which all its variants must have.

        A seed's row holds all items that its folds validated, and its mean is the contrast of the out-of-fold
        scores (or of the means over folds: see `Metric.pooled`). Raises AblateError when the items differ
        between the variants.
        """
        table = np.full((len(seeds), len(self.items)), np.nan)
        for row, (seed, folds) in enumerate(seeds.items()):
            items = self._shared_items(contrast.variants, seed, folds)
            difference = sum(
                weight * self._item_values(variant, seed, folds, metric)
                for variant, weight in contrast.weights.items()
                if weight
            )
            # weights such as 1/3 leave rounding errors where nothing differs
            table[row, items] = np.where(np.abs(difference) < 1e-12, 0.0, difference)
        seen = ~np.isnan(table).all(axis=0)
        return self._in_cases(table[:, seen], np.flatnonzero(seen), metric)

    def scores(self, contrast: Contrast, metric: Metric, seed: Hashable, folds: Folds) -> np.ndarray:
        """The contrast of the metric on each fold alone, shape (folds,)."""
        return np.array(
            [
                sum(
                    weight * metric.score(self._outcomes[variant, seed, fold])
                    for variant, weight in contrast.weights.items()
                    if weight
                )
                for fold in folds
            ]
        )

    def trials(self, variants: Iterable[str], seeds: Sequence[Hashable]) -> list[Key]:
        """The finished trials of some variants and seeds, in the order of the table."""
        wanted, chosen = set(variants), set(seeds)
        return [key for key in self._rows if key[0] in wanted and key[1] in chosen]

    def n_items(self, variants: Iterable[str], seeds: Sequence[Hashable]) -> int:
        """How many items the finished trials of some variants and seeds were scored on."""
        rows = [self._rows[key] for key in self.trials(variants, seeds)]
        return len(np.unique(np.concatenate(rows))) if rows else 0

    def same_items(self, keys: Sequence[Key]) -> bool:
        """Whether several trials were scored on the same items."""
        return all(np.array_equal(self._rows[keys[0]], self._rows[key]) for key in keys)

    def values(self, keys: Sequence[Key], metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """The values of several trials with the same items, shape (trials, cases), and the cases' strata."""
        rows = self._rows[keys[0]]
        cases = self._in_cases(np.stack([metric.values(self._outcomes[key]) for key in keys]), rows, metric)
        return cases.values, cases.strata

    def predicted(self, variant: Hashable, seed: Hashable, fold: Hashable) -> Predicted:
        """What one trial predicted, sorted by item; raises KeyError where it did not finish."""
        return self._outcomes[variant, seed, fold]

    def _in_cases(self, values: np.ndarray, items: np.ndarray, metric: Metric) -> Cases:
        strata = np.zeros(len(items), dtype=int)
        if metric.within_class and self._targets is not None:
            strata = np.unique(self._targets[items], return_inverse=True)[1]
        if self.groups is None:
            return Cases(values, merge_small(strata), len(items))
        grouped, strata = by_group(values, strata, np.unique(self.groups[items], return_inverse=True)[1])
        return Cases(grouped, merge_small(strata), len(items))

    def _item_values(self, variant: str, seed: Hashable, folds: Folds, metric: Metric) -> np.ndarray:
        key = (variant, seed, folds, metric.name)
        if key not in self._values:
            parts = [self._outcomes[variant, seed, fold] for fold in folds]
            self._values[key] = (
                metric.values(Predicted.join(parts)) if metric.pooled else fold_mean(parts, metric)
            )
        return self._values[key]

    def _check_items(self, key: Key) -> None:
        """Each item once, and with the target that it has in every other trial."""
        rows, target = self._rows[key], self._outcomes[key].target
        variant, seed, fold = key
        where = f"variant {variant}, seed {seed}, fold {fold}"
        if (twice := rows[1:] == rows[:-1]).any():
            item = self.items[rows[1:][twice.argmax()]]
            raise AblateError(
                f"Item {item!r} is predicted more than once by {where}; give each validation image an `item` "
                "id of its own."
            )
        if self._targets is None:
            self._targets, self._known = (
                np.empty(len(self.items), dtype=target.dtype),
                np.zeros(len(self.items), bool),
            )
        known = self._known[rows]
        if (odd := known & (self._targets[rows] != target)).any():
            item = self.items[rows[odd.argmax()]]
            raise AblateError(
                f"The target of item {item!r} differs between trials: in {where} it is "
                f"{target[odd.argmax()]!r}, elsewhere {self._targets[rows[odd.argmax()]]!r}; use the same "
                "labels."
            )
        self._targets[rows], self._known[rows] = target, True

    def _shared_items(self, variants: list[str], seed: Hashable, folds: Folds) -> np.ndarray:
        """The codes of the seed's items, in the order of `_item_values`."""
        for fold in folds:
            for variant in variants[1:]:
                self._require_same_items((variants[0], seed, fold), (variant, seed, fold))
        pooled = np.concatenate([self._rows[variants[0], seed, fold] for fold in folds])
        if len(np.unique(pooled)) < len(pooled):
            raise AblateError(
                f"An item is predicted in more than one fold by {variants[0]}, seed {seed}; give each "
                "validation image an `item` id of its own."
            )
        return pooled

    def _require_same_items(self, one: Key, other: Key) -> None:
        odd = np.setxor1d(self._rows[one], self._rows[other])
        if len(odd):
            raise AblateError(
                f"The validation items of {one[0]} and {other[0]} (seed {other[1]}, fold {other[2]}) do not "
                f"match: {len(odd)} are in one of them only, such as {self.items[odd[0]]!r}; compare "
                "variants on the same validation set."
            )


def by_group(values: np.ndarray, strata: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of groups of items, shape (S, G), and their strata; each row keeps its mean.

    A mean over items is a ratio, of the groups' sums to their sizes, so a group's value is the row's mean
    plus what its items deviate from their stratum, times groups ÷ items (the ratio estimator: Cochran,
    Sampling Techniques, 1977, ch. 6). Groups whose items are all of one stratum stay in it; if any group
    mixes strata, all groups are one stratum.
    """
    n_groups = int(groups.max()) + 1
    own = np.zeros(n_groups, dtype=int)
    own[groups] = strata
    pure = bool((own[groups] == strata).all())
    table = np.full((len(values), n_groups), np.nan)
    for row, given in enumerate(values):
        present = ~np.isnan(given)
        x, s, g = given[present], strata[present], groups[present]
        deviation = x - (np.bincount(s, x) / np.maximum(np.bincount(s), 1))[s]
        there = np.unique(g)
        sums = np.bincount(g, deviation, minlength=n_groups)[there]
        table[row, there] = x.mean() + sums * len(there) / len(x)
    return table, own if pure else np.zeros(n_groups, dtype=int)


def merge_small(strata: np.ndarray) -> np.ndarray:
    """Strata of a single case, which has nothing to be compared with, are made one with the next smallest."""
    codes, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    by_size = np.argsort(counts, kind="stable")
    alone = int((counts == 1).sum())
    if not alone:
        return inverse
    merged = np.arange(len(codes))
    merged[by_size[: max(alone, 2)]] = by_size[0]
    return np.unique(merged[inverse], return_inverse=True)[1]


def fold_mean(parts: list[Predicted], metric: Metric) -> np.ndarray:
    """Values whose mean is the mean over folds of the metric, each item's deviation weighted by its fold."""
    values = [metric.values(part) for part in parts]
    score = float(np.mean([value.mean() for value in values]))
    n = sum(map(len, parts))
    return np.concatenate([score + n / (len(parts) * len(v)) * (v - v.mean()) for v in values])


def _groups(predictions: pd.DataFrame, items: pd.Index) -> np.ndarray | None:
    """The group of each item as a number, None where no item has one; an item without is its own group."""
    if "group" not in predictions:
        return None
    pairs = predictions[["item", "group"]].drop_duplicates()
    pairs = pairs.assign(group=pairs["group"].where(pairs["group"] != ""))
    if pairs["group"].isna().all():
        return None
    if (twice := pairs["item"].duplicated()).any():
        item = items[pairs["item"][twice].iloc[0]]
        raise AblateError(f"Item {item!r} is in one group here and in another there; give it one.")
    codes = pd.factorize(pairs["group"])[0]
    codes = np.where(codes < 0, codes.max() + 1 + np.arange(len(codes)), codes)
    groups = np.empty(len(items), dtype=int)
    groups[pairs["item"].to_numpy()] = codes
    return np.unique(groups, return_inverse=True)[1]


def _statuses(trials: pd.DataFrame) -> dict[Key, str]:
    """The status of every trial, `ok` where the table has none."""
    require_columns(trials, ["variant", "seed"], "trials")
    trials = with_fold(trials if "status" in trials else trials.assign(status="ok"))
    keys = trials[["variant", "seed", "fold"]].itertuples(index=False, name=None)
    return dict(zip(keys, trials["status"].astype(str), strict=True))
