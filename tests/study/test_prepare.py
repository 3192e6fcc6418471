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
from ablate.study.prepare import prepare


def recipe(root: Path, **data: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "p",
            "size": 16,
            "phases": [{"name": "one", "epochs": 1}],
            "data": {"root": str(root), "table": "table.csv", "split": {"column": "is_val"}} | data,
        }
    )


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
