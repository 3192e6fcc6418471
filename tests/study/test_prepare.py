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
