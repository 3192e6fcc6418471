"""Who is trained on, validated on, only tested: fixed by the recipe, the same for all trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

from ablate.data.items import Items
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data
from ablate.streams import Streams

QUICK_ITEMS = 16


@dataclass(frozen=True)
class Fold:
    """The numbers of the items on each side, each sorted, int64."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray

    def without(self, numbers: Collection[int]) -> Fold:
        """The fold without some items."""
        if not numbers:
            return self
        out = np.fromiter(numbers, np.int64)
        return Fold(*(side[~np.isin(side, out)] for side in (self.train, self.valid, self.test)))


def make_folds(items: Items, data: Data) -> list[Fold]:
    """The folds of a recipe; one, unless it asks for cross-validation.

    Raises:
        AblateError: A side is empty, or a class or group is too rare for the folds asked for.
    """
    split = data.split
    everyone = np.arange(len(items.items))
    extra = np.zeros(len(everyone), dtype=bool) if items.extra is None else items.extra
    tested = _test_side(items, data, everyone[~extra])
    rest, trained = everyone[~tested & ~extra], everyone[extra]
    if split.column or split.shards:
        assert items.held_out is not None
        sides = [items.held_out[rest]]
    elif split.none:
        sides = [np.zeros(len(rest), dtype=bool)]
    elif split.random:
        sides = [_held_out(items, rest, split.random, split.stratify, Streams(split.seed, "split"))]
    else:
        assert split.folds
        number = _fold_numbers(items, rest, split.folds, split.stratify, split.seed)
        sides = [number == fold for fold in range(split.folds)]
    folds = [Fold(rest[~held_out], rest[held_out], everyone[tested]) for held_out in sides]
    if split.column or split.shards or (data.test and not data.test.random):
        _require_whole_groups(items, folds, split.group)
    folds = [Fold(np.concatenate([fold.train, trained]), fold.valid, fold.test) for fold in folds]
    for i, fold in enumerate(folds):
        for name, side in (("training", fold.train), ("validation", fold.valid)):
            if not len(side) and not (split.none and side is fold.valid):
                raise AblateError(f"data.split: fold {i} has no {name} images; change the split.")
        for name, side in (("validation", fold.valid), ("test", fold.test)):
            unseen = np.flatnonzero(_has(items, side) & ~_has(items, fold.train))
            if len(unseen):
                raise AblateError(
                    f"data.split: class {items.classes[unseen[0]]!r} has {name} images but no training "
                    f"images in fold {i}; merge or drop the class, or change the split."
                )
    return folds


def _has(items: Items, side: np.ndarray) -> np.ndarray:
    """Whether a side has images of each class, bool of shape (classes,)."""
    return np.bincount(items.targets[side], minlength=len(items.classes)) > 0


def quick_fold(fold: Fold, items: Items, most: int = QUICK_ITEMS) -> Fold:
    """A fold cut down to a stratified sample of at most `most` images on each side, for a smoke run."""
    sides = []
    for name, side in (("train", fold.train), ("valid", fold.valid), ("test", fold.test)):
        if len(side) > most:
            streams = Streams(0, f"quick.{name}")
            side = side[_stratified(items.targets[side], most / len(side), streams)]
        sides.append(side)
    return Fold(*sides)


def _test_side(items: Items, data: Data, among: np.ndarray) -> np.ndarray:
    if items.tested is not None:
        return items.tested
    side = np.zeros(len(items.items), dtype=bool)
    if data.test and data.test.random:
        side[among] = _held_out(items, among, data.test.random, True, Streams(data.test.seed, "test"))
    return side


def _require_whole_groups(items: Items, folds: list[Fold], column: str | None) -> None:
    """Refuse a column or table that puts images of one group on two sides."""
    if items.groups is None:
        return
    names, groups = np.unique(items.groups, return_inverse=True)
    for fold in folds:
        sides = (("training", fold.train), ("validation", fold.valid), ("test", fold.test))
        for (name, side), (other_name, other) in combinations(sides, 2):
            both = np.intersect1d(groups[side], groups[other])
            if len(both):
                more = f" ({len(both) - 1} more groups too)" if len(both) > 1 else ""
                raise AblateError(
                    f"data.split.group: {column} {str(names[both[0]])!r} has images in {name} and in "
                    f"{other_name}{more}; correct the split, or drop group if these images may be apart."
                )


def _held_out(items: Items, among: np.ndarray, share: float, stratify: bool, streams: Streams) -> np.ndarray:
    """A random share of some items, by class or by group where asked."""
    groups = items.groups
    if groups is not None:
        # k-fold over groups gives balanced classes too; the first folds make up the share
        finest = max(2, min(len(set(groups[among])), max(20, round(1 / share))))
        nearest = Fraction(share).limit_denominator(finest)
        parts = max(2, nearest.denominator) if nearest else finest
        taken = min(max(1, nearest.numerator), parts - 1)
        return _grouped(items.targets[among], groups[among], parts, stratify, streams) < taken
    targets = items.targets[among] if stratify else np.zeros(len(among), dtype=np.int64)
    return _stratified(targets, share, streams)


def _stratified(targets: np.ndarray, share: float, streams: Streams) -> np.ndarray:
    """Mark a random share of each class."""
    held_out = np.zeros(len(targets), dtype=bool)
    counts = np.bincount(targets)
    wanted = _proportional(counts, share)
    by_class = np.split(np.argsort(targets, kind="stable"), np.cumsum(counts)[:-1])
    for target, (members, count) in enumerate(zip(by_class, wanted, strict=True)):
        if count:  # of 80,000 classes most may have none to hold out
            shuffled = streams.generator("side", index=target).permutation(members)
            held_out[shuffled[:count]] = True
    return held_out


def _proportional(counts: np.ndarray, share: float) -> np.ndarray:
    """How many of each class to hold out: exact in total, largest remainders first, never a whole class."""
    exact = counts * share
    wanted = np.floor(exact).astype(int)
    total = round(float(counts.sum() * share))
    for target in np.argsort(-(exact - wanted), kind="stable")[: max(total - wanted.sum(), 0)]:
        wanted[target] += 1
    return np.minimum(wanted, np.maximum(counts - 1, 0))


def _fold_numbers(items: Items, among: np.ndarray, folds: int, stratify: bool, seed: int) -> np.ndarray:
    streams = Streams(seed, "folds")
    targets, groups = items.targets[among], items.groups
    if groups is not None:
        return _grouped(targets, groups[among], folds, stratify, streams)
    if len(among) < folds:
        raise AblateError(f"data.split.folds: {folds} folds need {folds} images, there are {len(among)}.")
    shuffled = streams.generator("order").permutation(len(among))
    if stratify:  # deal the cards class by class, so that every fold gets its share of each
        shuffled = shuffled[np.argsort(targets[shuffled], kind="stable")]
    number = np.empty(len(among), dtype=np.int64)
    number[shuffled] = np.arange(len(among)) % folds
    return number


def _grouped(
    targets: np.ndarray, groups: np.ndarray, folds: int, stratify: bool, streams: Streams
) -> np.ndarray:
    """Whole groups to folds, largest first, each to the fold that it keeps most even, as in scikit-learn."""
    members: dict[str, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[str(group)].append(position)
    if len(members) < folds:
        raise AblateError(f"data.split: {folds} parts need {folds} groups, there are {len(members)}.")
    n_classes = int(targets.max()) + 1
    names = sorted(members)
    names = [names[i] for i in streams.generator("groups").permutation(len(names))]
    counts = {name: np.bincount(targets[members[name]], minlength=n_classes) for name in names}
    names.sort(key=lambda name: -float(np.std(counts[name]) if stratify else counts[name].sum()))
    totals = np.maximum(np.bincount(targets, minlength=n_classes), 1)
    filled = np.zeros((folds, n_classes))
    number = np.empty(len(targets), dtype=np.int64)
    for name in names:
        tries = np.repeat(filled[None], folds, axis=0)
        tries[np.arange(folds), np.arange(folds)] += counts[name]
        spread = (tries / totals).std(axis=1).mean(axis=1) if stratify else tries.sum(axis=2).std(axis=1)
        size = filled.sum(axis=1)
        best = min(range(folds), key=lambda fold: (round(float(spread[fold]), 12), float(size[fold])))
        filled[best] += counts[name]
        number[members[name]] = best
    return number
