"""What all tests share: folders of their own, small photos, and the real data where there is some."""

from __future__ import annotations

import csv
import os
from pathlib import Path

# before anything is imported that reads them: the tests that run side by side have a core each, and threads
# that wait for one spin
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"}

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# the same examples each time, on machines of any speed, and no files left behind
settings.register_profile("ablate", derandomize=True, deadline=None, database=None)
settings.load_profile("ablate")

# for fixtures of whole modules too, which come before those of a test
os.environ["WANDB_MODE"] = "disabled"

LONGEST = (
    "test_resume",
    "test_execute",
    "test_notebooks",
    "test_kill",
    "test_faults",
    "test_exactly_once",
    "test_ray_study",
    "test_interrupts",
    "test_until_decided",
    "test_help",
)

COLOURS = {"cat": (200, 60, 60), "dog": (60, 180, 60), "fox": (60, 60, 200)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take longest, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes what belongs to the person who runs it, nor the folder where it is run."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        ours = name.startswith("ABLATE_") and name != "ABLATE_TEST_DATA"
        if ours or name in ("CASSAVA_DATA", "HAM10000_DATA", "LANDMARK_DATA"):
            monkeypatch.delenv(name)
    for name in ("cache", "out", "store"):
        monkeypatch.setenv(f"ABLATE_{name.upper()}", str(tmp_path / f".{name}"))
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "disabled")


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
def more_photos(photos: Path) -> Path:
    """The same photos and three more in more/, with more.csv.

    anew.jpg and mirrored.png look like cat/7.png, which is for validation; new.png looks like none.
    """
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)
    image.save(photos / "cat" / "7.png")
    (photos / "more").mkdir()
    image.save(photos / "more" / "anew.jpg", quality=70)
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / "more" / "mirrored.png")
    other = Image.fromarray(noise[::-1, :, 0]).resize((48, 36), Image.Resampling.BICUBIC)
    other.save(photos / "more" / "new.png")
    rows = [f"{name},cat,of {name}" for name in ("anew.jpg", "mirrored.png", "new.png")]
    (photos / "more.csv").write_text("\n".join(["image,label,patient", *rows]))
    return photos


@pytest.fixture
def cassava() -> Path:
    """The real cassava photos."""
    if "ABLATE_TEST_DATA" not in os.environ:
        pytest.skip("ABLATE_TEST_DATA is not set")
    return Path(os.environ["ABLATE_TEST_DATA"]) / "cassava"
