"""Which extra training images are left out of which fold: nothing that is scored may be trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablate.data.items import Items
from ablate.data.likeness import recall_likenesses
from ablate.data.looks import Looks, Seen
from ablate.data.near_duplicates import ORIENTATIONS, near_pairs
from ablate.data.splits import Fold
from ablate.recipe.data_schema import Data

LeftOut = dict[int, str]
"""Why extra images are left out of a fold's training, by number."""


def compared(data: Data) -> bool:
    """Whether extra images are compared with those that are scored by what they look like."""
    return data.extra is not None and data.extra.near_duplicates != "keep"


def left_out(
    items: Items,
    folds: Sequence[Fold],
    data: Data,
    numbers: np.ndarray,
    looks: Looks[Seen] | Looks[Seen | None],
) -> tuple[list[LeftOut], bool]:
    """The extra images that are left out of each fold, and whether all of them have been looked at for it.

    Args:
        items: All items.
        folds: The folds, with all extra images on the training side.
        data: The recipe's data section.
        numbers: The numbers of the items that the folds have, sorted.
        looks: What is known of their images, in the same order.
    """
    by_group = same_groups(items, folds)
    if data.extra is None or data.extra.near_duplicates == "keep":
        return by_group, True
    hashes = np.zeros((len(items.items), ORIENTATIONS), np.uint64)
    known = np.zeros(len(items.items), bool)
    hashes[numbers], known[numbers] = recall_likenesses(looks)
    by_look = near_duplicates(items, folds, hashes, known, data.extra.near_duplicates)
    is_final = all(known[side].all() for fold in folds for side in (fold.train, fold.valid, fold.test))
    return [look | group for look, group in zip(by_look, by_group, strict=True)], is_final


def same_groups(items: Items, folds: Sequence[Fold]) -> list[LeftOut]:
    """The extra images whose group stands in a fold's validation or test."""
    found: list[LeftOut] = [{} for _ in folds]
    groups = items.groups
    if items.extra is None or groups is None:
        return found
    for index, fold in enumerate(folds):
        extra = fold.train[items.extra[fold.train]]
        for side, name in ((fold.valid, _validation(index, folds)), (fold.test, "test")):
            for number in extra[np.isin(groups[extra], groups[side])].tolist():
                found[index].setdefault(number, f"its group {groups[number]} is in {name}")
    return found


def near_duplicates(
    items: Items, folds: Sequence[Fold], hashes: np.ndarray, known: np.ndarray, most: int
) -> list[LeftOut]:
    """The extra images that look like one of a fold's validation or test.

    Args:
        items: All items.
        folds: The folds.
        hashes: As `ablate.data.near_duplicates.perceptual_hashes` gives them, by number, of shape (n, 8).
        known: Which of them are known, bool of shape (n,).
        most: The Hamming distance up to which two images look the same.
    """
    found: list[LeftOut] = [{} for _ in folds]
    if items.extra is None:
        return found
    extra = np.flatnonzero(items.extra & known)
    scored = np.unique(np.concatenate([side for fold in folds for side in (fold.valid, fold.test)]))
    scored = scored[known[scored]]
    pairs = near_pairs(hashes[extra], hashes[scored], most)
    nearest_first = np.argsort(pairs.distance, kind="stable")
    for index, fold in enumerate(folds):
        for side, name in ((fold.valid, _validation(index, folds)), (fold.test, "test")):
            is_there = np.isin(scored[pairs.second], side)
            for pair in nearest_first[is_there[nearest_first]].tolist():
                twin = items.items[int(scored[pairs.second[pair]])].id
                why = f"near-duplicate of {twin} in {name}, distance {pairs.distance[pair]}"
                found[index].setdefault(int(extra[pairs.first[pair]]), why)
    return found


def _validation(index: int, folds: Sequence[Fold]) -> str:
    return f"validation of fold {index}" if len(folds) > 1 else "validation"
