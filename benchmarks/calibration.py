"""Do the intervals hold what they promise? Simulated studies whose true effects are known.

    python benchmarks/calibration.py                 # 1,000 studies a line, a quarter of an hour
    python benchmarks/calibration.py --studies 100   # a look at it

A variant's score on an image is normal, with a part of the variant, of the seed (in part shared by the
variants, as after a shared first phase), of the image (its difficulty, in part shared by the variants), and
the luck of one training on one image. Whether the right class wins, or how a positive ranks, follows from it;
so the true accuracy, mean recall and AUC of new seeds on new images, and of new seeds on the images at hand,
are known integrals.

Coverage is the share of studies whose 95% interval holds the truth that it is about; it should lie between
92 and 97.5%. The standard error of each share is 0.7 points at 1,000 studies. The family-wise error is the
share of studies without any true effect that call any of five techniques helping or hurting; it should be at
most 5%.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import norm

from ablate.analysis.crossed import crossed_mean, mean_of, t_interval
from ablate.analysis.effects import effects
from ablate.analysis.metrics import Metric, find_metric
from ablate.analysis.pairing import by_group, fold_mean, merge_small
from ablate.analysis.predicted import Predicted


@dataclass(frozen=True)
class Setting:
    """One kind of study: sizes, and standard deviations of the parts of a score."""

    metric: str
    seeds: int
    items: int
    positives: float = 0.5
    groups: int = 1
    """Items per group."""
    folds: int = 1
    shared: float = 0.0
    """The share of the seed's part that the two variants have in common."""
    seed_sd: float = 0.06
    item_sd: float = 1.0
    own_item_sd: float = 0.4
    luck_sd: float = 0.5
    means: tuple[float, float] = (1.4, 1.5)
    note: str = ""

    def truth(self) -> float:
        """The difference in the metric for new seeds and new images."""
        spread = np.sqrt(self.seed_sd**2 + self.item_sd**2 + self.own_item_sd**2 + self.luck_sd**2)
        # an image of either class is right when its score is above 0; a pair when the sum of both is
        one_or_two = np.sqrt(2) if self.metric == "roc_auc" else 1.0
        low, high = norm.cdf(one_or_two * np.array(self.means) / spread)
        return float(high - low)


def draw(
    setting: Setting, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]:
    """One study: targets (N,), scores (2, S, N), the truth on these images, groups and folds (N,)."""
    n, s = setting.items, setting.seeds
    target = (np.arange(n) < max(round(setting.positives * n), 1)).astype(int)
    groups = np.arange(n) // setting.groups
    if setting.groups > 1:  # difficulty belongs to the group, and so does the class
        target = np.repeat(target[:: setting.groups], setting.groups)[:n]
    n_groups = groups[-1] + 1
    difficulty = setting.item_sd * rng.normal(size=n_groups)[groups]
    own = setting.own_item_sd * rng.normal(size=(2, 1, n_groups))[..., groups]
    folds = rng.permutation(n_groups)[groups] % setting.folds
    scores = np.array(setting.means)[:, None, None] + difficulty + own
    expected = scores.copy()
    # each fold is a training of its own; each class has its own luck with a seed
    for part, size in ((1, setting.shared), (2, 1 - setting.shared)):
        effect = rng.normal(size=(part, s, setting.folds, 2)) * setting.seed_sd * np.sqrt(size)
        scores = scores + effect[:, :, folds, target]
    scores += setting.luck_sd * rng.normal(size=scores.shape)
    noise = np.sqrt(setting.seed_sd**2 + setting.luck_sd**2)
    if setting.metric == "roc_auc":
        return target, scores, np.nan, groups, folds
    chance = norm.cdf(expected[:, 0] / noise)
    weight = np.full(n, 1 / n) if setting.metric == "accuracy" else 0.5 / np.bincount(target)[target]
    return target, scores, float(((chance[1] - chance[0]) * weight).sum()), groups, folds


def study(setting: Setting, rng: np.random.Generator) -> tuple[bool, bool, float]:
    """Whether each of the two intervals of one drawn study holds its truth, and the width of the first."""
    target, scores, on_these, groups, folds = draw(setting, rng)
    metric = find_metric(setting.metric)
    table = values(setting, metric, target, scores, folds)
    strata = target if metric.within_class else np.zeros(len(target), dtype=int)
    rows = table.mean(axis=1)
    if setting.groups > 1:
        table, strata = by_group(table, strata, groups)
    both = t_interval(crossed_mean(table, merge_small(strata)))
    seeds = t_interval(mean_of(rows))
    return both.low <= setting.truth() <= both.high, seeds.low <= on_these <= seeds.high, both.high - both.low


def values(
    setting: Setting, metric: Metric, target: np.ndarray, scores: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """The table of seeds × items of the difference, by the engine's own item values."""
    order = np.argsort(folds, kind="stable")
    found = np.empty(scores.shape)
    for variant, by_seed in enumerate(scores):
        for seed, score in enumerate(by_seed):
            right = score > 0
            pred = np.where(right, target, 1 - target)
            # a positive's score is its chance of class 1, a negative's score speaks against it
            rank = np.where(target == 1, score, -score)
            parts = [
                Predicted(target[i], pred[i], np.stack([-rank[i], rank[i]], axis=1))
                for i in (order[folds[order] == f] for f in range(setting.folds))
            ]
            found[variant, seed, order] = (
                metric.values(Predicted.join(parts)) if metric.pooled else fold_mean(parts, metric)
            )
    return found[1] - found[0]


def line(setting: Setting, studies: int, seed: int) -> dict[str, object]:
    """Coverage of one kind of study."""
    rng = np.random.default_rng([seed, 4])
    found = np.array([study(setting, rng) for _ in range(studies)])
    by_seed = found[:, 1].mean() if setting.metric != "roc_auc" else np.nan
    return {
        "metric": setting.metric,
        "seeds": setting.seeds,
        "items": setting.items,
        "positives": f"{setting.positives:.0%}",
        "kind": setting.note,
        "new seeds and images": f"{found[:, 0].mean():.1%}",
        "new seeds, these images": "" if np.isnan(by_seed) else f"{by_seed:.1%}",
        "width, points": f"{100 * found[:, 2].mean():.2f}",
    }


def settings() -> Iterator[Setting]:
    """All lines of the table."""
    metrics = ("accuracy", "balanced_accuracy", "roc_auc")
    for metric in metrics:
        for positives in (0.5, 0.05):
            for items in (250, 2000, 20_000):
                for seeds in (3, 5, 10):
                    yield Setting(metric, seeds, items, positives)
    for metric in metrics:
        base = Setting(metric, 5, 2000)
        for seeds in (3, 5, 10):
            base = replace(base, seeds=seeds)
            yield replace(base, seed_sd=0.2, note="seeds dominate")
            yield replace(base, seed_sd=0.01, note="images dominate")
            yield replace(base, shared=0.8, note="shared prefix")
            yield replace(base, groups=5, note="groups of 5")
            yield replace(base, groups=5, positives=0.05, note="groups of 5")
            yield replace(base, folds=5, note="5 folds")


def family(seeds: int, looks: tuple[int, ...] | None, studies: int, seed: int) -> dict[str, object]:
    """How often a study of five techniques without any effect calls one helping or hurting."""
    rng = np.random.default_rng([seed, 5])
    wrong = sum(
        bool(set(null_study(seeds, looks, rng)["verdict"]) & {"helps", "hurts"}) for _ in range(studies)
    )
    return {
        "seeds": seeds,
        "looks": "" if looks is None else ", ".join(map(str, looks)),
        "family-wise error": f"{wrong / studies:.1%}",
    }


def null_study(seeds: int, looks: tuple[int, ...] | None, rng: np.random.Generator) -> pd.DataFrame:
    """The effects on accuracy of a baseline and five variants that are no better or worse."""
    items, names = 250, ["baseline", *(f"baseline+{letter}" for letter in "abcde")]
    score = 1.2 + rng.normal(size=items) + 0.4 * rng.normal(size=(6, 1, items))
    score = score + 0.1 * rng.normal(size=(6, seeds, 1)) + 0.5 * rng.normal(size=(6, seeds, items))
    v, s, i = (each.ravel() for each in np.indices(score.shape))
    table = pd.DataFrame({"variant": np.array(names)[v], "seed": s, "item": i, "target": 0})
    table["pred"] = (score.ravel() <= 0).astype(int)
    trials = table[["variant", "seed"]].drop_duplicates()
    return effects(trials, table, metrics=("accuracy",), smallest_effect=1e-6, looks=looks)


def show(rows: Iterable[dict[str, object]]) -> None:
    """Print rows as a Markdown table, each as soon as it is known."""
    for number, row in enumerate(rows):
        if number == 0:
            print("| " + " | ".join(row) + " |\n" + "| --- " * len(row) + "|")
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        lines = [pool.submit(line, each, options.studies, options.seed) for each in settings()]
        families = [
            pool.submit(family, seeds, looks, options.studies, options.seed)
            for seeds, looks in (
                (3, None),
                (5, None),
                (10, None),
                (12, (3, 5, 8, 12)),
                (23, (3, 5, 8, 12, 17, 23)),
            )
        ]
        show(each.result() for each in lines)
        show(each.result() for each in families)


if __name__ == "__main__":
    main()
