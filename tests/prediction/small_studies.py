"""Small real studies of noisy photos, and how to run and copy them."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ablate.recipe.recipe import Recipe
from ablate.study.study import Study

torch.set_num_threads(1)

COLOURS = {"cat": (200, 60, 60), "dog": (60, 180, 60), "fox": (60, 60, 200)}
MOLES = {"benign": (190, 150, 130), "malignant": (110, 70, 60)}
_COMMON: dict[str, Any] = {
    "model": {"arch": "test_vit", "pretrained": False},
    "size": 32,
    "presize": 40,
    "batch_size": 6,
}
SMALL: dict[str, Any] = _COMMON | {
    "name": "small",
    "data": {
        "table": "train.csv",
        "image": {"folder": "train"},
        "split": {"folds": 2, "seed": 1},
        "test": {"table": "test.csv"},
    },
    "phases": [{"name": "only", "epochs": 1, "lr": 1e-2}],
    "techniques": {"normalize": {"stats": "train"}, "tta": {"n": 2, "transforms": "flips"}},
    "study": {"baseline": ["normalize"], "vary": ["label_smoothing", "tta"], "seeds": 2},
}
"""Three classes, two folds, two seeds, three variants."""
TABLE: dict[str, Any] = _COMMON | {
    "name": "table",
    "data": {
        "table": "train.csv",
        "image": {"column": "image_name", "folder": "train", "suffix": ".jpg"},
        "label": {"column": "diagnosis"},
        "split": {"column": "is_val"},
        "tabular": {"numeric": ["age"], "categorical": ["sex"]},
    },
    "keep": "best",
    "phases": [{"name": "only", "epochs": 3, "lr": 3e-2}],
    "study": {"baseline": ["normalize", "tabular", "class_weights"], "seeds": 1, "vary": []},
}
"""Two classes, a table's columns beside the image, one network: that of its best epoch."""


def _photo(path: Path, colour: tuple[int, int, int], rng: np.random.Generator) -> None:
    shape = (36, 48, 3) if rng.random() < 0.5 else (44, 40, 3)
    pixels = np.clip(np.array(colour) + rng.normal(0, 60, shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _write(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def animals(root: Path) -> None:
    """`train/` with train.csv and test.csv: six training and three test photos of each class."""
    rng = np.random.default_rng(0)
    for table, count, first in (("train.csv", 6, 0), ("test.csv", 3, 6)):
        rows: list[list[Any]] = [["image", "label"]]
        for name, colour in COLOURS.items():
            for i in range(first, first + count):
                rows.append([f"{name}-{i}.{'png' if i % 2 else 'jpg'}", name])
                _photo(root / "train" / rows[-1][0], colour, rng)
        _write(root / table, rows)


def moles(root: Path) -> None:
    """`train/` with train.csv: ten photos of each class, with age and sex, some of them missing."""
    rng = np.random.default_rng(1)
    rows: list[list[Any]] = [["image_name", "diagnosis", "is_val", "age", "sex"]]
    for target, (name, colour) in enumerate(MOLES.items()):
        for i in range(10):
            age = "" if i == 3 else 40 + 20 * target + i
            rows.append([f"ISIC_{target}{i}", name, i >= 6, age, ("male", "female", "NA")[i % 3]])
            _photo(root / "train" / f"ISIC_{target}{i}.jpg", colour, rng)
    _write(root / "train.csv", rows)


@dataclass(frozen=True)
class Alone:
    """A study's folder that was copied somewhere else; its images have moved too."""

    folder: Path
    images: Path
    tables: Path

    @property
    def study(self) -> Study:
        return Study.open(self.folder)

    def own(self, variant: str, seed: int = 0, fold: int = 0, split: str = "valid") -> pd.DataFrame:
        """What the study itself predicted in one trial."""
        table = self.study.predictions()
        wanted = (table.variant == variant) & (table.seed == seed) & (table.fold == fold)
        return table[wanted & (table.split == split)].reset_index(drop=True)

    def rows(self, items: list[str], to: Path, table: str = "train.csv") -> Path:
        """A CSV with some rows of a table, without labels."""
        rows = pd.read_csv(self.tables / table, dtype=str, keep_default_na=False)
        name = rows.columns[0]
        rows.set_index(name, drop=False).loc[items].drop(columns=rows.columns[1]).to_csv(to, index=False)
        return to


def run_alone(values: dict[str, Any], origin: Path, place: Path) -> Alone:
    """Run a study of the photos in `<origin>/photos`, copy its folder, and remove all else but the images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CACHE", str(origin / "cache"))
        patch.setenv("ABLATE_STORE", str(origin / "store"))
        data = values["data"] | {"root": str(origin / "photos")}
        study = Recipe.from_dict(values | {"data": data}).run(origin / "runs", threads=1, workers=0)
    shutil.copytree(study.folder, place / "copied")
    shutil.move(origin / "photos" / "train", place / "images")
    for table in (origin / "photos").glob("*.csv"):
        shutil.move(table, place)
    shutil.rmtree(origin)
    return Alone(place / "copied", place / "images", place)
