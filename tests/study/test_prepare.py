"""Data made ready: identities, statistics, and what is wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablate.data.splits import QUICK_ITEMS
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe
from ablate.study.planning import plan_study
from ablate.study.prepare import Prepared, prepare, presizes_of
from ablate.study.study import Study


def recipe(root: Path, **data: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "p",
            "size": 16,
            "phases": [{"name": "one", "epochs": 1}],
            "data": {"root": str(root), "table": "table.csv", "split": {"column": "is_val"}} | data,
        }
    )


def prepared(of: Recipe, **options: Any) -> Prepared:
    """As a run prepares it."""
    return prepare(of, presizes=presizes_of(of), **options)


def spoil(photos: Path) -> dict[str, str]:
    """Make two images for training and one for validation unusable; gives what is to be told of them."""
    (photos / "cat" / "1.png").write_bytes(b"")
    whole = (photos / "dog" / "2.jpg").read_bytes()
    (photos / "dog" / "2.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (8000, 2)).save(photos / "fox" / "7.png")
    return {
        "cat/1.png": "the file is empty",
        "dog/2.jpg": "is damaged",
        "fox/7.png": "an image of 8000 × 2 pixels is too long and thin",
    }


def test_without_looking_new_images_stay_unknown_and_known_ones_known(photos: Path):
    assert prepare(recipe(photos), look=False).identities[0].train is None
    looked = prepare(recipe(photos)).identities
    assert prepare(recipe(photos), look=False).identities == looked


def test_moved_data_is_the_same_data(photos: Path, tmp_path: Path):
    before = prepare(recipe(photos)).identities
    shutil.move(photos, tmp_path / "elsewhere")
    assert prepare(recipe(tmp_path / "elsewhere")).identities == before


def test_a_changed_image_changes_its_side_alone(photos: Path):
    before = prepare(recipe(photos)).identities[0]
    Image.new("RGB", (40, 40), "white").save(photos / "cat" / "0.jpg")  # a training image
    after = prepare(recipe(photos)).identities[0]
    assert after.train != before.train
    assert after.valid == before.valid


def test_pixel_statistics_are_of_the_training_images(photos: Path):
    made = prepare(recipe(photos))
    pixels = [
        np.asarray(Image.open(made.items.items[i].image).convert("RGB")).reshape(-1, 3) / 255
        for i in made.folds[0].train
    ]
    mean = np.mean([p.mean(axis=0) for p in pixels], axis=0)
    square = np.mean([(p**2).mean(axis=0) for p in pixels], axis=0)
    assert made.pixels[0][0] == pytest.approx(mean, abs=1e-9)
    assert made.pixels[0][1] == pytest.approx(np.sqrt(square - mean**2), abs=1e-9)


def test_quick_cuts_the_folds_down():
    digits = Recipe.from_dict({"name": "d", "phases": [{"name": "one", "epochs": 1}]})
    fold = prepare(digits, quick=True).folds[0]
    assert len(fold.train) == len(fold.valid) == QUICK_ITEMS


def test_progress_counts_the_new_images(photos: Path):
    told: list[tuple[int, int]] = []
    prepare(recipe(photos), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (24, 24)
    told.clear()
    prepare(recipe(photos), progress=lambda done, total: told.append((done, total)))
    assert told == []


def test_the_first_bad_image_is_named_and_the_rest_counted(photos: Path):
    for name in ("cat/1.png", "dog/3.png"):
        (photos / name).write_bytes(b"")
    with pytest.raises(AblateError, match=r"cat/1\.png: the file is empty.*\(1 more; `ablate check`"):
        prepare(recipe(photos))


@pytest.mark.parametrize("cache", ["auto", "off", {"format": "jpeg"}])
def test_one_bad_image_ends_it_and_says_what_to_do(cache: Any, photos: Path):
    Image.new("RGB", (8000, 2)).save(photos / "fox" / "7.png")
    with pytest.raises(AblateError) as caught:
        prepared(recipe(photos, cache=cache))
    told = str(caught.value)
    assert told.startswith("fox/7.png: an image of 8000 × 2 pixels is too long and thin to train on")
    assert told.endswith("`data.on_bad_image: skip` leaves such images out and lists them.")
    assert "more;" not in told


@pytest.mark.parametrize("cache", ["auto", "off", {"format": "jpeg"}])
@pytest.mark.parametrize("split", [{"column": "is_val"}, {"folds": 3}])
def test_bad_images_are_left_out_everywhere_and_listed(cache: Any, split: dict[str, Any], photos: Path):
    before = prepared(recipe(photos, cache=cache, split=split))
    assert before.skipped == {}
    bad = spoil(photos)
    with pytest.raises(AblateError, match=r"cat/1\.png: the file is empty.*\(2 more; `ablate check`"):
        prepared(recipe(photos, cache=cache, split=split))
    made = prepared(recipe(photos, cache=cache, split=split, on_bad_image="skip"))
    ids = {made.items.items[number].id: why for number, why in made.skipped.items()}
    assert ids.keys() == bad.keys()
    for name, why in ids.items():
        assert why.startswith(f"{name}: ")
        assert bad[name] in why
    out = set(made.skipped)
    for fold, whole in zip(made.folds, before.folds, strict=True):
        for side in ("train", "valid", "test"):
            kept = [number for number in getattr(whole, side).tolist() if number not in out]
            assert getattr(fold, side).tolist() == kept
    assert [one.train for one in made.identities] != [one.train for one in before.identities]


def test_what_is_skipped_is_the_same_with_and_without_a_cache(photos: Path):
    spoil(photos)
    with_, without = (prepared(recipe(photos, cache=cache, on_bad_image="skip")) for cache in ("auto", "off"))
    assert (with_.skipped, with_.identities) == (without.skipped, without.identities)
    assert with_.pixels == without.pixels
    assert with_.presized
    assert not without.presized


def test_a_side_without_a_usable_image_is_an_error(photos: Path):
    for i in (6, 7):
        for kind in ("cat", "dog", "fox"):
            next((photos / kind).glob(f"{i}.*")).write_bytes(b"")
    with pytest.raises(AblateError, match=r"on_bad_image: no usable image is left on one side"):
        prepared(recipe(photos, on_bad_image="skip"))


def with_extra(photos: Path, near: Any = 8, **data: Any) -> Recipe:
    given = {"table": "more.csv", "folder": "more", "near_duplicates": near}
    return recipe(photos, extra=given, **data)


@pytest.mark.parametrize("cache", ["auto", "off"])
def test_extra_images_that_leak_are_left_out_of_their_folds_training(cache: str, more_photos: Path):
    made = prepared(with_extra(more_photos, cache=cache, split={"folds": 4}))
    (of,) = [index for index, fold in enumerate(made.folds) if 7 in fold.valid]  # cat/7.png
    for index, fold in enumerate(made.folds):
        assert 26 in fold.train
        assert (24 in fold.train, 25 in fold.train) == (index != of, index != of)
        assert made.without(index) == ((24, 25) if index == of else ())
        assert not {24, 25, 26} & {*fold.valid.tolist(), *fold.test.tolist()}
    assert made.n_leaking == 2
    assert made.skipped == {}
    assert list(made.reasons) == ["anew.jpg", "mirrored.png"]
    assert made.reasons["anew.jpg"].startswith(
        f"near-duplicate of cat/7.png in validation of fold {of}, distance "
    )


def test_a_folds_identity_is_that_of_the_images_that_remain(more_photos: Path):
    without = prepared(recipe(more_photos)).identities[0]
    left, kept = (prepared(with_extra(more_photos, near)).identities[0] for near in (8, "keep"))
    assert len({without.train, left.train, kept.train}) == 3
    assert without.valid == left.valid == kept.valid
    rows = [
        line for line in (more_photos / "more.csv").read_text().splitlines() if line[:3] not in ("ane", "mir")
    ]
    (more_photos / "more.csv").write_text("\n".join(rows))
    alone = prepared(with_extra(more_photos))
    assert alone.left_out == [{}]
    assert alone.identities[0].valid == left.valid
    assert (
        prepared(with_extra(more_photos, "keep")).identities == alone.identities
    )  # what is not there cannot leak


def test_planning_tells_what_leaks_once_it_has_been_looked_at(more_photos: Path):
    prepared(with_extra(more_photos, "keep"))  # looks at all images, but not at what they look like
    unknown = prepare(with_extra(more_photos), look=False)
    assert unknown.identities[0].train is None
    assert unknown.identities[0].valid is not None
    assert unknown.left_out == [{}]
    looked = prepared(with_extra(more_photos))
    assert prepare(with_extra(more_photos), look=False).identities == looked.identities
    numbers, _ = plan_study(with_extra(more_photos))
    assert numbers["leaking_images"] == 2
    assert numbers["train_images"] == 18 + 1


def test_what_leaks_and_cannot_be_used_is_left_out_for_both(more_photos: Path):
    (more_photos / "more" / "new.png").write_bytes(b"")
    made = prepared(with_extra(more_photos, on_bad_image="skip"))
    assert made.without(0) == (26, 24, 25)
    assert made.folds[0].train.tolist() == [n for n in range(24) if n % 8 < 6]
    assert list(made.reasons) == ["anew.jpg", "mirrored.png", "new.png"]


def test_a_fold_without_a_class_is_told_and_an_error_for_a_metric_about_it(photos: Path):
    lines = (photos / "table.csv").read_text().splitlines()
    rare = [line for line in lines if not line.startswith("fox") or line[4] in "01"]
    (photos / "table.csv").write_text("\n".join(rare))
    notes: list[str] = []
    prepare(recipe(photos, split={"folds": 3}), note=notes.append)
    assert len(notes) == 1
    assert "has no validation images of class 'fox'" in notes[0]
    about = recipe(photos, split={"folds": 3}).override({"study.metric": "recall:fox"})
    with pytest.raises(
        AblateError, match=r"study\.metric: 'recall:fox' is about class 'fox', of which fold \d has"
    ):
        prepare(about, look=False)


def test_presizes_are_those_of_all_phases_of_all_variants(photos: Path):
    def made(cache: Any = "auto") -> list[tuple[int, int | None]]:
        sizes = {"one": {"size": 16, "presize": 20}}
        values = {
            "name": "p",
            "size": 32,
            "presize": 40,
            "phases": [{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1, "presize": 48}],
            "techniques": {"progressive_resizing": sizes},
            "study": {"vary": ["progressive_resizing"]},
            "data": {"root": str(photos), "cache": cache},
        }
        return [(one.shorter, one.quality) for one in presizes_of(Recipe.from_dict(values))]

    assert made() == [(20, None), (40, None), (48, None)]
    assert made({"format": "jpeg", "quality": 80}) == [(20, 80), (40, 80), (48, 80)]
    assert made({"format": "raw"}) == made()
    assert made("off") == []


def study_of(photos: Path, cache: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": f"tiny-{cache if isinstance(cache, str) else 'jpeg'}",
            "data": {
                "root": str(photos),
                "table": "table.csv",
                "split": {"column": "is_val"},
                "cache": cache,
                "on_bad_image": "skip",
            },
            "model": {"arch": "test_vit", "pretrained": False},
            "size": 16,
            "presize": 24,
            "batch_size": 6,
            "phases": [{"name": "one", "epochs": 2, "lr": 1e-3}],
            "techniques": {"progressive_resizing": {"one": {"size": 16, "presize": 20}}},
            "study": {"baseline": ["normalize", "augment"], "vary": ["tta"], "seeds": 1},
        }
    )


def test_a_study_gives_the_same_bits_with_and_without_a_cache_and_without_bad_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bad = spoil(photos)
    studies: dict[str, Study] = {}
    for cache in ("auto", "off"):
        monkeypatch.setenv("ABLATE_STORE", str(tmp_path / f"store-{cache}"))
        studies[cache] = study_of(photos, cache).run(tmp_path / "runs", threads=1)
    one, other = studies["auto"].predictions(), studies["off"].predictions()
    assert one.equals(other)
    assert set(one["item"]) == {
        f"{kind}/{i}.{'png' if i % 2 else 'jpg'}" for kind in ("cat", "dog", "fox") for i in (6, 7)
    } - set(bad)
    keys = [{path.name for path in (tmp_path / f"store-{cache}").glob("[!.]*")} for cache in studies]
    assert keys[0] == keys[1]
    assert len(keys[0]) == 3
    assert len(list((tmp_path / ".cache" / "presized" / "24-raw").glob("[0-9]*.pack"))) == 1
    numbers, plan = plan_study(study_of(photos, "off"), tmp_path / "runs", threads=1)
    assert (numbers["skipped_images"], numbers["epochs_left"]) == (3, 0)
    assert set(plan.stages) == keys[0]
    jpeg, raw = (plan_study(study_of(photos, cache))[1] for cache in ({"format": "jpeg"}, {"format": "raw"}))
    assert not set(jpeg.stages) & set(raw.stages)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"study.metric": "top_5_accuracy"},
            "metric 'top_5_accuracy' needs 5 classes or more, and these data",
        ),
        ({"study.metrics": ["f1", "top_4_accuracy"]}, "metrics.1 'top_4_accuracy' needs 4 classes or more"),
        (
            {"study.metrics": ["recall:cow"]},
            "metrics.0 'recall:cow' is about no class of these data; they have",
        ),
    ],
)
def test_a_metric_that_does_not_suit_the_classes_is_refused(
    photos: Path, fields: dict[str, Any], message: str
):
    with pytest.raises(AblateError, match=f"study.{message}"):
        prepare(recipe(photos).override(fields), look=False)
    assert prepare(recipe(photos).override({"study.metric": "top_3_accuracy"}), look=False)


@pytest.mark.parametrize("fields", [{"study.metric": "roc_auc"}, {"keep_by": "roc_auc"}])
def test_above_1000_classes_what_ranks_by_every_class_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
):
    of = recipe(photos).override(fields)
    prepare(of, look=False)
    monkeypatch.setattr("ablate.analysis.names.MOST_CLASSES", 2)
    name = next(iter(fields))
    with pytest.raises(AblateError, match=f"{name} 'roc_auc' needs the probabilities of all classes"):
        prepare(of, look=False)
    prepare(recipe(photos).override({"study.metrics": ["f1", "top_2_accuracy"]}), look=False)


def test_bad_images_may_leave_no_validation_set_where_there_was_none(photos: Path):
    spoil(photos)
    of = recipe(photos, split={"none": True}, on_bad_image="skip")
    (fold,) = prepare(of).folds
    assert (len(fold.train), len(fold.valid)) == (21, 0)
