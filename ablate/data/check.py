"""Look at a recipe's data before trusting it: unusable images, class counts, leaks, twins, label conflicts.

Twins are images that look the same, whatever their files are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ablate.data import extra
from ablate.data.inspect import inspect
from ablate.data.items import Item, Items, Progress, load_items
from ablate.data.likeness import Hashing, recall_likenesses
from ablate.data.looks import Looks, Seen
from ablate.data.near_duplicates import near_pairs
from ablate.data.splits import Fold, make_folds
from ablate.data.unseen import unseen_categories

if TYPE_CHECKING:
    from ablate.recipe.schema import RecipeFields

SIDES = ("train", "valid", "test")
Leak = tuple[int, str, str, tuple[str, ...], tuple[str, ...]]
Twins = tuple[int, str, str, str, str, int]
TWINS = 4
"""How many bits of their hashes differ at most between images that look the same, where no recipe says it.

Of 400 photos that were stored anew at another size or quality, 99% were within 4 and all within 6. So was
1 in 300,000 pairs of photos of different moles, which are much alike, and none of 700,000 pairs of photos of
plants.
"""
MOST_PAIRS = 4_000_000_000
"""Above so many pairs of images, half a minute's work, twins are not looked for."""


@dataclass(frozen=True)
class CheckReport:
    """What looking at every image of a recipe in full has found.

    Args:
        bad: Items that cannot be used: id, and why (missing, empty, damaged, no image).
        counts: Per fold, for each of train, valid and test, the number of items by class, bad ones included.
        sizes: Width and height of the smallest and then of the largest usable image, by area; zeros without
            one.
        leaks: The same content on two sides of a split: fold, one side, the other, ids on the one, ids on the
            other.
        repeats: Ids of items with the same content and differing labels that stand on one side, in any fold.
        classes: The names of the classes.
        n_items: How many items there are, bad ones included.
        left_out: Extra images that are left out of the training of some fold: id, and why.
        twins: Images on two sides of a split that look the same but have other content: fold, one side, the
            other, the id on the one, the id on the other, distance; None where there are too many images.
        unseen: What is told of categories of the table that a training split does not have.
    """

    bad: list[tuple[str, str]]
    counts: list[dict[str, list[int]]]
    sizes: tuple[int, int, int, int]
    leaks: list[Leak]
    repeats: list[tuple[str, ...]]
    classes: list[str]
    n_items: int
    left_out: list[tuple[str, str]] = field(default_factory=list)
    twins: list[Twins] | None = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def check_data(recipe: RecipeFields, progress: Progress | None = None) -> CheckReport:
    """Load and split a recipe's data, decode every image, and report what is wrong with them.

    Args:
        recipe: The recipe; only its `data` is read.
        progress: Called with how many of the images not seen before are done, and how many there are.

    Raises:
        AblateError: The table, the folders or the split cannot be used at all.
    """
    items = load_items(recipe.data)
    folds = make_folds(items, recipe.data)
    scored = _scored(folds)
    comparable = len(scored) * len(items.items) <= MOST_PAIRS
    hashing = Hashing() if comparable or extra.compared(recipe.data) else None
    seen = inspect(items.items, progress, hashing)
    if hashing:
        hashing.finish()
    left_out, _ = extra.left_out(items, folds, recipe.data, np.arange(len(items.items)), seen)
    folds = [fold.without(out) for fold, out in zip(folds, left_out, strict=True)]
    copies = _copies(items.items, seen)
    sides = [_sides(fold, len(items.items)) for fold in folds]
    given = recipe.data.extra.near_duplicates if recipe.data.extra else "keep"
    most = TWINS if given == "keep" else given
    return CheckReport(
        bad=[(item.id, _why(item, look)) for item, look in zip(items.items, seen, strict=True) if look.error],
        counts=[_counts(fold, items) for fold in folds],
        sizes=_sizes(seen),
        leaks=[leak for i, side in enumerate(sides) for leak in _leaks(i, side, copies, items.items)],
        repeats=_repeats(sides, copies, items),
        classes=items.classes,
        n_items=len(items.items),
        left_out=[(items.items[number].id, why) for out in left_out for number, why in out.items()],
        twins=_twins(sides, items.items, seen, scored, most) if comparable else None,
        unseen=unseen_categories(recipe.data, items.items, dict(enumerate(folds))),
    )


def _scored(folds: Sequence[Fold]) -> np.ndarray:
    """The numbers of the items that are validated or tested in some fold, sorted."""
    return np.unique(np.concatenate([side for fold in folds for side in (fold.valid, fold.test)]))


def _why(item: Item, look: Seen) -> str:
    return look.error.removeprefix(f"{item.id}: ")


def _copies(items: Sequence[Item], seen: Sequence[Seen]) -> list[np.ndarray]:
    """The numbers of items that share their content, a group per content; bad images have none."""
    groups: dict[str, list[int]] = defaultdict(list)
    for item, look in zip(items, seen, strict=True):
        if not look.error:
            groups[look.hash].append(item.number)
    return [np.array(numbers) for numbers in groups.values() if len(numbers) > 1]


def _sides(fold: Fold, n_items: int) -> np.ndarray:
    """On which side each item stands, as a position in `SIDES`, shape (n_items,)."""
    side = np.full(n_items, -1)
    for position, name in enumerate(SIDES):
        side[getattr(fold, name)] = position
    return side


def _counts(fold: Fold, items: Items) -> dict[str, list[int]]:
    targets, n_classes = items.targets, len(items.classes)
    return {name: np.bincount(targets[getattr(fold, name)], minlength=n_classes).tolist() for name in SIDES}


def _sizes(seen: Sequence[Seen]) -> tuple[int, int, int, int]:
    sizes = sorted(
        ((look.width, look.height) for look in seen if not look.error), key=lambda size: size[0] * size[1]
    )
    return (*sizes[0], *sizes[-1]) if sizes else (0, 0, 0, 0)


def _leaks(fold: int, side: np.ndarray, copies: list[np.ndarray], items: Sequence[Item]) -> list[Leak]:
    leaks: list[Leak] = []
    for numbers in copies:
        ids = [tuple(items[n].id for n in numbers[side[numbers] == i]) for i in range(len(SIDES))]
        leaks += [
            (fold, SIDES[a], SIDES[b], ids[a], ids[b])
            for a, b in combinations(range(3), 2)
            if ids[a] and ids[b]
        ]
    return leaks


def _repeats(sides: list[np.ndarray], copies: list[np.ndarray], items: Items) -> list[tuple[str, ...]]:
    targets = items.targets
    repeats: dict[tuple[str, ...], None] = {}  # an ordered set: most folds tell the same
    for numbers in copies:
        for side in sides:
            for i in range(len(SIDES)):
                together = numbers[side[numbers] == i]
                if len(set(targets[together].tolist())) > 1:
                    repeats[tuple(items.items[n].id for n in together)] = None
    return list(repeats)


def _twins(
    sides: list[np.ndarray], items: Sequence[Item], seen: Looks[Seen], scored: np.ndarray, most: int
) -> list[Twins]:
    hashes, known = recall_likenesses(seen)
    numbers, scored = np.flatnonzero(known), scored[known[scored]]
    pairs = near_pairs(hashes[numbers], hashes[scored], most)
    order = np.argsort(pairs.distance, kind="stable")
    one, other, distance = (
        numbers[pairs.first[order]],
        scored[pairs.second[order]],
        pairs.distance[order],
    )
    # each pair of scored images is there twice, and the same content is told as a leak
    twice = np.isin(one, scored) & (one >= other)
    new = ~twice & (seen.contents[one] != seen.contents[other])
    one, other, distance = one[new], other[new], distance[new]
    twins: list[Twins] = []
    for fold, side in enumerate(sides):
        apart = (side[one] != side[other]) & (side[one] >= 0) & (side[other] >= 0)
        for a, b, bits in zip(
            one[apart].tolist(), other[apart].tolist(), distance[apart].tolist(), strict=True
        ):
            first, second = sorted((a, b), key=lambda number: int(side[number]))
            names = SIDES[side[first]], SIDES[side[second]]
            twins.append((fold, *names, items[first].id, items[second].id, bits))
    return twins
