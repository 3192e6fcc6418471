"""Categories of the table that a training split does not have: they count as missing, and are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ablate.data.items import Cells, Item
from ablate.data.splits import Fold
from ablate.data.tabular import TabularEncoder, fit_encoder, rows_of
from ablate.recipe.data_schema import Data


def unseen_categories(data: Data, items: Sequence[Item], folds: Mapping[int, Fold]) -> list[str]:
    """A sentence for every fold, side and column with categories that the fold's training split lacks.

    Raises:
        AblateError: A column is missing in all of a training split.
    """
    told = []
    for i, fold in folds.items():
        encoder = fit_encoder(data, items, fold)
        for name, side in (("validation", fold.valid), ("test", fold.test)):
            unseen = encoder.unseen(rows_of(items, side)) if encoder else {}
            told += [
                f"fold {i}: column {column!r} has categories in {name} that training does not have "
                f"({_few(counts)}; {counts.total()} of {len(side)} images); they count as missing"
                for column, counts in unseen.items()
            ]
    return told


def new_categories(encoders: Sequence[TabularEncoder], rows: Sequence[Cells]) -> list[str]:
    """A sentence for every column in which rows have categories that not all training splits had."""
    found: dict[str, Counter[str]] = {}
    for encoder in encoders:
        for column, counts in encoder.unseen(rows).items():
            found[column] = found.get(column, Counter()) | counts
    return [
        f"column {column!r} has categories that not all networks were trained with ({_few(counts)}; "
        f"{counts.total()} of {len(rows)} images); there they count as missing"
        for column, counts in found.items()
    ]


def _few(counts: Counter[str]) -> str:
    named = ", ".join(repr(category) for category, _ in counts.most_common(5))
    return f"{named}, …" if len(counts) > 5 else named
