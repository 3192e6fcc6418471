"""What a variant predicts of new images, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ablate.analysis.names import MOST_CLASSES
from ablate.training.predict import kept_columns


def predicted_table(
    ids: Sequence[str], parts: Iterable[tuple[slice, np.ndarray]], classes: Sequence[str]
) -> pd.DataFrame:
    """A row per image.

    Args:
        ids: The images'.
        parts: Which of them, and their probabilities of shape (n, K), one below the other.
        classes: The K names.

    Returns:
        `id`, `label` (the most probable class's name), and `p_<class>` for each class. Above 1,000 classes
        `top_1 … top_10`, the names of the most probable ones, and `p_top_1 … p_top_10`.
    """
    names = np.array(classes, dtype=object)
    tables = [_columns(probabilities, names) for _, probabilities in parts]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "id", list(ids))
    return table


def _columns(probabilities: np.ndarray, names: np.ndarray) -> pd.DataFrame:
    if len(names) <= MOST_CLASSES:
        of_class = {f"p_{name}": probabilities[:, k] for k, name in enumerate(names)}
        return pd.DataFrame({"label": names[probabilities.argmax(1)]} | of_class)
    kept = kept_columns(probabilities, np.zeros(len(probabilities), np.int64))
    top = {name: column for name, column in kept.items() if name.startswith(("top_", "p_top_"))}
    named = {name: names[column] if name.startswith("top_") else column for name, column in top.items()}
    return pd.DataFrame({"label": names[kept["pred"]]} | named)
