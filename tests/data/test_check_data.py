from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ablate.data.check as check_data_module
from ablate.data.check import CheckReport, check_data
from ablate.errors import AblateError
from ablate.recipe.recipe import Recipe


def check(root: Path | None, **data: Any) -> CheckReport:
    where = {} if root is None else {"root": str(root)}
    return check_data(
        Recipe.from_dict({"name": "t", "data": where | data, "phases": [{"name": "a", "epochs": 1}]})
    )


def by_column(root: Path) -> CheckReport:
    return check(root, table="table.csv", split={"column": "is_val"})


def add_row(root: Path, image: str, label: str, is_val: bool) -> None:
    with (root / "table.csv").open("a") as file:
        file.write(f"{image},{label},{is_val},p\n")


def test_photos_without_fault(photos: Path):
    report = by_column(photos)
    assert report == CheckReport(
        bad=[],
        counts=[{"train": [6, 6, 6], "valid": [2, 2, 2], "test": [0, 0, 0]}],
        sizes=(32, 44, 48, 36),
        leaks=[],
        repeats=[],
        classes=["cat", "dog", "fox"],
        n_items=24,
    )


def test_counts_are_per_fold_and_side(photos: Path):
    report = check(photos, split={"folds": 4}, test={"random": 1 / 3})
    assert len(report.counts) == 4
    for fold in report.counts:
        assert list(fold) == ["train", "valid", "test"]
        assert sum(fold["test"]) == 8
        assert sum(fold["train"]) == 12
        assert sum(fold["valid"]) == 4
        assert np.sum(list(fold.values()), axis=0).tolist() == [8, 8, 8]
        assert fold["test"] == report.counts[0]["test"]


def test_every_bad_image_is_told_with_its_reason(photos: Path):
    content = (photos / "cat/0.jpg").read_bytes()
    (photos / "cat/0.jpg").write_bytes(content[: len(content) // 2])
    (photos / "cat/1.png").write_bytes(b"")
    (photos / "dog/2.jpg").write_text("404 not found")
    (photos / "fox/3.png").unlink()
    Image.new("CMYK", (10, 300)).save(photos / "fox/4.jpg")
    report = by_column(photos)
    reasons = dict(report.bad)
    assert list(reasons) == ["cat/0.jpg", "cat/1.png", "dog/2.jpg", "fox/3.png"]
    assert reasons["cat/0.jpg"].startswith("is damaged (")
    assert reasons["cat/1.png"].startswith("the file is empty")
    assert reasons["dog/2.jpg"].startswith("is not an image")
    assert reasons["fox/3.png"].startswith(f"{photos}/fox/3.png: there is no such file")
    assert report.counts[0]["train"] == [6, 6, 6]
    assert report.sizes == (32, 44, 10, 300)
    assert report.n_items == 24


def test_no_usable_image_at_all(photos: Path):
    for path in photos.rglob("*.*g"):
        path.write_bytes(b"")
    report = by_column(photos)
    assert len(report.bad) == 24
    assert report.sizes == (0, 0, 0, 0)
    assert report.leaks == []  # empty files are no copies of each other
    assert report.repeats == []


def test_copies_on_two_sides_are_leaks(photos: Path):
    for name, is_val in (("a", True), ("b", True), ("c", False)):
        shutil.copy(photos / "cat/0.jpg", photos / f"{name}.jpg")
        add_row(photos, f"{name}.jpg", "cat", is_val)
    report = by_column(photos)
    assert report.leaks == [(0, "train", "valid", ("cat/0.jpg", "c.jpg"), ("a.jpg", "b.jpg"))]
    assert report.repeats == []


def test_a_leak_under_another_label_is_still_a_leak_alone(photos: Path):
    shutil.copy(photos / "cat/0.jpg", photos / "a.jpg")
    add_row(photos, "a.jpg", "dog", True)
    report = by_column(photos)
    assert report.leaks == [(0, "train", "valid", ("cat/0.jpg",), ("a.jpg",))]
    assert report.repeats == []


def test_copies_with_differing_labels_on_one_side_are_repeats(photos: Path):
    for name, label in (("a", "dog"), ("b", "cat")):
        shutil.copy(photos / "cat/0.jpg", photos / f"{name}.jpg")
        add_row(photos, f"{name}.jpg", label, False)
    shutil.copy(photos / "fox/0.jpg", photos / "c.jpg")
    add_row(photos, "c.jpg", "fox", False)  # the same label: harmless
    report = by_column(photos)
    assert report.repeats == [("cat/0.jpg", "a.jpg", "b.jpg")]
    assert report.leaks == []


def test_leaks_into_the_test_table(photos: Path):
    shutil.copy(photos / "cat/0.jpg", photos / "a.jpg")
    shutil.copy(photos / "dog/7.png", photos / "b.png")
    (photos / "test.csv").write_text("image,label\na.jpg,cat\nb.png,dog\n")
    report = check(photos, table="table.csv", split={"column": "is_val"}, test={"table": "test.csv"})
    assert report.leaks == [
        (0, "train", "test", ("cat/0.jpg",), ("a.jpg",)),
        (0, "valid", "test", ("dog/7.png",), ("b.png",)),
    ]
    assert report.counts[0]["test"] == [1, 1, 0]


def test_leaks_are_told_for_every_fold(photos: Path):
    shutil.copy(photos / "cat/0.jpg", photos / "cat/copy.jpg")
    report = check(photos, split={"folds": 3})
    sides = {(fold, a, b) for fold, a, b, _, _ in report.leaks}
    assert sides in ({(i, "train", "valid") for i in range(3) if i != free} for free in range(3))
    assert {frozenset(ids_a + ids_b) for *_, ids_a, ids_b in report.leaks} == {
        frozenset(("cat/0.jpg", "cat/copy.jpg"))
    }


def test_a_conflict_is_told_once_for_all_folds(photos: Path):
    shutil.copy(photos / "cat/0.jpg", photos / "dog/copy.jpg")
    assert check(photos, split={"folds": 4}).repeats == [("cat/0.jpg", "dog/copy.jpg")]


def smooth(seed: int) -> Image.Image:
    """What a photo of another thing would be."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)


def add_twins(photos: Path) -> None:
    """A training image, and the same for validation: as it is, of half the size, mirrored."""
    image = smooth(0)
    image.save(photos / "one.png")
    image.resize((48, 36)).save(photos / "half.jpg", quality=70)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "mirrored.png")
    shutil.copy(photos / "one.png", photos / "same.png")
    for name in ("one.png", "half.jpg", "mirrored.png", "same.png"):
        add_row(photos, name, "cat", name != "one.png")


def test_images_that_look_the_same_on_two_sides_are_told(photos: Path):
    add_twins(photos)
    report = by_column(photos)
    assert report.leaks == [(0, "train", "valid", ("one.png",), ("same.png",))]
    assert report.twins is not None
    assert {twins[:5] for twins in report.twins} == {
        (0, "train", "valid", "one.png", "half.jpg"),
        (0, "train", "valid", "one.png", "mirrored.png"),
    }
    assert all(distance <= check_data_module.TWINS for *_, distance in report.twins)


def test_twins_are_told_for_every_fold_that_they_stand_apart_in(photos: Path):
    smooth(0).save(photos / "cat/one.png")
    smooth(0).save(photos / "cat/two.jpg", quality=70)
    report = check(photos, split={"folds": 3, "stratify": False})
    assert report.twins is not None
    assert len(report.twins) == 2  # once the one is for validation, once the other
    assert {frozenset(twins[3:5]) for twins in report.twins} == {frozenset(("cat/one.png", "cat/two.jpg"))}
    for fold, side_a, side_b, a, _, _ in report.twins:
        assert (side_a, side_b) == ("train", "valid")
        assert (fold, a) in {(twins[0], twins[3]) for twins in report.twins}


def test_twins_are_not_looked_for_among_too_many(photos: Path, monkeypatch: pytest.MonkeyPatch):
    add_twins(photos)
    monkeypatch.setattr(check_data_module, "MOST_PAIRS", 100)
    assert by_column(photos).twins is None


def test_extra_images_that_are_left_out_are_no_leak(photos: Path):
    smooth(0).save(photos / "one.png")
    smooth(0).resize((48, 36)).save(photos / "half.jpg", quality=70)
    shutil.copy(photos / "one.png", photos / "same.png")
    add_row(photos, "one.png", "cat", True)
    (photos / "more.csv").write_text("image,label\nhalf.jpg,cat\nsame.png,cat\n")
    split = {"column": "is_val"}
    report = check(photos, table="table.csv", split=split, extra={"table": "more.csv"})
    assert (report.leaks, report.twins) == ([], [])
    assert {name for name, _ in report.left_out} == {"same.png", "half.jpg"}
    assert all(why.startswith("near-duplicate of one.png in validation, ") for _, why in report.left_out)
    assert report.counts[0]["train"] == [6, 6, 6]
    kept = {"table": "more.csv", "near_duplicates": "keep"}
    report = check(photos, table="table.csv", split=split, extra=kept)
    assert report.left_out == []
    assert report.leaks == [(0, "train", "valid", ("same.png",), ("one.png",))]
    assert report.twins is not None
    assert [twins[3:5] for twins in report.twins] == [("half.jpg", "one.png")]
    assert report.counts[0]["train"] == [8, 6, 6]


def test_progress_and_errors(photos: Path):
    told: list[tuple[int, int]] = []
    recipe = Recipe.from_dict(
        {"name": "t", "data": {"root": str(photos)}, "phases": [{"name": "a", "epochs": 1}]}
    )
    check_data(recipe, lambda done, total: told.append((done, total)))
    assert told[-1] == (24, 24)
    with pytest.raises(AblateError, match="no column 'fold'"):
        check(photos, table="table.csv", split={"column": "fold"})


def test_the_digits(tmp_path: Path):
    report = check(None)
    assert report.bad == []
    assert report.leaks == []
    assert report.n_items == 1797
    assert report.sizes == (8, 8, 8, 8)
    assert sum(report.counts[0]["valid"]) == 359


def test_checking_needs_neither_torch_nor_pandas():
    heavy = ["torch", "fastai", "pandas", "scipy.stats"]
    code = f"import ablate.data.check, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_real_photos(cassava: Path, tmp_path: Path):
    rows = (cassava / "train_val_split.csv").read_text().splitlines()[:61]
    (tmp_path / "some.csv").write_text("\n".join(rows) + "\n")
    image = {"column": "image_id", "folder": str(cassava / "train_images")}
    report = check(tmp_path, table="some.csv", image=image, split={"random": 0.2})
    assert report.bad == []
    assert report.n_items == 60
    assert min(report.sizes) > 100
