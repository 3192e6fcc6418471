"""Out-of-fold predictions: a row per item, by networks that did not train on it, the mean over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_studies import Alone

from ablate.errors import AblateError
from ablate.prediction.out_of_fold import out_of_fold


def test_every_item_once_with_the_mean_over_seeds(small: Alone):
    found, note = out_of_fold(small.study, "baseline+tta")
    assert list(found) == ["item", "fold", "target", "label", "p_cat", "p_dog", "p_fox"]
    rows = pd.read_csv(small.tables / "train.csv").set_index("image")["label"]
    assert sorted(found["item"]) == sorted(rows.index)
    assert found["target"].tolist() == rows[found["item"]].tolist()
    for fold in (0, 1):
        seeds = [small.own("baseline+tta", seed, fold).set_index("item") for seed in (0, 1)]
        own = found[found["fold"] == fold].set_index("item")
        for k, name in enumerate(["cat", "dog", "fox"]):
            mean = (seeds[0][f"p_{k}"] + seeds[1][f"p_{k}"]) / 2
            assert np.allclose(own[f"p_{name}"], mean[own.index], atol=1e-6)
    best = found[["p_cat", "p_dog", "p_fox"]].to_numpy().argmax(1)
    assert found["label"].tolist() == [["cat", "dog", "fox"][k] for k in best]
    assert note == "baseline+tta: out-of-fold predictions, the mean over 2 seeds"


def test_without_folds_they_are_those_of_the_validation_split(table: Alone):
    found, note = out_of_fold(table.study)
    assert len(found) == 8
    assert note == (
        "baseline: out-of-fold predictions, the mean over 1 seed; the study has no folds, so they are of its "
        "validation split alone"
    )


def test_a_variant_that_has_predicted_nothing(changed: Alone):
    predictions = changed.study.predictions()
    predictions[predictions.variant != "baseline"].to_parquet(changed.folder / "predictions.parquet")
    with pytest.raises(AblateError, match="no trial of baseline has predicted a validation split"):
        out_of_fold(changed.study, "baseline")
