"""A sample submission is filled in: its columns, ids and order, and labels or probabilities as it asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablate.errors import AblateError
from ablate.prediction.submission import Sample, fill, told, wanted
from ablate.prediction.tables import predicted_table

THREE = ["cat", "dog", "fox"]
TWO = ["0", "1"]


def sample(tmp_path: Path, text: str) -> Sample:
    (tmp_path / "sample.csv").write_text(text)
    return Sample.read(tmp_path / "sample.csv")


def filled(sample: Sample, ids: list[str], rows: list[list[float]], classes: list[str], **asked) -> str:
    table = predicted_table(ids, [(slice(0, len(ids)), np.array(rows, np.float32))], classes)
    return fill(sample, wanted(sample, classes, **asked), ids, table).to_csv(index=False)


def test_a_label_for_each_id_in_the_samples_order(tmp_path: Path):
    cassava = sample(tmp_path, "image_id,label\nb.jpg,4\na.jpg,4\n")
    rows = [[0.1, 0.2, 0.3, 0.0, 0.4], [0.6, 0.1, 0.1, 0.1, 0.1]]
    found = filled(cassava, ["a.jpg", "b.jpg"], rows, ["0", "1", "2", "3", "4"])
    assert found == "image_id,label\nb.jpg,0\na.jpg,4\n"


@pytest.mark.parametrize(
    ("text", "classes", "meaning"),
    [
        ("image_name,target\nISIC_1,0\n", TWO, {"target": "1"}),
        ("image_name,target\nISIC_1,0.5\n", ["benign", "malignant"], {"target": "malignant"}),
        ("id,malignant\nISIC_1,0\n", ["benign", "malignant"], {"malignant": "malignant"}),
        ("id,benign\nISIC_1,0\n", ["benign", "malignant"], {"benign": "benign"}),
        ("id,diagnosis\nISIC_1,benign\n", ["benign", "malignant"], {"diagnosis": None}),
        ("id,target\nISIC_1,benign\n", ["benign", "malignant"], {"target": None}),
        ("id,label\nISIC_1,0\n", TWO, {"label": None}),
        ("id,label\nISIC_1,0.5\n", TWO, {"label": "1"}),
        ("id,target\nISIC_1,\n", TWO, {"target": "1"}),
        ("id,landmarks\nISIC_1,\n", THREE, {"landmarks": None}),
        ("id,fox\nISIC_1,0\n", THREE, {"fox": "fox"}),
        ("id,fox,cat\nISIC_1,0,0\n", THREE, {"fox": "fox", "cat": "cat"}),
    ],
)
def test_what_a_sample_asks_for(
    tmp_path: Path, text: str, classes: list[str], meaning: dict[str, str | None]
):
    assert wanted(sample(tmp_path, text), classes) == meaning


def test_what_it_asks_for_can_be_said(tmp_path: Path):
    histology = sample(tmp_path, "id,label\nx,0\n")
    assert filled(histology, ["x"], [[0.25, 0.75]], TWO) == "id,label\nx,1\n"
    assert filled(histology, ["x"], [[0.25, 0.75]], TWO, meaning="probability") == "id,label\nx,0.75\n"
    melanoma = sample(tmp_path, "id,target\nx,0\n")
    assert filled(melanoma, ["x"], [[0.25, 0.75]], TWO) == "id,target\nx,0.75\n"
    assert filled(melanoma, ["x"], [[0.25, 0.75]], TWO, meaning="label") == "id,target\nx,1\n"


def test_columns_of_classes_in_any_order(tmp_path: Path):
    birds = sample(tmp_path, "id,fox,dog\ny,0,0\nx,0,0\n")
    found = filled(birds, ["x", "y"], [[0.5, 0.25, 0.25], [0.125, 0.25, 0.625]], THREE)
    assert found == "id,fox,dog\ny,0.625,0.25\nx,0.25,0.25\n"


def test_what_stands_in_it_is_told():
    assert told({"target": "1"}) == "column target: the probability of class '1'"
    assert told({"label": None}) == "column label: the label"
    assert told({"a": "a", "b": "b"}) == "each column has the probability of the class of its name"


@pytest.mark.parametrize(
    ("ids", "images"),
    [
        (["b", "a"], ["a", "b"]),
        (["b", "a"], ["a.jpg", "b.png"]),
        (["b.jpg", "a.jpg"], ["a", "b"]),
        (["b.png", "a.png"], ["a.jpg", "b.jpg"]),
        (["b", "a"], ["0/1/a.jpg", "0/2/b.jpg"]),
        (["x/b.jpg", "x/a.jpg"], ["a.jpg", "b.jpg"]),
        (["ISIC_0.25", "ISIC_0.5"], ["ISIC_0.5", "ISIC_0.25"]),
    ],
)
def test_ids_match_with_and_without_endings_and_folders(tmp_path: Path, ids: list[str], images: list[str]):
    rows = "".join(f"{id_},0\n" for id_ in ids)
    assert list(sample(tmp_path, f"id,label\n{rows}").places(images)) == [1, 0]


def test_names_that_only_folders_tell_apart_match_whole(tmp_path: Path):
    asked = sample(tmp_path, "id,label\nb/1,0\na/1,0\n")
    assert list(asked.places(["a/1.jpg", "b/1.jpg"])) == [1, 0]
    with pytest.raises(AblateError, match="several images have the same id without folder and ending"):
        sample(tmp_path, "id,label\n1,0\n").places(["a/1.jpg", "b/1.jpg"])


def test_ids_that_do_not_match_are_counted_and_named(tmp_path: Path):
    asked = sample(tmp_path, "id,label\n" + "".join(f"{i},0\n" for i in range(9)))
    images = [f"{i}.jpg" for i in range(2, 11)]
    with pytest.raises(AblateError) as caught:
        asked.places(images)
    assert str(caught.value) == (
        f"--sample {tmp_path / 'sample.csv'}: 2 of its 9 ids have no image (0, 1) and 2 of 9 images are not "
        "in it (9.jpg, 10.jpg); give the images that it asks for, and all of them."
    )
    with pytest.raises(AblateError, match=r"7 of its 9 ids have no image \(0, 1, 2, 3, 4 …\)"):
        asked.places(["7.jpg", "8.jpg"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\nx\n", "has the column 'id' alone; it needs ids and what to predict"),
        ("id,label\nx,0\nx,0\n", "sample.csv:3: the id 'x' stands on line 2 too"),
        ("id,label\n", "--sample .*sample.csv: has no rows"),
        ("", "--sample .*sample.csv: is empty"),
    ],
)
def test_samples_that_cannot_be_filled(tmp_path: Path, text: str, message: str):
    with pytest.raises(AblateError, match=message):
        sample(tmp_path, text)


def test_no_sample(tmp_path: Path):
    with pytest.raises(AblateError, match=r"--sample .*none\.csv: cannot be read"):
        Sample.read(tmp_path / "none.csv")


def test_columns_that_no_class_has(tmp_path: Path):
    with pytest.raises(AblateError, match="column 'wolf' is no class; there are cat, dog, fox"):
        wanted(sample(tmp_path, "id,cat,wolf\nx,0,0\n"), THREE)
    with pytest.raises(AblateError, match="column 'target' is no class, and there are 3 of them"):
        wanted(sample(tmp_path, "id,target\nx,0\n"), THREE, "probability")


def test_thousands_of_classes_have_labels_alone(tmp_path: Path):
    names = [f"landmark-{i}" for i in range(1200)]
    rows = np.random.default_rng(0).dirichlet(np.ones(1200), 2).astype(np.float32)
    table = predicted_table(["x", "y"], [(slice(0, 1), rows[:1]), (slice(1, 2), rows[1:])], names)
    ten = np.argsort(-rows, axis=1)[:, :10]
    assert list(table) == [
        "id",
        "label",
        *(f"top_{i}" for i in range(1, 11)),
        *(f"p_top_{i}" for i in range(1, 11)),
    ]
    assert table.loc[1, [f"top_{i}" for i in range(1, 11)]].tolist() == [names[k] for k in ten[1]]
    assert np.allclose(table.loc[0, [f"p_top_{i}" for i in range(1, 11)]].astype(float), rows[0, ten[0]])
    asked = sample(tmp_path, "id,landmarks\ny,\nx,\n")
    assert list(fill(asked, wanted(asked, names), ["x", "y"], table)["landmarks"]) == [
        names[rows[1].argmax()],
        names[rows[0].argmax()],
    ]
    with pytest.raises(AblateError, match="the probabilities of all 1,200 classes are not kept"):
        wanted(sample(tmp_path, "id,landmark-0,landmark-1\nx,0,0\n"), names)


def test_a_table_is_whole_whatever_the_parts(tmp_path: Path):
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 5).astype(np.float32)
    ids = list("abcde")
    whole = predicted_table(ids, [(slice(0, 5), rows)], THREE)
    parts = predicted_table(ids, [(slice(0, 2), rows[:2]), (slice(2, 5), rows[2:])], THREE)
    pd.testing.assert_frame_equal(whole, parts)
    assert list(whole) == ["id", "label", "p_cat", "p_dog", "p_fox"]
