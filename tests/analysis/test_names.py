"""What is known of metrics without computing them agrees with how they are computed."""

from __future__ import annotations

import pytest

from ablate.analysis.metrics import find_metric
from ablate.analysis.names import (
    heading,
    higher_is_better,
    is_metric,
    known_metrics,
    measured,
    needs_all,
    parse,
    shown_in,
    title,
    why_not,
)


@pytest.mark.parametrize("name", [*known_metrics(), "top_1_accuracy", "average_precision:a:b", "f1:0"])
def test_every_name_is_a_metric_that_can_be_found(name: str):
    assert is_metric(name)
    assert find_metric(name).name == name


@pytest.mark.parametrize(
    "name", ["acuracy", "top_0_accuracy", "top_accuracy", "recall:", "accuracy:cat", "log_loss:cat", ""]
)
def test_other_names_are_none(name: str):
    assert parse(name) is None


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", (100.0, "points", 2)),
        ("roc_auc:melanoma", (100.0, "points", 2)),
        ("top_5_accuracy", (100.0, "points", 2)),
        ("log_loss", (1.0, "nats", 4)),
        ("other", (1.0, "", 4)),
    ],
)
def test_shares_are_shown_in_points(metric: str, expected: tuple[float, str, int]):
    assert shown_in(metric) == expected


def test_only_losses_and_errors_are_better_when_lower():
    lower = [name for name in known_metrics() if not higher_is_better(name)]
    assert lower == ["log_loss", "expected_calibration_error"]


def test_titles_are_for_people():
    assert [
        title(name) for name in ("recall:melanoma", "top_5_accuracy", "f1", "balanced_accuracy", "x_y")
    ] == [
        "recall of melanoma",
        "top-5 accuracy",
        "F1",
        "balanced accuracy",
        "x y",
    ]


def test_a_sentence_begins_with_a_capital_and_leaves_classes_alone():
    assert heading("roc_auc:CBB of Uganda") == "ROC AUC of CBB of Uganda"
    assert heading("balanced_accuracy") == "Balanced accuracy"


def test_a_study_measures_its_own_metric_once():
    assert measured("roc_auc") == ("accuracy", "balanced_accuracy", "log_loss", "roc_auc")
    assert measured("accuracy") == ("accuracy", "balanced_accuracy", "log_loss")
    assert measured("f1", ["accuracy", "top_2_accuracy", "f1"]) == (
        *("accuracy", "balanced_accuracy", "log_loss", "f1", "top_2_accuracy"),
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("top_5_accuracy", "needs 5 classes or more, and these data have 3; take a smaller k."),
        ("recall:cow", "is about no class of these data; they have ant, bee, cat."),
        ("top_3_accuracy", ""),
        ("recall:bee", ""),
        ("log_loss", ""),
    ],
)
def test_a_metric_may_not_suit_the_classes(name: str, reason: str):
    assert why_not(name, ["ant", "bee", "cat"]) == reason


def test_of_many_classes_a_few_are_named():
    reason = why_not("f1:cow", [str(k) for k in range(81_313)])
    assert reason.endswith("18, 19 and 81,293 more.")
    assert len(reason) < 150


def test_rankings_need_the_probabilities_of_all_classes():
    assert [name for name in known_metrics() if needs_all(name)] == ["roc_auc", "average_precision"]
    assert needs_all("roc_auc:melanoma")
