"""ablate.recipe.guess: what the columns of a table are."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ablate.errors import AblateError
from ablate.recipe.guess import Guess, guess, read_columns

Make = Callable[..., Path]
N = 40


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A table with 40 rows, and empty files where images would be: what is in them plays no part."""

    def make(folder: str, suffix: str, columns: dict[str, Sequence[object]], share: float = 1.0) -> Path:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        names = next(iter(columns.values()))
        for name in names[: int(N * share)]:
            (tmp_path / folder / f"{name}{suffix}").touch()
        with (tmp_path / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
        return tmp_path / "table.csv"

    return make


def found(table: Path) -> Guess:
    return guess(table, read_columns(table))


FILES = [f"{i:03d}.jpg" for i in range(N)]
STEMS = [f"img_{i}" for i in range(N)]
KINDS = ["a", "b", "c", "d"] * 10
PAIRS = [f"p{i // 2}" for i in range(N)]


def test_cassava(make: Make) -> None:
    table = make("train_images", "", {"image_id": FILES, "label": KINDS, "is_val": ["True", "False"] * 20})
    assert found(table) == Guess(("image_id", "train_images", ""), "label", (), "is_val", None, None)


def test_ham10000(make: Make) -> None:
    columns = {
        "image_id": STEMS,
        "lesion_id": PAIRS,
        "dx": KINDS,
        "dx_type": ["x", "y"] * 20,
        "age": ["45.0", "50.5"] * 20,
        "sex": ["f", "m"] * 20,
    }
    got = found(make("a/b", ".jpg", columns))
    assert got == Guess(("image_id", "a/b", ".jpg"), "dx", ("dx_type", "sex"), None, None, "lesion_id")


def test_beside_the_table_and_by_number(make: Make) -> None:
    columns = {"file": FILES, "kind": KINDS, "fold": ["0", "1"] * 20, "is_test": ["no", "yes"] * 20}
    got = found(make(".", "", columns))
    assert (got.image, got.label, got.valid, got.test) == (("file", "", ""), "kind", "fold", "is_test")


def test_a_binary_label_is_no_split(make: Make) -> None:
    got = found(make("x", "", {"file": FILES, "target": ["0", "1"] * 20}))
    assert (got.label, got.valid) == ("target", None)


def test_folds_with_numbers_are_no_split(make: Make) -> None:
    got = found(make("x", "", {"file": FILES, "label": KINDS, "fold": ["0", "1", "2", "3"] * 10}))
    assert (got.label, got.valid) == ("label", None)


def test_names_win_over_fewer_classes(make: Make) -> None:
    got = found(make("x", "", {"file": FILES, "colour": ["r", "g"] * 20, "finding_class": KINDS}))
    assert (got.label, got.other_labels) == ("finding_class", ("colour",))


def test_columns_with_gaps_are_no_labels(make: Make) -> None:
    got = found(make("x", "", {"file": FILES, "label": ["", "a", "b", "c"] * 10, "kind": KINDS}))
    assert got.label == "kind"


def test_images_in_two_folders(make: Make) -> None:
    table = make("part_1", "", {"file": FILES, "label": KINDS}, share=0.5)
    with pytest.raises(
        AblateError, match=r"only 50% of the images in column 'file' are in \S+part_1; a recipe takes"
    ):
        found(table)


def test_no_images(make: Make) -> None:
    with pytest.raises(AblateError, match="no column names images that are in"):
        found(make("x", "", {"file": FILES, "label": KINDS}, share=0))


def test_no_labels(make: Make) -> None:
    with pytest.raises(AblateError, match=r"no column looks like a label .* there are file, note"):
        found(make("x", "", {"file": FILES, "note": [f"n{i}" for i in range(N)]}))


@pytest.mark.parametrize(
    "content", [b"", b"image,label\n", b"\xff\xfe\xff\x00\x01", b'a,b\n"' + b"x" * 200_000 + b'",1\n']
)
def test_no_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(AblateError, match=r"t.csv: (has no rows under|cannot be read as CSV)"):
        read_columns(path)


def test_short_rows_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeffimage,label\na.jpg, 1\nb.jpg\n", encoding="utf-8")
    assert read_columns(path) == {"image": ["a.jpg", "b.jpg"], "label": ["1", ""]}
