"""Classes that a fold has no validation images of: told, or an error where the study's metric needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ablate.analysis.names import needs_all, parse
from ablate.data.items import Items
from ablate.data.splits import Fold
from ablate.errors import AblateError


class Unscored(NamedTuple):
    """A class without validation images in a fold."""

    fold: int
    target: int


def unscored_classes(items: Items, folds: Mapping[int, Fold]) -> list[Unscored]:
    """The classes of which a fold has no validation images; none of a fold without any validation."""
    everyone = np.arange(len(items.classes))
    return [
        Unscored(index, target)
        for index, fold in folds.items()
        if len(fold.valid)
        for target in np.setdiff1d(everyone, items.targets[fold.valid]).tolist()
    ]


def tell_unscored(items: Items, folds: Mapping[int, Fold], metric: str, note: Callable[[str], None]) -> None:
    """Tell in one line which folds are scored on fewer classes.

    Raises:
        AblateError: The study's metric is about such a class.
    """
    found = unscored_classes(items, folds)
    if not found:
        return
    needed = _needed(metric, items.classes)
    for fold, target in found:
        if target in needed:
            raise AblateError(
                f"study.metric: {metric!r} is about class {items.classes[target]!r}, of which "
                f"{_name(fold, folds)} has no validation images; use fewer folds, or another metric."
            )
    name = items.classes[found[0].target]
    more = f" and {len(found) - 1} more like that" if len(found) > 1 else ""
    note(
        f"{_name(found[0].fold, folds)} has no validation images of class {name!r}{more}: scores are about "
        "the other classes there"
    )


def _name(fold: int, folds: Mapping[int, Fold]) -> str:
    return f"fold {fold}" if len(folds) > 1 else "the split"


def _needed(metric: str, classes: list[str]) -> list[int]:
    """The classes without which a metric is not defined in a fold."""
    parts = parse(metric)
    if parts is not None and parts.of is not None:
        return [classes.index(parts.of)]
    return [0, 1] if needs_all(metric) and len(classes) == 2 else []
