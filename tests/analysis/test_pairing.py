"""Predictions matched seed by seed and item by item."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ablate.analysis.contrasts import Contrast
from ablate.analysis.metrics import find_metric
from ablate.analysis.pairing import Cases, PairedPredictions, by_group, merge_small
from ablate.errors import AblateError

CONTRAST = Contrast("x", "on", "b − a", {"b": 1.0, "a": -1.0})


def tables(hits: dict[tuple[str, int], list[int]], items: str = "pqr") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and predictions from which items each trial gets right."""
    trials = pd.DataFrame([{"variant": v, "seed": s, "fold": 0, "status": "ok"} for v, s in hits])
    rows = [
        {"variant": v, "seed": s, "fold": 0, "split": "valid", "item": item, "target": 0, "pred": 1 - hit}
        for (v, s), right in hits.items()
        for item, hit in zip(items, right, strict=True)
    ]
    predictions = pd.DataFrame(rows)
    predictions["p_0"] = 0.9 - 0.8 * predictions["pred"]
    predictions["p_1"] = 1 - predictions["p_0"]
    return trials, predictions


def cases_of(trials: pd.DataFrame, predictions: pd.DataFrame, metric: str = "accuracy") -> Cases:
    paired = PairedPredictions(trials, predictions)
    return paired.cases(CONTRAST, find_metric(metric), paired.seeds(CONTRAST.variants))


def test_the_table_is_seeds_by_items_by_hand():
    hits = {("a", 0): [1, 0, 0], ("a", 1): [1, 1, 0], ("b", 0): [1, 1, 0], ("b", 1): [0, 1, 1]}
    trials, predictions = tables(hits)
    cases = cases_of(trials, predictions.sample(frac=1, random_state=0))
    assert sorted(map(tuple, np.sort(cases.values, axis=1))) == sorted([(0, 0, 1), (-1, 0, 1)])
    assert cases.n_items == 3


def test_only_seeds_that_both_variants_finished_are_paired():
    hits = {("a", 0): [1, 0, 0], ("a", 1): [1, 1, 0], ("b", 0): [1, 1, 0], ("b", 1): [0, 1, 1]}
    trials, predictions = tables(hits)
    trials.loc[3, "status"] = "failed"
    assert list(PairedPredictions(trials, predictions).seeds(["a", "b"])) == [0]


def test_items_that_do_not_match_are_an_error():
    trials, predictions = tables({("a", 0): [1, 0, 0], ("b", 0): [1, 1, 0]})
    predictions.loc[predictions.variant == "b", "item"] = ["p", "q", "z"]
    with pytest.raises(AblateError):
        cases_of(trials, predictions)


def test_groups_are_the_cases_and_a_row_keeps_its_mean():
    hits = {("a", 0): [1, 0, 0, 1], ("b", 0): [1, 1, 0, 0], ("a", 1): [0, 0, 0, 1], ("b", 1): [1, 1, 1, 1]}
    trials, predictions = tables(hits, "pqrs")
    predictions["group"] = predictions["item"].map({"p": "one", "q": "one", "r": "two", "s": None})
    cases = cases_of(trials, predictions)
    assert cases.n_items == 4
    # differences 0 1 0 −1 and 1 1 1 0, means 0 and 3/4; the groups' deviations times 3 groups ÷ 4 items
    by_hand = np.array([[0.75, 0, -0.75], [0.75 + 0.375, 0.75 + 0.1875, 0.75 - 0.5625]])
    np.testing.assert_allclose(cases.values, by_hand)


def test_groups_of_one_item_are_items():
    rng = np.random.default_rng(0)
    values, strata = rng.normal(size=(3, 12)), np.arange(12) % 3
    found, of = by_group(values, strata, np.arange(12)[::-1].copy())
    np.testing.assert_allclose(found[:, ::-1].mean(axis=1), values.mean(axis=1))
    # each stratum's deviations are the items' own
    for stratum in range(3):
        own = values[:, strata == stratum]
        moved = found[:, ::-1][:, strata == stratum]
        np.testing.assert_allclose(
            moved - moved.mean(axis=1, keepdims=True), own - own.mean(axis=1, keepdims=True)
        )
    assert of[::-1].tolist() == strata.tolist()


def test_groups_that_mix_classes_are_one_stratum():
    _, of = by_group(np.zeros((2, 4)), np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1]))
    assert of.tolist() == [0, 0]


def test_an_item_in_two_groups_is_refused():
    trials, predictions = tables({("a", 0): [1, 0, 0], ("b", 0): [1, 1, 0]})
    predictions["group"] = [1, 2, 3, 1, 2, 2]
    with pytest.raises(AblateError, match="'r' is in one group here and in another there"):
        cases_of(trials, predictions)


def test_targets_that_differ_between_seeds_are_refused():
    trials, predictions = tables({(v, s): [1, 0, 0] for v in "ab" for s in (0, 1)})
    predictions.loc[(predictions["seed"] == 1) & (predictions["item"] == "q"), "target"] = 1
    with pytest.raises(AblateError, match="target of item 'q' differs between trials"):
        cases_of(trials, predictions)


@pytest.mark.parametrize(
    ("strata", "expected"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1]),
        ([0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1]),
        ([0, 0, 1, 2], [1, 1, 0, 0]),
        ([4, 7], [0, 0]),
        ([3], [0]),
    ],
)
def test_classes_with_a_single_case_are_compared_with_others(strata: list[int], expected: list[int]):
    found = merge_small(np.array(strata))
    pairs = {(a, b) for a, b in zip(found.tolist(), expected, strict=True)}
    assert len(pairs) == len(set(expected)) == len(set(found.tolist()))


def test_auc_is_averaged_within_folds_and_accuracy_pooled():
    rng = np.random.default_rng(2)
    rows = []
    for variant in "ab":
        for seed in range(2):
            for item in range(30):
                target, fold = item % 2, item // 15
                p = 1 / (1 + np.exp(-(rng.normal() + target + 3 * fold)))  # folds whose scores do not compare
                rows.append((variant, seed, fold, f"i{item}", target, int(p > 0.5), 1 - p, p))
    predictions = pd.DataFrame(
        rows, columns=["variant", "seed", "fold", "item", "target", "pred", "p_0", "p_1"]
    )
    trials = predictions[["variant", "seed", "fold"]].drop_duplicates()

    def auc(variant: str, seed: int, fold: int) -> float:
        own = predictions.query("variant == @variant and seed == @seed and fold == @fold")
        return float(roc_auc_score(own["target"], own["p_1"]))

    expected = [np.mean([auc("b", s, f) - auc("a", s, f) for f in (0, 1)]) for s in (0, 1)]
    assert cases_of(trials, predictions, "roc_auc").values.mean(axis=1) == pytest.approx(expected)
