"""What a study's tables say of its trials: status, scores and predictions."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, int, int]
"""Variant, seed and fold."""
_SEEN = ("variant", "seed", "fold", "status")


class Outputs:
    """The tables of a study's folder, read anew when they have changed.

    Args:
        folder: The study's.
        factors: The names of the factors, whose columns are no scores.
    """

    def __init__(self, folder: Path, factors: list[str]):
        self._trials, self._predictions = folder / "trials.csv", folder / "predictions.parquet"
        self._no_scores = {*_SEEN, *factors}
        self._stamp = 0
        self._rows: dict[Key, Mapping[str, str]] = {}

    def refresh(self) -> None:
        """Read `trials.csv`, if it is another one than before."""
        stamp = _modified(self._trials)
        if stamp == self._stamp:
            return
        self._stamp, self._rows = stamp, {}
        if stamp:
            with self._trials.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self._rows[row["variant"], int(row["seed"]), int(row["fold"])] = row

    @property
    def settled(self) -> bool:
        """Whether the predictions belong to the trials, and are not about to be written."""
        return self._stamp > 0 and _modified(self._predictions) >= self._stamp

    def status(self, key: Key) -> str:
        """`ok`, `diverged`, `failed` or `pending`."""
        return self._rows[key]["status"] if key in self._rows else "pending"

    def scores(self, key: Key) -> dict[str, float]:
        """A trial's metrics as `score_<metric>`, and its `train_seconds`, as far as they are known."""
        row = self._rows.get(key, {})
        known = {name: float(value) for name, value in row.items() if name not in self._no_scores and value}
        return {name if name == "train_seconds" else f"score_{name}": value for name, value in known.items()}

    def predictions(self, key: Key) -> pd.DataFrame | None:
        """What a trial predicted on its validation split; None where nothing is known of that."""
        import pandas as pd

        if not self._predictions.is_file():
            return None
        wanted = dict(zip(("variant", "seed", "fold"), key, strict=True)) | {"split": "valid"}
        table = pd.read_parquet(
            self._predictions, filters=[(name, "==", value) for name, value in wanted.items()]
        )
        return table if len(table) else None


def _modified(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def shown_items(table: pd.DataFrame, classes: list[str], limit: int = 200) -> dict[str, list[Any]]:
    """Some of a trial's predictions, for people to look at.

    Half of them at most are wrong ones, those first in which the true class was given the least probability;
    the rest are right ones at even distances in the table. So the same trial shows the same items always.

    Args:
        table: Its predictions on the validation split.
        classes: Their names.
        limit: How many items.

    Returns:
        Columns of the same length: `item`, `target`, `pred`, `right`, `p_target`, `p_pred`.
    """
    import numpy as np

    from ablate.analysis.predicted import Predicted

    predicted = Predicted.read(table)
    p_target = predicted.chance_of_target("predictions")
    p_pred = predicted.chance_of_pred("predictions")
    right = predicted.hits.astype(bool)
    wrong = np.flatnonzero(~right)
    wrong = wrong[np.argsort(p_target[wrong], kind="stable")][: limit // 2]
    others = np.flatnonzero(right)
    room = min(limit - len(wrong), len(others))
    even = others[np.linspace(0, len(others) - 1, room).astype(int)] if room else others[:0]
    rows = np.concatenate([wrong, even])
    items = table["item"].to_numpy()
    return {
        "item": [str(items[row]) for row in rows],
        "target": [_named(classes, predicted.target[row]) for row in rows],
        "pred": [_named(classes, predicted.pred[row]) for row in rows],
        "right": [bool(right[row]) for row in rows],
        "p_target": [float(p_target[row]) for row in rows],
        "p_pred": [float(p_pred[row]) for row in rows],
    }


def confused(table: pd.DataFrame, classes: list[str], limit: int = 100) -> list[list[Any]]:
    """The pairs of classes that a trial confuses most often.

    Returns:
        Rows of the true class, the predicted one, how many items, and their share of the true class.
    """
    sizes = table["target"].value_counts()
    wrong = table[table["target"] != table["pred"]]
    pairs = wrong.groupby(["target", "pred"], sort=True).size().reset_index(name="items")
    pairs = pairs.sort_values("items", ascending=False, kind="stable").iloc[:limit]
    return [
        [_named(classes, target), _named(classes, pred), int(count), float(count / sizes[target])]
        for target, pred, count in pairs.itertuples(index=False)
    ]


def _named(classes: list[str], code: Any) -> str:
    return classes[int(code)] if int(code) < len(classes) else str(code)
