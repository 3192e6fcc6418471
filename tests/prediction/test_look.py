"""Images that cannot be used are found before any network runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_studies import Alone

from ablate.errors import AblateError
from ablate.prediction.asked import Asking, predict_images
from ablate.prediction.networks import find_ensemble

ASKING = Asking(device="cpu", threads=1, workers=0)


@pytest.fixture
def some_bad(small: Alone, tmp_path: Path) -> Path:
    """The study's images, and three that no network can see."""
    shutil.copytree(small.images, tmp_path / "mixed")
    (tmp_path / "mixed" / "bird-0.jpg").write_bytes(b"")
    (tmp_path / "mixed" / "cat-0a.jpg").write_text("no image")
    Image.new("RGB", (1, 4000)).save(tmp_path / "mixed" / "long.png")
    return tmp_path / "mixed"


def test_they_are_listed_and_refused(small: Alone, some_bad: Path):
    with pytest.raises(AblateError) as caught:
        predict_images(find_ensemble(small.folder), some_bad, ASKING)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 30 images cannot be used; mend them, or leave them out with --skip-bad:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["bird-0.jpg", "cat-0a.jpg", "long.png"]


def test_many_are_counted(small: Alone, tmp_path: Path):
    for i in range(13):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    with pytest.raises(AblateError, match=r"13 of 13 images cannot be used(.|\n)*… and 3 more"):
        predict_images(find_ensemble(small.folder), tmp_path, ASKING)


def test_the_others_are_predicted_as_if_they_were_not_there(small: Alone, some_bad: Path):
    ensemble = find_ensemble(small.folder, "baseline")
    one = replace(ensemble, networks=ensemble.networks[:1])
    notes: list[str] = []
    found = predict_images(one, some_bad, replace(ASKING, skip_bad=True, note=notes.append))
    assert found.equals(predict_images(one, small.images, ASKING))
    assert [note.split(":")[:2] for note in notes] == [
        ["left out", f" {name}"] for name in ("bird-0.jpg", "cat-0a.jpg", "long.png")
    ]


def test_none_that_can_be_used(small: Alone, tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(
        AblateError, match=r"none of the 1 images can be used; the first: a\.jpg: the file is empty"
    ):
        predict_images(find_ensemble(small.folder), tmp_path, replace(ASKING, skip_bad=True))


def test_categories_that_are_new_are_told(table: Alone, tmp_path: Path):
    rows = table.rows(["ISIC_00", "ISIC_01"], tmp_path / "new.csv")
    notes: list[str] = []
    asking = replace(ASKING, note=notes.append)
    known = predict_images(find_ensemble(table.folder), rows, asking, root=table.images)
    assert notes == []
    rows.write_text(rows.read_text().replace("female", "diverse"))
    found = predict_images(find_ensemble(table.folder), rows, asking, root=table.images)
    assert notes == [
        "column 'sex' has categories that not all networks were trained with ('diverse'; 1 of 2 images); "
        "there they count as missing"
    ]
    assert (found.iloc[:, -1] == known.iloc[:, -1]).tolist() == [True, False]
