from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from ablate.data.items import Item, Items, load_items
from ablate.data.splits import QUICK_ITEMS, Fold, make_folds, quick_fold
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

COUNTS = st.lists(st.integers(2, 20), min_size=2, max_size=5)
TARGETS = COUNTS.map(lambda counts: np.repeat(range(len(counts)), counts).tolist()).flatmap(st.permutations)
SEEDS = st.integers(0, 1000)
PINNED = [[1, 5, 8], [1, 4, 7], [0, 3, 4, 6, 8]]
NO_IMAGE = np.zeros((1, 1), dtype=np.uint8)


def make_items(targets: Sequence[int], groups: Sequence[int] | None = None, **marks: Any) -> Items:
    names = [""] * len(targets) if groups is None else [f"g{group}" for group in groups]
    items = [
        Item(i, str(i), NO_IMAGE, int(t), g) for i, (t, g) in enumerate(zip(targets, names, strict=True))
    ]
    return Items(items, [f"class {k}" for k in range(max(targets) + 1)], **marks)


def data(test: dict[str, Any] | None = None, **split: Any) -> Data:
    return Data.model_validate({"split": split, "test": test})


def skin(seed: int = 0, n_lesions: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Targets and groups like HAM10000's: seven uneven classes, one to four photos of a lesion."""
    rng = np.random.default_rng(seed)
    photos = rng.choice([1, 2, 3, 4], size=n_lesions, p=[0.7, 0.2, 0.07, 0.03])
    lesions = rng.choice(7, size=n_lesions, p=[0.03, 0.05, 0.11, 0.01, 0.11, 0.67, 0.02])
    return np.repeat(lesions, photos), np.repeat(np.arange(n_lesions), photos)


def assert_partition(fold: Fold, n_items: int) -> None:
    sides = [fold.train, fold.valid, fold.test]
    assert np.sort(np.concatenate(sides)).tolist() == list(range(n_items))
    assert all((np.diff(side) > 0).all() for side in sides)


def folds_or_none(items: Items, wanted: Data) -> list[Fold] | None:
    """The folds, or None where the items are too few for them."""
    try:
        return make_folds(items, wanted)
    except AblateError:
        return None


@given(TARGETS, st.floats(0.05, 0.9), SEEDS)
def test_a_random_split_keeps_the_share_of_every_class(targets: list[int], share: float, seed: int):
    items, wanted = make_items(targets), data(random=share, seed=seed)
    folds = folds_or_none(items, wanted)
    assume(folds)
    assert folds is not None
    (fold,) = folds
    assert_partition(fold, len(targets))
    counts, held_out = (np.bincount(items.targets[s], minlength=5) for s in (slice(None), fold.valid))
    assert (np.abs(held_out - counts * share) <= 1).all()
    assert (held_out < np.maximum(counts, 1)).all()
    if (counts[counts > 0] >= 2 / (1 - share)).all():  # else a class would be held out whole
        assert len(fold.valid) == round(len(targets) * share)
    (again,) = make_folds(items, wanted)
    np.testing.assert_array_equal(fold.valid, again.valid)


@given(st.integers(5, 60), st.floats(0.1, 0.9), SEEDS)
def test_a_random_split_without_classes_has_the_exact_size(n: int, share: float, seed: int):
    items = make_items([0] * n + [1] * n)
    folds = folds_or_none(items, data(random=share, seed=seed, stratify=False))
    assume(folds)
    assert folds is not None
    assert_partition(folds[0], 2 * n)
    assert len(folds[0].valid) == round(2 * n * share)


@given(TARGETS, st.integers(2, 6), st.booleans(), SEEDS)
def test_every_item_is_validated_once_in_folds(targets: list[int], k: int, stratify: bool, seed: int):
    items, wanted = make_items(targets), data(folds=k, stratify=stratify, seed=seed)
    folds = folds_or_none(items, wanted)
    assume(folds)
    assert folds is not None
    assert len(folds) == k
    assert sorted(np.concatenate([fold.valid for fold in folds])) == list(range(len(targets)))
    for fold in folds:
        assert_partition(fold, len(targets))
    sizes = [len(fold.valid) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    if stratify:
        counts = np.array([np.bincount(items.targets[fold.valid], minlength=5) for fold in folds])
        assert (np.ptp(counts, axis=0) <= 1).all()
    again = make_folds(items, wanted)
    assert all(np.array_equal(a.valid, b.valid) for a, b in zip(folds, again, strict=True))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15)), min_size=8, max_size=80),
    st.one_of(
        st.fixed_dictionaries({"folds": st.integers(2, 5)}),
        st.fixed_dictionaries({"random": st.floats(0.1, 0.9)}),
    ),
    st.booleans(),
    st.booleans(),
    SEEDS,
)
def test_a_group_never_stands_on_two_sides(
    rows: list[tuple[int, int]], way: dict[str, Any], stratify: bool, test: bool, seed: int
):
    targets, groups = zip(*rows, strict=True)
    items = make_items(targets, groups)
    tested = {"random": 0.2} if test else None
    wanted = data(tested, **way, stratify=stratify, seed=seed, group="g")
    folds = folds_or_none(items, wanted)
    assume(folds)
    assert folds is not None
    of_item = np.array(groups)
    for fold in folds:
        assert_partition(fold, len(rows))
        sides = [set(of_item[side]) for side in (fold.train, fold.valid, fold.test)]
        assert sum(len(side) for side in sides) == len(set(groups))
        np.testing.assert_array_equal(fold.test, folds[0].test)
    again = make_folds(items, wanted)
    assert all(np.array_equal(a.train, b.train) for a, b in zip(folds, again, strict=True))


def unevenness(sides: list[np.ndarray], targets: np.ndarray) -> float:
    """How far the folds' shares of each class lie from even, on average."""
    counts = np.array([np.bincount(targets[side], minlength=targets.max() + 1) for side in sides])
    return float(np.abs(counts / np.bincount(targets) - 1 / len(sides)).mean())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [3, 5])
def test_grouped_folds_are_as_even_as_scikit_learns(k: int, seed: int):
    targets, groups = skin(seed)
    folds = make_folds(
        make_items(targets.tolist(), groups.tolist()), data(folds=k, group="lesion", seed=seed)
    )
    peer = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(targets, targets, groups)
    theirs = unevenness([valid for _, valid in peer], targets)
    assert unevenness([fold.valid for fold in folds], targets) <= theirs * 1.1 + 1e-9
    sizes = [len(fold.valid) for fold in folds]
    assert max(sizes) - min(sizes) <= 0.02 * len(targets)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7])
@pytest.mark.parametrize("stratify", [True, False])
def test_a_grouped_random_split_has_the_share_asked_for(share: float, stratify: bool):
    targets, groups = skin()
    wanted = data(random=share, group="lesion", stratify=stratify)
    (fold,) = make_folds(make_items(targets.tolist(), groups.tolist()), wanted)
    assert len(fold.valid) / len(targets) == pytest.approx(share, abs=0.01)
    if stratify:
        counts, held_out = np.bincount(targets), np.bincount(targets[fold.valid], minlength=7)
        assert np.abs(held_out - counts * share).max() <= 4 + 0.02 * counts.max()


def test_a_rare_class_is_never_held_out_whole():
    items = make_items([0] * 50 + [1] * 2 + [2])
    (fold,) = make_folds(items, data(random=0.8))
    assert np.bincount(items.targets[fold.train]).tolist() == [10, 1, 1]


def test_few_groups_are_shared_out_as_well_as_they_can():
    items = make_items([0, 1] * 6, np.repeat(range(3), 4).tolist())
    for share, held_out in ((0.1, 4), (0.3, 4), (0.6, 8), (0.9, 8)):
        (fold,) = make_folds(items, data(random=share, group="g"))
        assert len(fold.valid) == held_out


def test_the_split_depends_on_its_own_seed():
    items = make_items([0, 1] * 50, np.repeat(range(25), 4).tolist())
    for groups in (True, False):
        plain = items if groups else make_items([0, 1] * 50)
        for way in ({"random": 0.3}, {"folds": 4}, {"folds": 4, "stratify": False}):
            splits = [make_folds(plain, data(**way, seed=seed))[0].valid.tolist() for seed in (0, 1, 0)]
            assert splits[0] != splits[1]
            assert splits[0] == splits[2]


def test_splits_never_change():
    targets = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert [
        make_folds(make_items(targets), data(random=0.3))[0].valid.tolist(),
        make_folds(make_items(targets), data(folds=3, seed=5))[1].valid.tolist(),
        make_folds(make_items(targets, [0, 1, 2, 3, 4, 5, 6, 7, 6, 7]), data(folds=2))[0].valid.tolist(),
    ] == PINNED


def test_a_column_says_who_is_validated():
    marks = np.array([True, False, False, True, False, True])
    (fold,) = make_folds(make_items([0, 0, 1, 1, 0, 1], held_out=marks), data(column="v"))
    assert_partition(fold, 6)
    assert fold.valid.tolist() == [0, 3, 5]


def test_without_a_validation_set_all_but_the_test_items_are_trained_on():
    targets = [0, 1] * 20
    (fold,) = make_folds(make_items(targets), data(none=True))
    assert (fold.train.tolist(), len(fold.valid), len(fold.test)) == (list(range(40)), 0, 0)
    (fold,) = make_folds(make_items(targets), data({"random": 0.25}, none=True))
    assert (len(fold.train), len(fold.valid), len(fold.test)) == (30, 0, 10)
    assert_partition(fold, 40)
    quick = quick_fold(fold, make_items(targets), 8)
    assert (len(quick.train), len(quick.valid), len(quick.test)) == (8, 0, 8)


@pytest.mark.parametrize("way", [{"random": 0.25}, {"folds": 4}, {"column": "v"}])
def test_test_items_are_the_same_in_every_fold_and_seen_in_none(way: dict[str, Any]):
    targets = [0, 1] * 50
    by_column = make_items(targets, held_out=np.arange(100) % 3 == 0, tested=np.arange(100) >= 80)
    at_random = make_items(targets, held_out=np.arange(100) % 3 == 0)
    for items, wanted in ((by_column, data(**way)), (at_random, data({"random": 0.2, "seed": 4}, **way))):
        folds = make_folds(items, wanted)
        for fold in folds:
            assert_partition(fold, 100)
            np.testing.assert_array_equal(fold.test, folds[0].test)
            assert np.bincount(items.targets[fold.test]).tolist() == [10, 10]
    other = make_folds(at_random, data({"random": 0.2, "seed": 5}, **way))
    assert (
        other[0].test.tolist()
        != make_folds(at_random, data({"random": 0.2, "seed": 4}, **way))[0].test.tolist()
    )


@pytest.mark.parametrize(
    ("items", "wanted", "message"),
    [
        (make_items([0, 1]), data(random=0.01), "fold 0 has no validation images"),
        (
            make_items([0, 1], held_out=np.array([True, True])),
            data(column="v"),
            "fold 0 has no training images",
        ),
        (
            make_items([0, 1, 1], held_out=np.array([True, False, False])),
            data(column="v"),
            "class 'class 0' has validation images but no training images in fold 0",
        ),
        (
            make_items(
                [0, 0, 1], held_out=np.array([True, False, False]), tested=np.array([False, False, True])
            ),
            data(column="v"),
            "class 'class 1' has test images but no training images in fold 0",
        ),
        (make_items([0, 1, 1, 1]), data(folds=2), "class 'class 0' has validation images but no training"),
        (make_items([0, 1, 1]), data(folds=4), "4 folds need 4 images, there are 3"),
        (
            make_items([0, 1, 0, 1], [0, 0, 1, 1]),
            data(folds=3, group="g"),
            "3 parts need 3 groups, there are 2",
        ),
        (
            make_items([0, 1, 0, 1], [0] * 4),
            data(random=0.5, group="g"),
            "2 parts need 2 groups, there are 1",
        ),
        (
            make_items([0, 1, 0, 1], [7, 7, 8, 8], held_out=np.array([True, False, False, True])),
            data(column="v", group="patient"),
            r"group: patient 'g7' has images in training and in validation \(1 more groups too\); correct",
        ),
        (
            make_items([0, 1, 0, 1, 0], [7, 7, 8, 8, 8], tested=np.array([False] * 4 + [True])),
            data({"column": "t"}, random=0.5, group="patient"),
            "group: patient 'g8' has images in (training|validation) and in test; correct the split",
        ),
    ],
)
def test_a_split_that_cannot_be_made_says_why(items: Items, wanted: Data, message: str):
    with pytest.raises(AblateError, match=message) as caught:
        make_folds(items, wanted)
    assert str(caught.value).startswith("data.split")


def test_a_quick_fold_is_a_small_stratified_sample():
    items = make_items(([0] * 6 + [1] * 3 + [2]) * 60)
    (fold,) = make_folds(items, data({"random": 0.02}, random=0.5))
    quick = quick_fold(fold, items)
    for side, whole in ((quick.train, fold.train), (quick.valid, fold.valid)):
        assert len(side) == QUICK_ITEMS
        assert set(side) < set(whole)
        np.testing.assert_allclose(
            np.bincount(items.targets[side]) / QUICK_ITEMS, [0.6, 0.3, 0.1], atol=1 / QUICK_ITEMS
        )
    np.testing.assert_array_equal(quick.test, fold.test)  # small enough as it is
    again = quick_fold(fold, items)
    np.testing.assert_array_equal(again.train, quick.train)
    assert len(quick_fold(fold, items, 10).valid) == 10


def test_real_lesions_stay_together(cassava: Path):
    fields = {
        "root": str(cassava.parent / "ham10000"),
        "table": "metadata.csv",
        "image": {"column": "image_id", "folder": "images", "suffix": ".jpg"},
        "label": {"column": "dx"},
        "split": {"folds": 5, "group": "lesion_id"},
    }
    wanted = Data.model_validate(fields)
    items = load_items(wanted)
    assert items.groups is not None
    folds = make_folds(items, wanted)
    for fold in folds:
        assert not set(items.groups[fold.train]) & set(items.groups[fold.valid])
    peer = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(
        items.targets, items.targets, items.groups
    )
    theirs = unevenness([valid for _, valid in peer], items.targets)
    assert unevenness([fold.valid for fold in folds], items.targets) <= theirs * 1.1 + 1e-9
