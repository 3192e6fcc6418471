"""Contrasts with missing trials against statsmodels' least squares, and against the crossed analysis."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from ablate.analysis.contrasts import Contrast
from ablate.analysis.crossed import crossed_mean, mean_of
from ablate.analysis.effects import analyse
from ablate.analysis.linear import fit
from ablate.analysis.metrics import find_metric, metric_values
from ablate.analysis.pairing import PairedPredictions

Tables = tuple[pd.DataFrame, pd.DataFrame]
STRENGTH = {"baseline": 0.5, "baseline+a": 1.0, "baseline+b": 0.8, "baseline+a+b": 1.6}
MAINS = [
    Contrast("a", "on", "a", {"baseline": -0.5, "baseline+a": 0.5, "baseline+b": -0.5, "baseline+a+b": 0.5}),
    Contrast("b", "on", "b", {"baseline": -0.5, "baseline+a": -0.5, "baseline+b": 0.5, "baseline+a+b": 0.5}),
]


def without(found: Tables, lost: list[tuple[str, int, int]]) -> Tables:
    trials, predictions = found
    keys = trials[["variant", "seed", "fold"]].itertuples(index=False, name=None)
    return trials.assign(status=["diverged" if key in lost else "ok" for key in keys]), predictions


@pytest.mark.parametrize("folds", [1, 3])
def test_the_effect_and_its_interval_over_seeds_are_statsmodels(tables: Callable[..., Tables], folds: int):
    lost = [("baseline+a", 0, 0), ("baseline+b", 1, folds - 1), ("baseline+a+b", 2, 0)]
    trials, predictions = without(tables(STRENGTH, seeds=4, folds=folds), lost)
    scores = metric_values(predictions, ["accuracy"]).merge(trials[trials["status"] == "ok"])
    scores["a"] = scores["variant"].str.contains(r"\+a").astype(float)
    scores["b"] = scores["variant"].str.endswith("+b").astype(float)
    blocks = " + C(fold)" if folds > 1 else ""
    model = ols("accuracy ~ a + b + C(seed)" + blocks, scores).fit()
    found = analyse(trials, predictions, contrasts=MAINS, metrics=["accuracy"])
    row = found.effects.iloc[0]
    assert found.details["interval"].tolist() == ["linear model"] * 2
    assert row["effect"] == pytest.approx(model.params["a"], abs=1e-10)
    low, high = model.conf_int().loc["a"]
    assert (row["seed_ci_low"], row["seed_ci_high"]) == pytest.approx((low, high), abs=1e-10)
    assert row["ci_low"] <= row["seed_ci_low"] + 1e-12


def test_with_all_trials_it_is_the_crossed_analysis(tables: Callable[..., Tables]):
    trials, predictions = tables(STRENGTH, seeds=4)
    paired, metric = PairedPredictions(trials, predictions), find_metric("accuracy")
    contrast = Contrast("a", "on", "a − baseline", {"baseline+a": 1.0, "baseline": -1.0})
    table = paired.cases(contrast, metric, paired.seeds(contrast.variants)).values
    fitted = fit(paired, contrast, [contrast], metric, range(4))
    assert fitted is not None
    expected, by_seed = crossed_mean(table), mean_of(table.mean(axis=1))
    for ours, theirs in ((fitted.estimate, expected), (fitted.seeds_only, by_seed)):
        assert (ours.mean, ours.se, ours.df) == pytest.approx((theirs.mean, theirs.se, theirs.df), rel=1e-9)


def test_a_balanced_main_effect_is_the_contrast_itself(tables: Callable[..., Tables]):
    trials, predictions = tables(STRENGTH, seeds=3)
    paired, metric = PairedPredictions(trials, predictions), find_metric("log_loss")
    fitted = fit(paired, MAINS[0], MAINS, metric, range(3))
    found = analyse(trials, predictions, contrasts=MAINS, metric="log_loss", metrics=[])
    assert fitted is not None
    assert fitted.estimate.mean == pytest.approx(found.effects["effect"][0], abs=1e-12)
    assert found.details["interval"][0] == "seeds and images"


def test_what_the_trials_cannot_tell_apart_is_not_estimated(tables: Callable[..., Tables]):
    # a and b always come together: their effects cannot be told apart
    both = {name: strength for name, strength in STRENGTH.items() if name in ("baseline", "baseline+a+b")}
    paired = PairedPredictions(*tables(both, seeds=3))
    assert fit(paired, MAINS[0], MAINS, find_metric("accuracy"), range(3)) is None


def test_intervals_hold_when_trials_are_missing():
    rng = np.random.default_rng(0)
    metric = find_metric("accuracy")
    lost, hits, studies = {(0, 0), (1, 1), (3, 2)}, 0, 250
    for _ in range(studies):
        item = rng.normal(size=150)
        own = 0.4 * rng.normal(size=(4, 150))
        rows = []
        for v, s in itertools.product(range(4), range(4)):
            if (v, s) in lost:
                continue
            score = 0.8 + item + own[v] + 0.1 * rng.normal() + 0.5 * rng.normal(size=150)
            pred = (score <= 0).astype(int)
            name = list(STRENGTH)[v]
            rows.append(
                pd.DataFrame({"variant": name, "seed": s, "item": range(150), "target": 0, "pred": pred})
            )
        predictions = pd.concat(rows)
        paired = PairedPredictions(predictions[["variant", "seed"]].drop_duplicates(), predictions)
        fitted = fit(paired, MAINS[0], MAINS, metric, range(4))
        assert fitted is not None
        hits += abs(fitted.estimate.mean) <= fitted.estimate.error.half_width(0.95)
    assert 0.91 <= hits / studies <= 0.99


def test_a_variant_that_never_finished_is_not_made_up(tables: Callable[..., Tables]):
    trials, predictions = without(tables(STRENGTH, seeds=3), [("baseline+a+b", seed, 0) for seed in range(3)])
    found = analyse(trials, predictions, contrasts=MAINS, metrics=[])
    assert found.effects["verdict"].tolist() == ["undecided"] * 2
    assert found.effects["effect"].isna().all()
    assert "baseline+a+b finished in none" in found.details["note"][0]


def test_a_single_group_gives_no_interval_here_either(tables: Callable[..., Tables]):
    trials, predictions = without(tables(STRENGTH, seeds=3), [("baseline+a", 0, 0)])
    found = analyse(trials, predictions.assign(group="one"), contrasts=MAINS, metrics=[])
    assert found.details["interval"].tolist() == ["none"] * 2
    assert found.effects["ci_low"].isna().all()


def test_seeds_with_items_of_their_own_use_the_complete_ones(tables: Callable[..., Tables]):
    trials, predictions = without(tables(STRENGTH, seeds=4), [("baseline+a", 0, 0)])
    own = predictions.assign(item=predictions["item"] + "_" + predictions["seed"].astype(str))
    found = analyse(trials, own, contrasts=MAINS, metrics=[])
    assert found.details["interval"].tolist() == ["seeds and images"] * 2
    assert found.effects["n_seeds"].tolist() == [3, 3]
