"""Extra training images: never scored, and left out where something like them is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablate.data import extra
from ablate.data.inspect import inspect
from ablate.data.items import Item, Items, load_items
from ablate.data.likeness import Hashing
from ablate.data.splits import Fold, make_folds
from ablate.recipe.data_schema import Data

MORE = ("new.png", "copy.jpg", "small.jpg", "turned.png", "of-patient.png")


def smooth(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.fixture
def photos_and_more(tmp_path: Path) -> Path:
    """Twelve photos of a.png to l.png with table.csv, and five more in more/ with more.csv.

    a to c are for validation. copy.jpg and small.jpg are d and b stored anew, turned.png is c.
    """
    (tmp_path / "more").mkdir()
    lines = ["image,label,is_val,patient"]
    for i, name in enumerate("abcdefghijkl"):
        smooth(i).save(tmp_path / f"{name}.png")
        lines.append(f"{name}.png,{'xyz'[i % 3]},{i < 3},p{i}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    smooth(20).save(tmp_path / "more/new.png")
    smooth(3).save(tmp_path / "more/copy.jpg", quality=60)
    smooth(1).resize((48, 36)).save(tmp_path / "more/small.jpg", quality=60)
    smooth(2).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "more/turned.png")
    smooth(21).save(tmp_path / "more/of-patient.png")
    patients = dict(zip(MORE, ("q0", "q1", "q2", "q3", "p0"), strict=True))
    rows = [f"{name},x,{patients[name]}" for name in MORE]
    (tmp_path / "more.csv").write_text("\n".join(["image,label,patient", *rows]))
    return tmp_path


def data(root: Path, split: dict[str, Any] | None = None, near: Any = 8, **fields: Any) -> Data:
    given = {"table": "more.csv", "folder": "more", "near_duplicates": near}
    split = split or {"column": "is_val"}
    values = {"root": str(root), "table": "table.csv", "split": split, "extra": given}
    return Data.model_validate(values | fields)


def left_out(of: Data, look: bool = True) -> tuple[list[dict[str, str]], bool]:
    items = load_items(of)
    hashing = Hashing()
    looks = inspect(items.items, visit=hashing if look else None)
    hashing.finish()
    found, is_final = extra.left_out(items, make_folds(items, of), of, np.arange(len(items.items)), looks)
    return [{items.items[number].id: why for number, why in out.items()} for out in found], is_final


def test_extra_images_are_trained_on_in_every_fold_and_scored_in_none(photos_and_more: Path):
    for split in ({"column": "is_val"}, {"folds": 4}, {"random": 0.25}):
        for test in (None, {"random": 0.25}):
            wanted = data(photos_and_more, split, test=test)
            without = wanted.model_copy(update={"extra": None})
            alone = make_folds(load_items(without), without)
            for fold, before in zip(make_folds(load_items(wanted), wanted), alone, strict=True):
                assert fold.train.tolist() == [*before.train.tolist(), 12, 13, 14, 15, 16]
                assert fold.valid.tolist() == before.valid.tolist()
                assert fold.test.tolist() == before.test.tolist()


def test_what_looks_like_a_scored_image_is_left_out_and_says_why(photos_and_more: Path):
    (found,), is_final = left_out(data(photos_and_more))
    assert is_final
    assert found.keys() == {"small.jpg", "turned.png"}
    assert found["small.jpg"].startswith("near-duplicate of b.png in validation, distance ")
    assert found["turned.png"].startswith("near-duplicate of c.png in validation, distance ")
    assert left_out(data(photos_and_more, near="keep")) == ([{}], True)
    assert left_out(data(photos_and_more, extra=None)) == ([{}], True)


def test_every_fold_leaves_out_its_own(photos_and_more: Path):
    wanted = data(photos_and_more, {"folds": 4})
    items = load_items(wanted)
    found, _ = left_out(wanted)
    twins = {"copy.jpg": "d.png", "small.jpg": "b.png", "turned.png": "c.png"}
    for index, (fold, out) in enumerate(zip(make_folds(items, wanted), found, strict=True)):
        scored = {items.items[number].id for number in fold.valid}
        assert out.keys() == {name for name, twin in twins.items() if twin in scored}
        assert all(f"{twins[name]} in validation of fold {index}, " in why for name, why in out.items())
    assert sum(map(len, found)) == 3


def test_test_images_are_scored_too(photos_and_more: Path):
    smooth(3).save(photos_and_more / "t.png")
    (photos_and_more / "test.csv").write_text("image,label\nt.png,x\n")
    (found,), _ = left_out(data(photos_and_more, test={"table": "test.csv"}))
    assert found["copy.jpg"].startswith("near-duplicate of t.png in test, distance ")


def test_the_nearest_is_told():
    hashes = np.zeros((4, 8), np.uint64)
    hashes[1], hashes[2], hashes[3] = 0b111, 0b1, 0b11
    none = np.zeros(1, np.uint8)
    items = Items([Item(i, str(i), none, 0) for i in range(4)], ["x"], extra=np.arange(4) == 0)
    fold = Fold(np.array([0]), np.array([1, 2]), np.array([3]))
    for most, told in ((8, "2 in validation, distance 1"), (0, None)):
        (found,) = extra.near_duplicates(items, [fold], hashes, np.ones(4, bool), most)
        assert found.get(0) == (told and f"near-duplicate of {told}")
    (found,) = extra.near_duplicates(items, [fold], hashes, np.array([True, True, False, True]), 8)
    assert found[0] == "near-duplicate of 1 in validation, distance 3"


def test_a_group_that_is_scored_is_not_trained_on(photos_and_more: Path):
    (found,), _ = left_out(data(photos_and_more, {"column": "is_val", "group": "patient"}, near="keep"))
    assert found == {"of-patient.png": "its group p0 is in validation"}
    wanted = data(photos_and_more, {"folds": 4, "group": "patient"}, near="keep")
    items, (found, _) = load_items(wanted), left_out(wanted)
    groups = items.groups
    assert groups is not None
    for fold, out in zip(make_folds(items, wanted), found, strict=True):
        trained = fold.without([item.number for item in items.items if item.id in out]).train
        assert not set(groups[trained]) & set(groups[fold.valid])
    assert sum(map(len, found)) == 1


def test_without_having_looked_it_is_not_final(photos_and_more: Path):
    assert left_out(data(photos_and_more), look=False) == ([{}], False)
    assert left_out(data(photos_and_more, near="keep"), look=False) == ([{}], True)


def test_real_extra_photos(cassava: Path):
    wanted = data(
        cassava,
        {"folds": 5},
        table="train_val_split.csv",
        image={"column": "image_id", "folder": "train_images"},
        extra={"table": "extra.csv", "folder": "extra_images"},
    )
    found, _ = left_out(wanted)
    names = {name: why for out in found for name, why in out.items()}
    assert names.keys() == {f"extra_{i}.jpg" for i in range(10)}  # stored anew; the others are other photos
    assert sum(map(len, found)) == 10
