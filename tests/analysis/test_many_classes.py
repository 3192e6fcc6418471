"""Studies with thousands of classes: right numbers, and a report that is short and made in bounded memory."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from folders import write_study
from many_classes import draw_many_classes
from sklearn.metrics import balanced_accuracy_score

from ablate.analysis.effects import analyse
from ablate.analysis.metrics import metric_values
from ablate.analysis.report import write_report

VARIANTS = {"baseline": 0.6, "baseline+arcface": 0.7}
TOP_K = [f"top_{k}_accuracy" for k in (1, 10, 100, 1000)]


@pytest.mark.parametrize("classes", [2000, 81_313])
def test_metrics_of_many_classes(classes: int):
    _, predictions = draw_many_classes(VARIANTS, classes, items=5000)
    names = ["accuracy", "balanced_accuracy", "log_loss", *TOP_K]
    found = metric_values(predictions, names, classes=[str(k) for k in range(classes)])
    for row in found.to_dict("records"):
        own = predictions[(predictions["variant"] == row["variant"]) & (predictions["seed"] == row["seed"])]
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(own["target"], own["pred"]))
        assert row["log_loss"] == pytest.approx(-np.log(own["p_target"].astype(float)).mean())
        for k in (1, 10, 100, 1000):
            assert row[f"top_{k}_accuracy"] == pytest.approx((own["rank_target"] <= k).mean())
        assert row["accuracy"] == row["top_1_accuracy"]


def test_effects_on_top_k_accuracies_are_differences_of_their_means():
    trials, predictions = draw_many_classes(VARIANTS, 2000, items=2000)
    found = analyse(trials, predictions, metrics=TOP_K).effects.set_index("metric")
    for k in (1, 10, 100, 1000):
        hits = (predictions["rank_target"] <= k).groupby(predictions["variant"]).mean()
        expected = hits["baseline+arcface"] - hits["baseline"]
        assert found.loc[f"top_{k}_accuracy", "effect"] == pytest.approx(expected)
        assert not found.loc[f"top_{k}_accuracy", "primary"]
    assert found.loc["accuracy", "primary"]


@pytest.mark.parametrize(("classes", "seconds"), [(2000, 20), (81_313, 30)])
def test_the_report_is_bounded(tmp_path: Path, classes: int, seconds: float):
    trials, predictions = draw_many_classes(VARIANTS, classes, items=20_000)
    names = [f"landmark {k}" for k in range(classes)]
    write_study(tmp_path, trials, predictions, names)
    began = time.perf_counter()
    tracemalloc.start()
    write_report(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - began < seconds
    assert peak < 200e6
    text = (tmp_path / "report.html").read_text()
    assert len(text) < 400_000
    assert f"Of {classes:,} classes, the 20 that change most" in text
    assert "What is confused most often" in text
    assert "Calibration" in text
    assert "Confusion matrices" not in text
    assert text.count("<th") < 500
