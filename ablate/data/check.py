"""Look at a recipe's data before trusting it: unusable images, class counts, leaks, label conflicts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ablate.data.inspect import inspect
from ablate.data.items import Item, Items, Progress, load_items
from ablate.data.looks import Seen
from ablate.data.splits import Fold, make_folds

if TYPE_CHECKING:
    from ablate.recipe.schema import RecipeFields

SIDES = ("train", "valid", "test")
Leak = tuple[int, str, str, tuple[str, ...], tuple[str, ...]]


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
    """

    bad: list[tuple[str, str]]
    counts: list[dict[str, list[int]]]
    sizes: tuple[int, int, int, int]
    leaks: list[Leak]
    repeats: list[tuple[str, ...]]
    classes: list[str]
    n_items: int


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
    seen = inspect(items.items, progress)
    copies = _copies(items.items, seen)
    sides = [_sides(fold, len(items.items)) for fold in folds]
    return CheckReport(
        bad=[(item.id, _why(item, look)) for item, look in zip(items.items, seen, strict=True) if look.error],
        counts=[_counts(fold, items) for fold in folds],
        sizes=_sizes(seen),
        leaks=[leak for i, side in enumerate(sides) for leak in _leaks(i, side, copies, items.items)],
        repeats=_repeats(sides, copies, items),
        classes=items.classes,
        n_items=len(items.items),
    )


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
