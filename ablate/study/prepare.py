"""Get a recipe's data ready: load the items, split them, look at the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ablate.analysis.names import parse
from ablate.data.inspect import Progress, Seen, file_hash, fingerprint, inspect, recall, statistics
from ablate.data.items import Items, load_items
from ablate.data.splits import Fold, make_folds, quick_fold
from ablate.errors import AblateError
from ablate.recipe.problems import suggestion
from ablate.recipe.recipe import Recipe
from ablate.study.graph import FoldData

Channels = tuple[float, float, float]
_UNKNOWN: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@dataclass(frozen=True)
class Prepared:
    """A recipe's data, split.

    Args:
        items: All items.
        folds: All folds, cut down in a quick run.
        identities: The folds' identities, in the same order.
        pixels: Mean and standard deviation of each fold's training images.
        weights_hash: Of the file of initial weights, where there is one.
    """

    items: Items
    folds: list[Fold]
    identities: list[FoldData]
    pixels: list[tuple[Channels, Channels]]
    weights_hash: str | None

    @property
    def in_memory(self) -> bool:
        """Whether the images need no files, so that loader processes would only cost time."""
        return not isinstance(self.items.items[0].image, Path)


def prepare(
    recipe: Recipe, *, quick: bool = False, look: bool = True, progress: Progress | None = None
) -> Prepared:
    """Load, split and look.

    Args:
        recipe: The recipe.
        quick: Whether to cut every fold down to a sample.
        look: Whether to look at images that are new or changed; else what is known is taken, as in planning.
        progress: Told how many of the new images have been looked at.

    Raises:
        AblateError: The data cannot be used; the first reason is told.
    """
    items = load_items(recipe.data)
    _require_class(recipe.study.metric, items.classes)
    folds = make_folds(items, recipe.data)
    if quick:
        folds = [quick_fold(fold, items) for fold in folds]
    used = np.unique(np.concatenate([side for fold in folds for side in (fold.train, fold.valid, fold.test)]))
    looked_at = [items.items[number] for number in used]
    seen: list[Seen | None] = list(inspect(looked_at, progress)) if look else recall(looked_at)
    if look:
        _refuse_bad(seen)
    by_number = dict(zip(used.tolist(), seen, strict=True))
    weights = recipe.model.weights
    if weights is not None and not Path(weights).is_file():
        raise AblateError(f"model.weights: there is no file {weights}.")
    return Prepared(
        items,
        folds,
        [_identity(i, fold, items, by_number) for i, fold in enumerate(folds)],
        [_pixels(fold, by_number) for fold in folds],
        file_hash(Path(weights)) if weights else None,
    )


def _require_class(metric: str, classes: list[str]) -> None:
    """Refuse a metric about a class that the data do not have, before anything is trained."""
    parts = parse(metric)
    if parts is not None and parts.of is not None and parts.of not in classes:
        raise AblateError(
            f"study.metric: {parts.of!r} is no class of these data{suggestion(parts.of, classes)}"
        )


def _refuse_bad(seen: list[Seen | None]) -> None:
    bad = [look.error for look in seen if look is not None and look.error]
    if bad:
        more = f" ({len(bad) - 1} more; `ablate check` lists them all)" if len(bad) > 1 else ""
        raise AblateError(f"{bad[0]}{more}")


def _identity(index: int, fold: Fold, items: Items, seen: dict[int, Seen | None]) -> FoldData:
    def side(numbers: np.ndarray) -> str | None:
        return fingerprint([items.items[number] for number in numbers], items.classes, seen)

    return FoldData(index, side(fold.train), side(fold.valid), side(fold.test) if len(fold.test) else None)


def _pixels(fold: Fold, seen: dict[int, Seen | None]) -> tuple[Channels, Channels]:
    looks = [look for number in fold.train.tolist() if (look := seen[number]) is not None]
    return statistics(looks) if len(looks) == len(fold.train) else _UNKNOWN
