from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ablate.data.items import Items, load_items
from ablate.errors import AblateError
from ablate.recipe.data_schema import Data

HEADER = "image,label,is_val,patient"


def data(**fields: Any) -> Data:
    return Data.model_validate({"split": {"random": 0.2}, **fields})


def table(root: Path, *lines: str, name: str = "t.csv") -> Path:
    (root / name).write_text("\n".join(lines) + "\n")
    return root


def load(root: Path, **fields: Any) -> Items:
    return load_items(data(root=str(root), table="t.csv", **fields))


def problem(root: Path, **fields: Any) -> str:
    """What is wrong with t.csv, without the folder's path; one clear sentence on one line."""
    with pytest.raises(AblateError) as caught:
        load(root, **fields)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message.replace(f"{root}/", "")


def test_digits_are_those_of_scikit_learn():
    items = load_items(data())
    expected = load_digits()
    assert items.classes == [str(digit) for digit in range(10)]
    np.testing.assert_array_equal(items.targets, expected.target)
    shown = np.stack([np.asarray(item.image) for item in items.items])
    assert shown.dtype == np.uint8
    np.testing.assert_allclose(shown, expected.images * (255 / 16), atol=0.5)
    assert [item.number for item in items.items] == list(range(1797))
    assert [items.items[i].id for i in (0, 1796)] == ["0000", "1796"]
    assert items.groups is None
    assert items.held_out is None


@pytest.mark.parametrize("split", [{"column": "is_val"}, {"random": 0.2, "group": "patient"}])
@pytest.mark.parametrize("source", ["digits", "folders"])
def test_what_has_no_columns_cannot_be_split_by_one(source: str, split: dict[str, Any], photos: Path):
    with pytest.raises(AblateError, match=r"data\.split\.(column|group): .* no columns"):
        load_items(data(source=source, root=str(photos), split=split))


def test_folders_named_by_class(photos: Path):
    (photos / "cat" / "deep").mkdir()
    (photos / "cat" / "7.png").rename(photos / "cat" / "deep" / "UP.PNG")
    (photos / "cat" / "notes.txt").write_text("no image")
    (photos / "empty").mkdir()
    (photos / ".hidden").mkdir()
    items = load_items(data(root=str(photos)))
    assert items.classes == ["cat", "dog", "fox"]
    np.testing.assert_array_equal(items.targets, np.repeat([0, 1, 2], 8))
    ids = [item.id for item in items.items]
    assert ids[:8] == [*(f"cat/{i}.{'png' if i % 2 else 'jpg'}" for i in range(7)), "cat/deep/UP.PNG"]
    assert [item.image for item in items.items] == [photos / id_ for id_ in ids]
    assert [item.number for item in items.items] == list(range(24))


def test_a_folder_of_studies_is_no_class(photos: Path):
    (photos / "runs" / "study" / "thumbnails").mkdir(parents=True)
    (photos / "runs" / "study" / "plan.json").write_text("{}")
    (photos / "runs" / "study" / "thumbnails" / "1.jpg").write_bytes((photos / "cat" / "0.jpg").read_bytes())
    assert load_items(Data(root=str(photos))).classes == ["cat", "dog", "fox"]


def test_folders_named_by_number_are_sorted_as_numbers(photos: Path):
    for name, number in (("cat", "10"), ("dog", "9"), ("fox", "0")):
        (photos / name).rename(photos / number)
    items = load_items(data(root=str(photos)))
    assert items.classes == ["0", "9", "10"]
    assert items.items[0].id == "0/0.jpg"
    assert items.items[23].target == 2


def test_folders_without_images_or_with_one_class(photos: Path):
    with pytest.raises(AblateError, match="there are no images in folders named by class"):
        load_items(data(root=str(photos / "cat")))
    with pytest.raises(AblateError, match=r"data\.root: there is no folder .*gone"):
        load_items(data(root=str(photos / "gone")))
    for name in ("dog", "fox"):
        (photos / name).rename(photos / f".{name}")
    with pytest.raises(AblateError, match="all 8 images have the class 'cat'; a classifier needs two"):
        load_items(data(root=str(photos)))


def test_a_table(photos: Path):
    fields = {"root": str(photos), "table": "table.csv", "split": {"column": "is_val"}}
    items = load_items(data(**fields))
    assert items.classes == ["cat", "dog", "fox"]
    assert items.held_out is not None
    np.testing.assert_array_equal(items.held_out, np.tile([False] * 6 + [True] * 2, 3))
    assert items.groups is None
    assert items.items[9].id == "dog/1.png"
    assert items.items[9].image == photos / "dog/1.png"
    assert items.items[9].target == 1
    grouped = load_items(data(**fields | {"split": {"column": "is_val", "group": "patient"}}))
    assert grouped.groups is not None
    assert grouped.groups[:3].tolist() == ["cat-0", "cat-0", "cat-1"]


def test_names_folder_and_suffix_of_images(tmp_path: Path):
    table(tmp_path, "id , dx", " a ,x", "b,y")
    image, label = {"column": "id", "folder": "deep", "suffix": ".jpg"}, {"column": "dx"}
    items = load(tmp_path, image=image, label=label)
    assert [item.image for item in items.items] == [tmp_path / "deep/a.jpg", tmp_path / "deep/b.jpg"]
    assert [item.id for item in items.items] == ["a", "b"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "2", "0"], ["0", "2", "9", "10"]),
        (["-1", "2.5", "1e1"], ["-1", "2.5", "1e1"]),
        (["nan", "b", "10", "9", "a"], ["9", "10", "a", "b", "nan"]),
        (["B", "a", "A"], ["A", "B", "a"]),
    ],
)
def test_classes_are_sorted_as_numbers_and_then_as_text(
    labels: list[str], classes: list[str], tmp_path: Path
):
    for order in (labels, labels[::-1]):
        items = load(table(tmp_path, "image,label", *(f"{i},{label}" for i, label in enumerate(order))))
        assert items.classes == classes
        assert [items.classes[target] for target in items.targets] == order


@pytest.mark.parametrize("value", ["True", "true", "1", "yes", "T"])
def test_booleans_as_people_write_them(value: str, tmp_path: Path):
    no = {"True": "False", "true": "false", "1": "0", "yes": "No", "T": "f"}[value]
    table(tmp_path, "image,label,v", f"a,x,{value}", f"b,y,{no}")
    items = load(tmp_path, split={"column": "v"})
    assert items.held_out is not None
    assert items.held_out.tolist() == [True, False]


def test_a_further_table_for_the_test(tmp_path: Path):
    table(tmp_path, "image,label,v,p", "a,x,0,1", "b,y,1,2")
    table(tmp_path, "image,label,p", "c,x,3", name="test.csv")
    split, test = {"column": "v", "group": "p"}, {"table": "test.csv", "folder": "later"}
    items = load(tmp_path, split=split, test=test)
    assert items.tested is not None
    assert items.held_out is not None
    assert items.tested.tolist() == [False, False, True]
    assert items.held_out.tolist() == [False, True, False]
    assert items.items[2].image == tmp_path / "later" / "c"
    assert items.items[2].group == "3"
    table(tmp_path, "image,label,p", "c,x,3", "b,x,3", name="test.csv")
    assert problem(tmp_path, split=split, test=test) == (
        "test.csv:3: the image 'b' stands on t.csv:3 too; every image may stand once."
    )
    table(tmp_path, "image,label", "c,x", name="test.csv")
    assert "data.split.group: test.csv has no column 'p'" in problem(tmp_path, split=split, test=test)


def test_a_further_table_for_training(tmp_path: Path):
    table(tmp_path, "image,label,v,p", "a,x,0,1", "b,y,1,2")
    table(tmp_path, "image,label,p", "c,x,3", name="test.csv")
    table(tmp_path, "label,image,p", "y,d,4", "x,e,2", name="more.csv")
    split, extra = {"column": "v", "group": "p"}, {"table": "more.csv", "folder": "more"}
    items = load(tmp_path, split=split, extra=extra, test={"table": "test.csv", "folder": "later"})
    assert [item.id for item in items.items] == ["a", "b", "c", "d", "e"]
    assert [item.number for item in items.items] == [0, 1, 2, 3, 4]
    assert items.targets.tolist() == [0, 1, 0, 1, 0]
    assert [item.image for item in items.items[2:]] == [
        tmp_path / "later/c",
        tmp_path / "more/d",
        tmp_path / "more/e",
    ]
    assert items.items[4].group == "2"
    assert items.extra is not None
    assert items.extra.tolist() == [False, False, False, True, True]
    assert items.held_out is not None
    assert items.held_out.tolist() == [False, True, False, False, False]
    assert items.tested is not None
    assert items.tested.tolist() == [False, False, True, False, False]
    alone = load(tmp_path, split=split)
    assert alone.extra is None
    assert [(item.number, item.id) for item in alone.items] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["image,label", "b,x"],
            "more.csv:2: the image 'b' stands on t.csv:3 too; every image may stand once.",
        ),
        (
            ["image,label", "c,x", "d,z"],
            "more.csv:3: the class 'z' is in the extra data alone, so nothing could be validated on it; "
            "correct the label or drop the class's rows.",
        ),
        (["image,label"], "data.extra.table: more.csv has no rows."),
        (["image,dx", "c,x"], "data.label.column: more.csv has no column 'label'; it has image, dx."),
        (
            ["image;label", "c;x"],
            "data.extra.table: the columns of more.csv are separated by ';'; save it with commas.",
        ),
        (None, "data.extra.table: there is no file more.csv."),
    ],
)
def test_a_further_table_that_cannot_be_used_says_why(lines: list[str] | None, message: str, tmp_path: Path):
    table(tmp_path, "image,label", "a,x", "b,y")
    if lines is not None:
        table(tmp_path, *lines, name="more.csv")
    assert problem(tmp_path, extra={"table": "more.csv"}) == message


def test_a_column_for_the_test(tmp_path: Path):
    items = load(table(tmp_path, "image,label,t", "a,x,no", "b,y,yes"), test={"column": "t"})
    assert items.tested is not None
    assert items.tested.tolist() == [False, True]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER], "data.table: t.csv has no rows."),
        (
            ["file,dx", "a,x"],
            "data.image.column: t.csv has no column 'image'; it has file, dx.",
        ),
        (
            ["image,dx,is_val", "a,x,1"],
            "data.label.column: t.csv has no column 'label'; it has image, dx, is_val.",
        ),
        (
            ["image;label;is_val", "a;x;1", "b;y;0"],
            "data.table: the columns of t.csv are separated by ';'; save it with commas.",
        ),
        (
            ["image\tlabel", "a\tx"],
            "data.table: the columns of t.csv are separated by '\\t'; save it with commas.",
        ),
        (
            [HEADER, "a,x,1,p", "", "b,,0,p", "c,y,0,p", "d, ,0,p"],
            "t.csv:4: 2 of 4 rows have no label; fill column 'label' or drop the rows.",
        ),
        (
            [HEADER, "a,x,1,p", "b"],
            "t.csv:3: 1 of 2 rows have no label; fill column 'label' or drop the rows.",
        ),
        (
            [HEADER, ",x,1,p", "b,y,0,p"],
            "t.csv:2: 1 of 2 rows have no image; fill column 'image' or drop the rows.",
        ),
        (
            [HEADER, "a,x,1,p", "b,y,0,"],
            "t.csv:3: 1 of 2 rows have no group; fill column 'patient' or drop the rows.",
        ),
        (
            [HEADER, "a,x,1,p", '"b","y",0,"two\nlines"', "c,x,0,p", "a,y,0,p"],
            "t.csv:6: the image 'a' stands on line 2 too; every image may stand once.",
        ),
        (
            [HEADER, "a,x,1,p", "b,x,0,p"],
            "t.csv: all 2 images have the class 'x'; a classifier needs two.",
        ),
        (
            [HEADER, "a,x,1,p", "b,y,maybe,p"],
            "t.csv:3: column 'is_val' has 'maybe', which is neither true nor false.",
        ),
        (
            [HEADER, "a,x,1,p", "b,y,,p"],
            "t.csv:3: column 'is_val' has '', which is neither true nor false.",
        ),
    ],
)
def test_a_table_that_cannot_be_used_says_why(lines: list[str], message: str, tmp_path: Path):
    split = {"column": "is_val", "group": "patient"}
    if "has no column" in message:
        split = {"random": 0.2}
    assert problem(table(tmp_path, *lines), split=split) == message


def test_a_split_column_that_is_not_there(tmp_path: Path):
    table(tmp_path, "image,label", "a,x", "b,y")
    assert problem(tmp_path, split={"column": "is_val"}) == (
        "data.split.column: t.csv has no column 'is_val'; it has image, label."
    )
    assert problem(tmp_path, test={"column": "is_test"}).startswith("data.test.column: t.csv has no column")


def test_a_table_that_cannot_be_read(tmp_path: Path):
    assert problem(tmp_path) == "data.table: there is no file t.csv."
    (tmp_path / "t.csv").write_bytes(b"")
    assert problem(tmp_path) == "data.table: t.csv is empty; it needs a line with the columns' names."
    (tmp_path / "t.csv").write_bytes("image,label\na,Mädchen\nb,y\n".encode("latin-1"))
    assert problem(tmp_path).startswith("data.table: t.csv cannot be read as CSV in UTF-8 ('utf-8' codec")
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff\xfe")
    assert problem(tmp_path).startswith("data.table: t.csv cannot be read as CSV in UTF-8 (")
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.csv").mkdir()
    assert re.search(r"t.csv cannot be read as CSV in UTF-8 \(.*directory", problem(tmp_path))


def test_umlauts_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes("\ufeffimage,label\r\na,Mädchen\r\nb,Junge\r\n".encode())
    assert load(tmp_path).classes == ["Junge", "Mädchen"]


def test_the_real_table(cassava: Path):
    fields = {
        "root": str(cassava),
        "table": "train_val_split.csv",
        "image": {"column": "image_id", "folder": "train_images"},
        "split": {"column": "is_val"},
    }
    items = load_items(data(**fields))
    assert items.classes == ["0", "1", "2", "3", "4"]
    assert len(items.items) == 1205
    assert all(isinstance(item.image, Path) and item.image.is_file() for item in items.items)
