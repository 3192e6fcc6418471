"""Short phases on small noisy photos, on any device: what their losses, validations and predictions are."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from stages import Runner, tiny_recipe

TRAIN, VALID, BATCH, STEPS = 80, 24, 16, 20
PHASES = [{"name": "tune", "epochs": 4, "lr": 1e-3}]
"""20 steps; the second of an epoch's validation batches is half a one."""


@dataclass
class Trained:
    """What came of a phase, or of several: figures of all steps, epochs and validation items.

    Args:
        losses: Shape (steps,).
        history: A row per epoch.
        probabilities: Shape (n, K).
    """

    losses: np.ndarray
    history: pd.DataFrame
    probabilities: np.ndarray


def noisy_photos(root: Path) -> Path:
    """A folder of 80 photos to train on and 24 to validate on, of three classes, each brighter than the last.

    No pixel is like the next one, so that no maximum is taken twice: which of two goes on is the device's to
    choose.
    """
    root.mkdir()
    rng, rows = np.random.default_rng(0), []
    for number in range(TRAIN + VALID):
        valid, label = number >= TRAIN, number % 3
        colour = 40 + (number - TRAIN * valid) * 160 / (VALID if valid else TRAIN) + 20 * np.eye(3)[label]
        pixels = np.clip(colour + rng.normal(0, 25, (36, 36, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        rows.append([f"{number:03}.png", ("cat", "dog", "fox")[label], valid, number])
    with (root / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label", "is_val", "patient"], *rows])
    return root


def short_run(
    photos: Path, root: Path, device: str, on: Mapping[str, dict[str, Any]], **fields: Any
) -> Runner:
    """A run of 20 steps of `test_tiny` with some techniques on; no dropout, which devices draw by themselves.

    Args:
        photos: Those of `noisy_photos`.
        root: Where stages write.
        device: Its name.
        on: Options by technique.
        fields: Further fields of the recipe, dots as `__`.
    """
    values = {
        "model__arch": "test_tiny",
        "model__head": {"pool": "concat", "hidden": [16]},
        "batch_size": BATCH,
        "phases": PHASES,
        "techniques": dict(on),
        "study__baseline": list(on),
        "study__vary": ["tta"],
        "study__seeds": 1,
    }
    return Runner(tiny_recipe(photos, **(values | fields)), root, device=device)


def results(made: Runner) -> Trained:
    """Train and predict as far as that has not been done; what came of it."""
    probabilities = made.predictions().filter(regex=r"^p_").to_numpy()
    folders = [made.folder(key) for key in made.trial().fits]
    losses, history = (
        pd.concat([pd.read_csv(folder / name) for folder in folders]) for name in ("steps.csv", "history.csv")
    )
    return Trained(losses["loss"].to_numpy(), history, probabilities)
