from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ablate.data.csv_table import UNREADABLE, read_csv


def test_cells_are_as_csvs_own_reader_has_them_but_for_spaces(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeff image ,label,\n"a, b.jpg", 1 ,x\n"two\nlines",2,y\n\nc.jpg\n', encoding="utf-8")
    columns, rows = read_csv(path)
    assert columns == ["image", "label", ""]
    assert rows == [
        (2, {"image": "a, b.jpg", "label": "1"}),
        (4, {"image": "two\nlines", "label": "2"}),
        (6, {"image": "c.jpg", "label": ""}),
    ]
    with path.open(newline="", encoding="utf-8-sig") as file:
        assert [row[" image "] for row in csv.DictReader(file)] == [row["image"] for _, row in rows]


@pytest.mark.parametrize("content", ["käse\n".encode("latin-1"), None])
def test_what_is_no_table_raises(tmp_path: Path, content: bytes | None):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UNREADABLE):
        read_csv(path)
