"""The images that are asked about: from folders and tables, with every mistake told by its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_studies import Alone

from ablate.errors import AblateError
from ablate.prediction.images import find_images
from ablate.prediction.networks import find_ensemble
from ablate.recipe.data_schema import Data, Tabular


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files that look like images, two of them hidden away or in a folder."""
    root = tmp_path / "photos"
    for name in ("b.JPG", "a.png", "deep/er/c.webp", ".hidden.jpg", "notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"?")
    return root


def test_a_folder_has_all_images_below_it_by_their_names(folder: Path):
    found = find_images(folder, Data())
    assert [item.id for item in found.items] == ["a.png", "b.JPG", "deep/er/c.webp"]
    assert [item.number for item in found.items] == [0, 1, 2]
    assert found.items[2].image == folder / "deep/er/c.webp"
    assert found.labels is None


def test_a_table_has_the_recipes_columns(tmp_path: Path):
    (tmp_path / "jpg").mkdir()
    table = tmp_path / "test.csv"
    table.write_text("\ufeffname, diagnosis\nx,mole\ny,nevus\n", encoding="utf-8")
    data = Data.model_validate(
        {
            "table": "train.csv",
            "root": "/not/here",
            "image": {"column": "name", "suffix": ".jpg", "folder": "jpg"},
            "label": {"column": "diagnosis"},
        }
    )
    found = find_images(table, data)
    assert [(item.id, item.image) for item in found.items] == [
        ("x", tmp_path / "jpg" / "x.jpg"),
        ("y", tmp_path / "jpg" / "y.jpg"),
    ]
    assert found.labels == ["mole", "nevus"]
    assert find_images(table, data, tmp_path).items[0].image == tmp_path / "x.jpg"


def test_the_images_of_a_table_are_where_the_recipe_has_them_if_they_still_are(tmp_path: Path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "test.csv").write_text("image\nx.jpg\n")
    data = Data.model_validate(
        {"root": str(tmp_path / "data"), "table": "train.csv", "image": {"folder": "train"}}
    )
    assert find_images(tmp_path / "test.csv", data).items[0].image == tmp_path / "data" / "train" / "x.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--images .*test.csv: is empty; it needs a line with the columns' names"),
        ("image,age,sex\n", "test.csv: has no rows"),
        ("photo,age\n1,2\n", "test.csv: has no column 'image', 'sex'; it has photo, age"),
        ("image,age,sex\n,2,f\n", r"test.csv:2: column 'image' is empty; fill it or drop the row"),
        ("image,age,sex\nx,2,f\nx,3,m\n", "test.csv:3: the image 'x' stands on line 2 too"),
        ("image,age,sex\nx,2,f\ny,old,m\n", "test.csv:3: column 'age' has 'old', which is no number"),
    ],
)
def test_mistakes_in_a_table_are_told_by_their_place(tmp_path: Path, text: str, message: str):
    (tmp_path / "test.csv").write_text(text)
    data = Data(table="train.csv", tabular=Tabular(numeric=["age"], categorical=["sex"]))
    with pytest.raises(AblateError, match=message):
        find_images(tmp_path / "test.csv", data)


def test_no_table_and_no_folder(tmp_path: Path, folder: Path):
    (tmp_path / "latin.csv").write_bytes("image\nGrün\n".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "test.csv").write_text("image\nx\n")
    for source, root, message in (
        ("nothing", None, "--images .*nothing: there is no such folder of images or CSV table"),
        ("latin.csv", None, "latin.csv: cannot be read as CSV in UTF-8"),
        ("empty", None, r"--images .*empty: has no images \(files that end in \.bmp, "),
        ("photos", tmp_path, "photos: is a folder of images itself; leave --root away"),
        ("test.csv", tmp_path / "none", "--root .*none: there is no such folder"),
    ):
        with pytest.raises(AblateError, match=message):
            find_images(tmp_path / source, Data(), root)


def test_a_network_that_sees_a_table_needs_one(table: Alone):
    with pytest.raises(AblateError, match="give a CSV with image_name, age, sex"):
        find_images(table.images, find_ensemble(table.folder).data)


def test_a_network_that_does_not_see_the_table_needs_none(small: Alone):
    ensemble = find_ensemble(small.folder, "baseline")
    data = ensemble.recipe.data.model_copy(update={"tabular": Tabular(numeric=["age"])})
    ensemble = replace(ensemble, recipe=ensemble.recipe.model_copy(update={"data": data}))
    assert ensemble.data.tabular is None
    assert len(find_images(small.images, ensemble.data).items) == 27
