"""From tables of trials and predictions to one table of seeds × items per contrast, matched item by item."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd

from ablate.analysis.contrasts import Contrast
from ablate.analysis.metrics import Metric, check_complete, require_columns, with_fold, with_trial_columns
from ablate.errors import AblateError

Key = tuple[Hashable, Hashable, Hashable]
"""A trial: variant, seed, fold."""


class PairedPredictions:
    """The validation predictions of the trials that finished, ready to be compared between variants."""

    def __init__(self, trials: pd.DataFrame, predictions: pd.DataFrame) -> None:
        """Splits the predictions by trial, each sorted by item.

        Only trials that stand in `trials`, with status `ok` where it has that column, are kept.
        Raises AblateError for missing columns, NaN values and items that occur twice in a trial.
        """
        require_columns(predictions, ["item"], "predictions")
        predictions = with_trial_columns(predictions)
        finished = finished_trials(trials)
        # numbers instead of ids: sorted and compared once per trial, so that 2 million rows take seconds
        codes, self._items = pd.factorize(predictions["item"])
        predictions = predictions.assign(item=codes)
        self._by_trial: dict[Key, pd.DataFrame] = {}
        for (variant, seed, fold), trial in predictions.groupby(["variant", "seed", "fold"], sort=False):
            key = (variant, seed, fold)
            if key in finished:
                check_complete(trial, key)
                self._by_trial[key] = trial.sort_values("item", ignore_index=True)
        self._values: dict[tuple[str, Hashable, tuple[Hashable, ...], str], np.ndarray] = {}

    def seeds(self, variants: Iterable[str]) -> dict[Hashable, tuple[Hashable, ...]]:
        """The seeds, and for each its folds, that every one of the variants has a finished trial for."""
        pairs = [{key[1:] for key in self._by_trial if key[0] == variant} for variant in variants]
        shared = set.intersection(*pairs) if pairs else set()
        in_order = dict.fromkeys(key[1:] for key in self._by_trial if key[1:] in shared)
        seeds = dict.fromkeys(seed for seed, _ in in_order)
        return {seed: tuple(fold for other, fold in in_order if other == seed) for seed in seeds}

    def table(self, contrast: Contrast, metric: Metric) -> np.ndarray:
        """The contrast's value of a metric for each paired seed and each item, shape (S, N).

        The folds of a seed are pooled: its row holds all items that they validated, and its mean is the
        contrast of the out-of-fold scores. NaN marks items that a seed has no paired prediction for. Raises
        AblateError when the items or their targets differ between the variants.
        """
        weights = {variant: weight for variant, weight in contrast.weights.items() if weight}
        seeds = self.seeds(weights)
        table = np.full((len(seeds), len(self._items)), np.nan)
        for row, (seed, folds) in enumerate(seeds.items()):
            items = self._check_same_items(list(weights), seed, folds)
            difference = sum(
                weight * self._item_values(variant, seed, folds, metric)
                for variant, weight in weights.items()
            )
            # weights such as 1/3 leave rounding errors where nothing differs
            table[row, items] = np.where(np.abs(difference) < 1e-12, 0.0, difference)
        return table[:, ~np.isnan(table).all(axis=0)]

    def _pooled(self, variant: str, seed: Hashable, folds: tuple[Hashable, ...]) -> pd.DataFrame:
        parts = [self._by_trial[variant, seed, fold] for fold in folds]
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    def _item_values(
        self, variant: str, seed: Hashable, folds: tuple[Hashable, ...], metric: Metric
    ) -> np.ndarray:
        key = (variant, seed, folds, metric.name)
        if key not in self._values:
            self._values[key] = metric.item_values(self._pooled(variant, seed, folds))
        return self._values[key]

    def _check_same_items(
        self, variants: list[str], seed: Hashable, folds: tuple[Hashable, ...]
    ) -> np.ndarray:
        """The codes of the seed's items, in the order of `_item_values`."""
        items: list[np.ndarray] = []
        for fold in folds:
            first = self._by_trial[variants[0], seed, fold]
            items.append(first["item"].to_numpy())
            for variant in variants[1:]:
                other = self._by_trial[variant, seed, fold]
                where = f"{variants[0]} and {variant} (seed {seed}, fold {fold})"
                odd = np.setxor1d(first["item"], other["item"])
                if len(odd):
                    raise AblateError(
                        f"The validation items of {where} do not match: {len(odd)} are in one of them only, "
                        f"such as {self._items[odd[0]]!r}; compare variants on the same validation set."
                    )
                if not np.array_equal(first["item"], other["item"]):
                    self._raise_repeated(variants, seed, fold)
                differing = first["target"].to_numpy() != other["target"].to_numpy()
                if differing.any():
                    item = self._items[first["item"].to_numpy()[differing.argmax()]]
                    raise AblateError(
                        f"The target of item {item!r} differs between {where}; use the same labels."
                    )
        pooled = np.concatenate(items)
        if len(np.unique(pooled)) < len(pooled):
            self._raise_repeated(variants, seed, None)
        return pooled

    def _raise_repeated(self, variants: list[str], seed: Hashable, fold: Hashable) -> None:
        raise AblateError(
            f"An item is predicted more than once by {' or '.join(variants)}, seed {seed}"
            f"{'' if fold is None else f', fold {fold}'}; give each validation image an `item` id of its own."
        )


def finished_trials(trials: pd.DataFrame) -> set[Key]:
    """The trials whose status is `ok`, or all where the table has no `status`; as (variant, seed, fold)."""
    require_columns(trials, ["variant", "seed"], "trials")
    trials = with_fold(trials)
    if "status" in trials:
        trials = trials[trials["status"] == "ok"]
    return set(trials[["variant", "seed", "fold"]].itertuples(index=False, name=None))
