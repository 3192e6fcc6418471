"""What all tests share: folders of their own, small photos, and the real data where there is some."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# the same examples each time, on machines of any speed, and no files left behind
settings.register_profile("ablate", derandomize=True, deadline=None, database=None)
settings.load_profile("ablate")

COLOURS = {"cat": (200, 60, 60), "dog": (60, 180, 60), "fox": (60, 60, 200)}


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes what belongs to the person who runs it."""
    for name in list(os.environ):
        ours = name.startswith("ABLATE_") and name != "ABLATE_TEST_DATA"
        if ours or name in ("CASSAVA_DATA", "HAM10000_DATA"):
            monkeypatch.delenv(name)
    for name in ("cache", "out", "store"):
        monkeypatch.setenv(f"ABLATE_{name.upper()}", str(tmp_path / f".{name}"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with 24 noisy photos in the folders cat, dog and fox, and table.csv.

    Every class has its colour, JPEG and PNG in turn, landscape and portrait. Two images belong to a patient;
    of every four patients the last is for validation.
    """
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    rows = []
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(8):
            shape = (36, 48, 3) if i % 3 else (44, 32, 3)
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, shape), 0, 255).astype(np.uint8)
            path = f"{name}/{i}.{'png' if i % 2 else 'jpg'}"
            Image.fromarray(pixels).save(root / path)
            rows.append([path, name, i // 2 == 3, f"{name}-{i // 2}"])
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label", "is_val", "patient"], *rows])
    return root


@pytest.fixture
def cassava() -> Path:
    """The real cassava photos."""
    if "ABLATE_TEST_DATA" not in os.environ:
        pytest.skip("ABLATE_TEST_DATA is not set")
    return Path(os.environ["ABLATE_TEST_DATA"]) / "cassava"
