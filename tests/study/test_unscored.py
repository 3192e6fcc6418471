from __future__ import annotations

import numpy as np
import pytest

from ablate.data.items import Item, Items
from ablate.data.splits import Fold
from ablate.errors import AblateError
from ablate.study.unscored import tell_unscored, unscored_classes

NONE = np.zeros(0, dtype=np.int64)


def items(*targets: int) -> Items:
    none = np.zeros((1, 1), np.uint8)
    return Items(
        [Item(i, str(i), none, t) for i, t in enumerate(targets)], ["cat", "dog", "fox"][: max(targets) + 1]
    )


def fold(*valid: int) -> Fold:
    return Fold(NONE, np.array(valid), NONE)


THREE = items(0, 1, 2, 0, 1, 0)


def told(metric: str = "accuracy", **folds: Fold) -> list[str]:
    notes: list[str] = []
    tell_unscored(THREE, {int(name[1:]): one for name, one in folds.items()}, metric, notes.append)
    return notes


def test_folds_with_every_class_need_no_word():
    assert told(_0=fold(0, 1, 2), _1=fold(2, 3, 4)) == []


def test_a_fold_without_a_class_is_told_in_one_line():
    assert unscored_classes(THREE, {1: fold(0, 1, 2), 3: fold(0)}) == [(3, 1), (3, 2)]
    assert told(_0=fold(0, 1, 2), _1=fold(3, 4)) == [
        "fold 1 has no validation images of class 'fox': scores are about the other classes there"
    ]
    assert told(_2=fold(0), _3=fold(4)) == [
        "fold 2 has no validation images of class 'dog' and 3 more like that: scores are about the other "
        "classes there"
    ]
    assert told(_0=fold(3, 4)) == [
        "the split has no validation images of class 'fox': scores are about the other classes there"
    ]


def test_without_a_validation_set_nothing_is_told():
    assert told(_0=fold()) == []


@pytest.mark.parametrize("metric", ["recall:fox", "roc_auc:fox", "f1:fox"])
def test_a_metric_about_a_class_needs_it_in_every_fold(metric: str):
    message = rf"study\.metric: '{metric}' is about class 'fox', of which fold 1 has no validation images"
    with pytest.raises(AblateError, match=message):
        told(metric, _0=fold(0, 1, 2), _1=fold(3, 4))
    assert len(told(metric, _0=fold(0, 1, 2), _1=fold(2, 4))) == 1  # another class


@pytest.mark.parametrize(
    ("metric", "is_error"), [("roc_auc", True), ("average_precision", True), ("accuracy", False)]
)
def test_ranking_two_classes_needs_both(metric: str, is_error: bool):
    notes: list[str] = []
    two, folds = items(0, 1, 0, 1), {0: fold(0, 1), 1: fold(2)}
    if is_error:
        with pytest.raises(AblateError, match="about class 'dog', of which fold 1 has no validation images"):
            tell_unscored(two, folds, metric, notes.append)
    else:
        tell_unscored(two, folds, metric, notes.append)
        assert len(notes) == 1
