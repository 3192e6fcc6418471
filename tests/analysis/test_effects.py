"""The table of effects: what it equals in simple cases, which trials it uses, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablate.analysis.contrasts import Contrast
from ablate.analysis.crossed import crossed_mean, t_interval
from ablate.analysis.effects import effects
from ablate.analysis.metrics import metric_values
from ablate.errors import AblateError

Tables = tuple[pd.DataFrame, pd.DataFrame]
COLUMNS = [
    *(
        "factor",
        "level",
        "contrast",
        "metric",
        "n_seeds",
        "effect",
        "ci_low",
        "ci_high",
        "p_value",
        "p_adjusted",
    ),
    *("verdict", "seed_ci_low", "seed_ci_high", "primary"),
]


def row_of(frame: pd.DataFrame, contrast: str, metric: str = "accuracy") -> pd.Series:
    (row,) = (row for _, row in frame.iterrows() if (row["contrast"], row["metric"]) == (contrast, metric))
    return row


def test_columns_and_rows_are_those_of_the_design(study: Tables):
    found = effects(*study)
    assert list(found.columns) == COLUMNS
    assert found["contrast"].unique().tolist() == ["baseline+mixup − baseline", "baseline+tta − baseline"]
    assert found["metric"].tolist() == ["accuracy", "balanced_accuracy", "log_loss"] * 2
    assert found["factor"].unique().tolist() == ["mixup", "tta"]
    assert found["primary"].tolist() == [True, False, False] * 2
    assert found["n_seeds"].tolist() == [4] * 6


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "log_loss"])
def test_effect_and_seed_interval_are_scipys_paired_t_test(study: Tables, metric: str):
    trials, predictions = study
    by_trial = metric_values(predictions, [metric]).pivot(index="seed", columns="variant", values=metric)
    expected = stats.ttest_rel(by_trial["baseline+mixup"], by_trial["baseline"])
    interval = expected.confidence_interval(0.95)
    row = row_of(effects(trials, predictions), "baseline+mixup − baseline", metric)
    difference = (by_trial["baseline+mixup"] - by_trial["baseline"]).mean()
    assert row["effect"] == pytest.approx(difference, abs=1e-10)
    assert (row["seed_ci_low"], row["seed_ci_high"]) == pytest.approx(
        (interval.low, interval.high), abs=1e-10
    )


def test_the_interval_is_the_crossed_one_of_the_item_differences(study: Tables):
    trials, predictions = study
    hit = predictions.assign(hit=(predictions["target"] == predictions["pred"]).astype(float))
    table = hit.pivot(index="seed", columns=["variant", "item"], values="hit")
    expected = t_interval(crossed_mean((table["baseline+mixup"] - table["baseline"]).to_numpy()))
    row = row_of(effects(trials, predictions), "baseline+mixup − baseline")
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert row["p_value"] == pytest.approx(expected.p_value, abs=1e-12)


def test_a_clear_improvement_helps_on_every_metric_in_its_direction(study: Tables):
    found = effects(*study)
    mixup = found[found["factor"] == "mixup"]
    assert mixup["verdict"].tolist() == ["helps"] * 3
    assert (np.sign(mixup["effect"]) == [1, 1, -1]).all()
    worse = effects(*study, baseline="baseline+mixup")
    assert worse[worse["level"] == "on"]["verdict"].tolist() == ["hurts"] * 6


def test_p_adjusted_is_holms_over_the_primary_contrasts_on_the_study_metric(study: Tables):
    found = effects(*study, metric="log_loss", smallest_effect=0.0)
    primary = found[found["primary"]]
    assert primary["metric"].tolist() == ["log_loss"] * 2
    expected = np.asarray(multipletests(primary["p_value"], method="holm")[1])
    assert primary["p_adjusted"].tolist() == pytest.approx(expected.tolist())
    assert found.loc[~found["primary"], "p_adjusted"].isna().all()


def test_exploratory_contrasts_are_never_primary_and_do_not_weigh_on_the_others(study: Tables):
    first = Contrast("mixup", "on", "first", {"baseline+mixup": 1.0, "baseline": -1.0})
    second = Contrast("x", "on", "second", {"baseline+tta": 1.0, "baseline": -1.0}, primary=False)
    found = effects(*study, contrasts=[first, second])
    assert found["primary"].tolist() == [True, False, False, False, False, False]
    assert found["p_adjusted"][0] == found["p_value"][0]


def test_contrasts_may_weigh_more_than_two_variants(study: Tables):
    trials, predictions = study
    weights = {"baseline+mixup": 0.5, "baseline+tta": 0.5, "baseline": -1.0}
    found = effects(trials, predictions, contrasts=[Contrast("any", "on", "mean of both", weights)])
    means = metric_values(predictions, ["accuracy"]).groupby("variant")["accuracy"].mean()
    assert found["effect"][0] == pytest.approx(sum(weight * means[name] for name, weight in weights.items()))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_flipped_weights_mirror_every_row_and_row_order_does_not_matter(
    tables: Callable[..., Tables], draw: int
):
    trials, predictions = tables({"a": 1.0, "b": 1.5}, seeds=3, items=20, draw=draw)
    forward = effects(trials, predictions, contrasts=[Contrast("f", "on", "c", {"b": 1.0, "a": -1.0})])
    mirrored = effects(
        trials.sample(frac=1, random_state=draw),
        predictions.sample(frac=1, random_state=draw),
        contrasts=[Contrast("f", "on", "c", {"b": -1.0, "a": 1.0})],
    )
    for low, high in (("effect", "effect"), ("ci_low", "ci_high"), ("seed_ci_low", "seed_ci_high")):
        np.testing.assert_allclose(mirrored[low], -forward[high], atol=1e-10)
    np.testing.assert_allclose(mirrored["p_value"], forward["p_value"], atol=1e-9)
    opposite = {"helps": "hurts", "hurts": "helps"}
    assert [opposite.get(each, each) for each in mirrored["verdict"]] == forward["verdict"].tolist()


def test_folds_are_pooled_out_of_fold(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=3, items=20, folds=5)
    found = effects(trials, predictions)
    pooled = effects(trials, predictions.assign(fold=0).drop(columns="fold"))
    pd.testing.assert_frame_equal(found, pooled)
    scores = metric_values(predictions, ["accuracy"]).groupby(["variant", "seed"])["accuracy"].mean()
    assert found["effect"][0] == pytest.approx((scores["b"] - scores["baseline"]).mean())


def test_one_seed_gives_an_effect_and_no_interval(tables: Callable[..., Tables]):
    found = effects(*tables({"baseline": 0.0, "b": 9.0}, seeds=1))
    assert found["n_seeds"].tolist() == [1, 1, 1]
    assert found["effect"][0] > 0.3
    assert (
        found[["ci_low", "ci_high", "p_value", "seed_ci_low", "seed_ci_high", "p_adjusted"]]
        .isna()
        .to_numpy()
        .all()
    )
    assert found["verdict"].tolist() == ["undecided"] * 3


def test_failed_and_missing_trials_leave_the_seeds_that_are_paired(study: Tables):
    trials, predictions = study
    trials.loc[(trials["variant"] == "baseline+mixup") & (trials["seed"] == 0), "status"] = "failed"
    gone = (predictions["variant"] == "baseline") & (predictions["seed"] == 1)
    found = effects(trials, predictions[~gone])
    assert found["n_seeds"].tolist() == [2, 2, 2, 3, 3, 3]
    some = effects(trials[trials["seed"] > 1], predictions[predictions["seed"] > 1])
    mixup = found["factor"] == "mixup"
    columns = ["effect", "ci_low", "ci_high", "p_value", "seed_ci_low", "seed_ci_high"]
    pd.testing.assert_frame_equal(found.loc[mixup, columns], some.loc[mixup, columns])


def test_a_diverged_trial_may_hold_nan(study: Tables):
    trials, predictions = study
    lost = (predictions["variant"] == "baseline+tta") & (predictions["seed"] == 2)
    predictions.loc[lost, "p_0"] = np.nan
    trials.loc[(trials["variant"] == "baseline+tta") & (trials["seed"] == 2), "status"] = "diverged"
    assert effects(trials, predictions)["n_seeds"].tolist() == [4, 4, 4, 3, 3, 3]
    with pytest.raises(AblateError, match=r"baseline\+tta, seed 2"):
        effects(trials.assign(status="ok"), predictions)


def test_a_missing_fold_costs_that_fold_only(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, seeds=3, items=20, folds=2)
    trials.loc[(trials["variant"] == "b") & (trials["seed"] == 0) & (trials["fold"] == 1), "status"] = (
        "failed"
    )
    row = effects(trials, predictions).iloc[0]
    scores = metric_values(predictions, ["accuracy"]).set_index(["variant", "seed", "fold"])["accuracy"]
    gain = (scores["b"] - scores["baseline"]).drop((0, 1)).groupby("seed").mean()
    assert row["n_seeds"] == 3
    assert row["effect"] == pytest.approx(gain.mean())
    assert row["ci_low"] < row["effect"] < row["ci_high"]


def test_no_pair_of_trials_gives_a_row_that_says_nothing(study: Tables):
    trials, predictions = study
    trials.loc[trials["variant"] == "baseline+mixup", "status"] = "failed"
    found = effects(trials, predictions)
    mixup = found[found["factor"] == "mixup"]
    assert mixup["n_seeds"].tolist() == [0, 0, 0]
    assert mixup[["effect", "ci_low", "p_value", "p_adjusted", "seed_ci_low"]].isna().to_numpy().all()
    assert mixup["verdict"].tolist() == ["undecided"] * 3
    tta = row_of(found, "baseline+tta − baseline")
    assert tta["p_adjusted"] == tta["p_value"]


def test_identical_predictions_are_negligible_on_every_metric(study: Tables):
    trials, predictions = study
    same = predictions[predictions["variant"] == "baseline"]
    both = pd.concat([same, same.assign(variant="copy"), same.assign(variant="third")])
    trials = pd.concat([trials.assign(variant=name) for name in ("baseline", "copy", "third")])
    thirds = Contrast("f", "on", "thirds", {"baseline": 1 / 3, "copy": 2 / 3, "third": -1.0})
    for contrasts in (None, [thirds]):
        found = effects(trials, both, contrasts=contrasts)
        assert (found[["effect", "ci_low", "ci_high", "seed_ci_low", "seed_ci_high"]] == 0).to_numpy().all()
        assert (found["p_value"] == 1).all()
        assert (found["verdict"] == "negligible").all()


def test_the_smallest_effect_holds_for_metrics_in_the_unit_of_the_studys(study: Tables):
    found = effects(*study, smallest_effect=10.0)
    assert found["verdict"].tolist()[:3] == ["negligible", "negligible", "helps"]
    found = effects(*study, metric="log_loss", smallest_effect=10.0)
    assert found["verdict"].tolist()[:3] == ["helps", "helps", "negligible"]


def test_the_study_metric_is_measured_even_when_not_asked_for(study: Tables):
    found = effects(*study, metrics=["accuracy"], metric="log_loss")
    assert found["metric"].unique().tolist() == ["accuracy", "log_loss"]


def test_tables_from_anywhere_need_little(study: Tables):
    trials, predictions = study
    bare = effects(
        trials[["variant", "seed"]],
        predictions[["variant", "seed", "item", "target", "pred"]],
        metrics=["accuracy", "balanced_accuracy"],
    )
    full = effects(trials, predictions, metrics=["accuracy", "balanced_accuracy"])
    pd.testing.assert_frame_equal(bare, full)


def test_the_test_split_is_never_looked_at(study: Tables):
    trials, predictions = study
    extra = predictions.assign(split="test", pred=0)
    pd.testing.assert_frame_equal(
        effects(trials, pd.concat([predictions, extra])), effects(trials, predictions)
    )


def other_items(predictions: pd.DataFrame) -> pd.DataFrame:
    swap = (predictions["variant"] == "baseline+mixup") & (predictions["item"] == "img_0_0007")
    return predictions.assign(item=predictions["item"].where(~swap, "stranger"))


def other_targets(predictions: pd.DataFrame) -> pd.DataFrame:
    swap = (predictions["variant"] == "baseline+mixup") & (predictions["item"] == "img_0_0007")
    return predictions.assign(target=predictions["target"].where(~swap, (predictions["target"] + 1) % 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_items, r"baseline\+mixup.* \(seed 0, fold 0\) do not match: 2 .*'(stranger|img_0_0007)'"),
        (other_targets, r"target of item 'img_0_0007' differs"),
        (lambda table: table[table["item"] != "img_0_0003"].pipe(other_items), "do not match"),
        (lambda table: pd.concat([table, table]), "more than once"),
        (
            lambda table: table.assign(item=table["item"].replace("img_0_0002", "img_0_0001")),
            "more than once",
        ),
        (lambda table: table.drop(columns="item"), "no column item"),
        (
            lambda table: table.assign(item=table["item"].where(table["item"] != "img_0_0002")),
            "without an `item`",
        ),
        (
            lambda table: table.assign(variant=table["variant"].where(table["seed"] > 0)),
            "rows without a variant",
        ),
        (lambda table: table.assign(split="val"), "no row of the split 'valid'; it has val"),
        (lambda table: table.assign(seed=table["seed"].astype(str)), "None of the finished trials"),
        (lambda table: table.assign(pred=table["pred"].astype(str)), "name classes alike in both"),
        (lambda table: table.assign(p_1=2.0), "probabilities in p_1 that are not between 0 and 1"),
    ],
)
def test_predictions_that_cannot_be_paired_are_refused(
    study: Tables, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
):
    trials, predictions = study
    with pytest.raises(AblateError, match=message):
        effects(trials, change(predictions))


def test_an_item_in_two_folds_is_refused(tables: Callable[..., Tables]):
    trials, predictions = tables({"baseline": 1.0, "b": 2.0}, folds=2)
    predictions["item"] = predictions["item"].replace("img_1_0000", "img_0_0000")
    with pytest.raises(AblateError, match="more than one fold"):
        effects(trials, predictions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f2"}, "no metric 'f2'"),
        ({"metrics": ["f2"]}, "no metric 'f2'"),
        ({"baseline": "plain"}, "no variant 'plain'"),
    ],
)
def test_names_that_are_not_there_are_refused(study: Tables, options: dict, message: str):
    with pytest.raises(AblateError, match=message):
        effects(*study, **options)


def test_without_probabilities_the_usual_metrics_do_without_them(study: Tables):
    trials, predictions = study
    bare = predictions[["variant", "seed", "item", "target", "pred"]]
    assert list(effects(trials, bare)["metric"].unique()) == ["accuracy", "balanced_accuracy"]
    with pytest.raises(AblateError, match="log_loss needs the probabilities"):
        effects(trials, bare, metric="log_loss")


@pytest.mark.parametrize("options", [{"confidence": 95}, {"smallest_effect": -0.1}, {"confidence": math.nan}])
def test_options_that_cannot_be_are_refused(study: Tables, options: dict):
    with pytest.raises(AblateError, match="must lie between 0 and 1"):
        effects(*study, **options)


def test_tables_of_pandas_own_types_and_whole_probabilities_give_the_same(study: Tables):
    trials, predictions = study
    usual = effects(trials, predictions)
    pd.testing.assert_frame_equal(effects(trials.convert_dtypes(), predictions.convert_dtypes()), usual)
    sure = predictions.assign(**{f"p_{k}": (predictions["pred"] == k).astype(int) for k in range(3)})
    assert effects(trials, sure)["effect"][0] == usual["effect"][0]


def test_classes_by_name_and_by_code_give_the_same(study: Tables):
    trials, predictions = study
    names = ["2", "b", "0"]
    named = predictions.assign(**{c: [names[k] for k in predictions[c]] for c in ("target", "pred")})
    by_code = effects(trials, predictions, metric="recall:2", metrics=[], classes=names)
    by_name = effects(trials, named, metric="recall:2", metrics=[])
    assert by_code["effect"].tolist() == by_name["effect"].tolist()
    hit = predictions[predictions["target"] == 0].assign(hit=lambda own: own["pred"] == 0)
    recall = hit.groupby("variant")["hit"].mean()
    assert by_code["effect"][0] == pytest.approx(recall["baseline+mixup"] - recall["baseline"])


def test_contrasts_of_one_name_keep_their_own_numbers(study: Tables):
    one = Contrast("x", "on", "same", {"baseline+mixup": 1.0, "baseline": -1.0})
    other = Contrast("x", "on", "same", {"baseline+tta": 1.0, "baseline": -1.0})
    alone = effects(*study, contrasts=[other], metrics=[])
    assert effects(*study, contrasts=[one, other], metrics=[])["effect"][1] == alone["effect"][0]
