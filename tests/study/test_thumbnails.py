"""Thumbnails: those of the images that the report shows, small, and none of what is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ablate.data.items import Item
from ablate.study.study import Study
from ablate.study.thumbnails import SIDE, write_thumbnails


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two variants that differ on the items b and c."""
    ids = ["a", "b", "c", "d"]
    base = pd.DataFrame({"variant": "baseline", "seed": 0, "fold": 0, "split": "valid", "item": ids})
    base = base.assign(target=[0, 1, 0, 1], pred=[0, 1, 0, 0])
    other = base.assign(variant="baseline+tta", pred=[0, 0, 1, 0])
    predictions = pd.concat([base, other])
    predictions.to_parquet(tmp_path / "predictions.parquet")
    trials = predictions[["variant", "seed", "fold"]].drop_duplicates().assign(status="ok")
    trials.to_csv(tmp_path / "trials.csv", index=False)
    pd.DataFrame({"contrast": [], "primary": []}).to_csv(tmp_path / "effects.csv", index=False)
    (tmp_path / "plan.json").write_text('{"metric": "accuracy", "baseline": "baseline"}')
    return tmp_path


def index_of(study: Path) -> dict[str, str]:
    return json.loads((study / "thumbnails" / "index.json").read_text())


def test_images_that_change_are_kept_small_and_in_shape(study: Path, tmp_path: Path):
    Image.new("RGBA", (400, 200), (250, 0, 0, 255)).save(tmp_path / "photo.png")
    pixels = np.zeros((8, 4), dtype=np.uint8)
    images = [pixels, tmp_path / "photo.png", pixels, pixels]
    write_thumbnails(study, [Item(i, "abcd"[i], image, 0) for i, image in enumerate(images)])
    index = index_of(study)
    assert sorted(index) == ["b", "c"]
    with (
        Image.open(study / "thumbnails" / index["b"]) as photo,
        Image.open(study / "thumbnails" / index["c"]) as digit,
    ):
        assert photo.format == "JPEG"
        assert photo.size == (SIDE, SIDE // 2)
        assert digit.size == (SIDE // 2, SIDE)
        red = np.asarray(photo)[20, 50]
    assert red[0] > 240
    assert red[1] < 15


def test_an_image_that_is_gone_or_damaged_is_left_out(study: Path, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8nothing")
    images = {"b": tmp_path / "gone.jpg", "c": tmp_path / "broken.jpg"}
    write_thumbnails(study, [Item(i, name, image, 0) for i, (name, image) in enumerate(images.items())])
    assert not (study / "thumbnails").exists()


def test_those_of_before_go(study: Path):
    pixels = np.zeros((8, 8), dtype=np.uint8)
    write_thumbnails(study, [Item(7, "b", pixels, 0), Item(8, "c", pixels, 0)])
    write_thumbnails(study, [Item(9, "b", pixels, 0)])
    assert {path.name for path in (study / "thumbnails").iterdir()} == {"index.json", "0000009.jpg"}


def test_two_processes_may_write_the_same_and_a_reader_meets_a_whole_set(study: Path, monkeypatch):
    pixels = np.zeros((8, 8), dtype=np.uint8)
    before = [Item(7, "b", pixels, 0), Item(8, "c", pixels, 0)]
    after = [Item(8, "b", pixels, 0), Item(9, "c", pixels, 0)]
    write_thumbnails(study, before)
    save, met = Image.Image.save, []

    def meanwhile(self: Image.Image, *args: Any, **options: Any) -> None:
        """Another process writes all of it between any two steps of this one, which then saves a picture."""
        met.append(all((study / "thumbnails" / name).is_file() for name in index_of(study).values()))
        with monkeypatch.context() as other:
            other.setattr(Image.Image, "save", save)
            other.setattr(os, "getpid", lambda: 1)
            write_thumbnails(study, after)
        save(self, *args, **options)

    monkeypatch.setattr(Image.Image, "save", meanwhile)
    write_thumbnails(study, after)
    assert met == [True, True]
    assert {path.name for path in (study / "thumbnails").iterdir()} == {
        "index.json",
        "0000008.jpg",
        "0000009.jpg",
    }


def test_a_run_keeps_thumbnails_and_a_report_without_images_still_shows_them(copy_of: Study):
    index = index_of(copy_of.folder)
    assert all((copy_of.folder / "thumbnails" / name).is_file() for name in index.values())
    (copy_of.folder / "report.html").unlink()
    copy_of.analyse()
    page = (copy_of.folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == len(index) > 0
