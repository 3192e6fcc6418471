"""The lines of docs/data.md that make shards, run as they stand there."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from ablate.data.images import decode
from ablate.data.items import load_items
from ablate.recipe.data_schema import Data

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def test_shards_made_by_the_lines_of_the_documentation_hold_the_images_of_the_table(
    photos: Path, tmp_path: Path
):
    section = DOCS.read_text(encoding="utf-8").split("### Making shards")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    (tmp_path / "shards.py").write_text(found[1])
    with (photos / "table.csv").open(newline="") as file:
        rows = [(row["image"], ("cat", "dog", "fox").index(row["label"])) for row in csv.DictReader(file)]
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image_id", "label"), *rows])
    subprocess.run([sys.executable, "shards.py", table, photos, "out"], cwd=tmp_path, check=True)
    items = load_items(Data.model_validate({"root": str(tmp_path / "out"), "shards": "*.tfrecords"}))
    assert items.classes == ["0", "1", "2"]
    assert {item.id: item.target for item in items.items} == dict(rows)
    item = items.items[0]
    np.testing.assert_array_equal(decode(item.image, item.id), decode(photos / item.id, item.id))
