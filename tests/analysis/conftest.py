"""Tables of trials and predictions, drawn from a seed, for the tests of the analysis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

Tables = tuple[pd.DataFrame, pd.DataFrame]


def draw_tables(
    variants: dict[str, float],
    seeds: int = 4,
    items: int = 60,
    folds: int = 1,
    classes: int = 3,
    draw: int = 0,
) -> Tables:
    """Trials and predictions of variants that lean towards the right class by the strength given for each."""
    rng = np.random.default_rng(draw)
    targets = rng.integers(0, classes, size=(folds, items))
    parts = []
    for variant, strength in variants.items():
        for seed in range(seeds):
            for fold in range(folds):
                logits = rng.normal(size=(items, classes))
                logits[np.arange(items), targets[fold]] += strength
                p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                part = pd.DataFrame(p, columns=[f"p_{k}" for k in range(classes)])
                names = {"variant": variant, "seed": seed, "fold": fold, "split": "valid"}
                ids = [f"img_{fold}_{i:04}" for i in range(items)]
                parts.append(part.assign(**names, item=ids, target=targets[fold], pred=p.argmax(axis=1)))
    predictions = pd.concat(parts, ignore_index=True)
    trials = predictions[["variant", "seed", "fold"]].drop_duplicates(ignore_index=True).assign(status="ok")
    return trials, predictions


@pytest.fixture(scope="session")
def tables() -> Callable[..., Tables]:
    """`draw_tables`, for tests that need their own."""
    return draw_tables


@pytest.fixture
def study() -> Tables:
    """Four seeds and 60 items of a baseline, a variant that is better, and one that is about the same."""
    return draw_tables({"baseline": 1.0, "baseline+mixup": 2.5, "baseline+tta": 1.05})
