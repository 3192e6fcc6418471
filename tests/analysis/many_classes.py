"""Tables of studies with thousands of classes, as above 1,000: the top ten, and the target's rank."""

from __future__ import annotations

import numpy as np
import pandas as pd


def draw_many_classes(
    variants: dict[str, float], classes: int, items: int, seeds: int = 2
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and predictions of variants that are right on the share of items given for each.

    A target that is not the top class has a rank from 2 to `classes`, small ones more often. Images are of
    few classes more often than of others, as landmarks are.
    """
    rng = np.random.default_rng(classes)
    target = (classes * rng.random(items) ** 2).astype(np.int64)
    parts = []
    for variant, share in variants.items():
        for seed in range(seeds):
            rank = np.where(rng.random(items) < share, 1, 2 + (classes - 1) * rng.random(items) ** 8)
            rank = rank.astype(np.int32)
            top = rng.integers(0, classes, (items, 10), dtype=np.int32)
            top[top == target[:, None]] -= 1
            top %= classes
            rows = np.flatnonzero(rank <= 10)
            top[rows, rank[rows] - 1] = target[rows]
            p_top = np.sort(rng.dirichlet(np.ones(11), items)[:, :10].astype(np.float32), axis=1)[:, ::-1]
            within = p_top[np.arange(items), np.minimum(rank, 10) - 1]
            names = {"variant": variant, "seed": seed, "fold": 0, "split": "valid"}
            columns = {f"top_{i + 1}": top[:, i] for i in range(10)}
            columns |= {f"p_top_{i + 1}": p_top[:, i] for i in range(10)}
            columns |= {"p_target": np.where(rank > 10, within / rank, within), "rank_target": rank}
            about = {"item": [f"photo {i}" for i in range(items)], "target": target, "pred": top[:, 0]}
            parts.append(pd.DataFrame(about | columns).assign(**names))
    predictions = pd.concat(parts, ignore_index=True)
    trials = predictions[["variant", "seed", "fold"]].drop_duplicates(ignore_index=True).assign(status="ok")
    return trials, predictions
